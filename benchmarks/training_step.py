"""Time of a training step: EAN-SE ResNet-50 against timm's seresnet50, a supernet's against a Share-full network's.

Batch 16 of 160 px, SGD with momentum, float32, the networks in turn; medians, and median and quartiles of the ratio,
round by round, to the network in the last column. The supernet draws a Bernoulli(0.5) scheme for every step.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable

import timm
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ean_core import EANResNet
from ean_core.memory import keep_freed_memory
from ean_core.search.supernet import sample_scheme
from ean_core.terminal import print_table
from ean_core.timing import interleave, ratio

SE = {"type": "SE", "reduction": 16}


class Classifier(nn.Module):
    """A backbone of ours, pooling, a linear layer."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.backbone = EANResNet(**options)  # type: ignore[arg-type]
        self.fc = nn.Linear(2048, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> (N, 1000)."""
        return self.fc(self.backbone(x)[-1].mean((2, 3)))


def step(net: nn.Module, x: torch.Tensor, y: torch.Tensor, before: Callable[[], None]) -> Callable[[], None]:
    """A function that makes one training step."""
    optimizer = torch.optim.SGD(net.train().parameters(), 0.01, momentum=0.9, weight_decay=1e-4)

    def run() -> None:
        before()
        optimizer.zero_grad()
        cross_entropy(net(x), y).backward()
        optimizer.step()

    return run


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10, help="rounds")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--keep-memory", action="store_true", help="as tools/train.py does it")
    args = parser.parse_args()
    if args.keep_memory:
        keep_freed_memory()
    torch.manual_seed(0)
    x, y = torch.randn(args.batch, 3, args.size, args.size), torch.randint(1000, (args.batch,))
    last = x.to(memory_format=torch.channels_last)
    peer, ean = timm.create_model("seresnet50"), {"attention": SE, "scheme": "authors/imagenet-se"}
    share, supernet = Classifier(attention=SE), Classifier(attention=SE)
    iterations = itertools.count(1)

    def draw() -> None:
        supernet.backbone.set_scheme(sample_scheme(supernet.backbone.blocks, 0, next(iterations)))

    def nothing() -> None:
        pass

    steps = {
        "timm seresnet50": (step(peer, x, y, nothing), "timm seresnet50"),
        "EAN SE": (step(Classifier(**ean), x, y, nothing), "timm seresnet50"),
        "EAN SE, channels-last": (
            step(Classifier(**ean).to(memory_format=torch.channels_last), last, y, nothing),
            "timm seresnet50",
        ),
        "share SE": (step(share, x, y, nothing), "timm seresnet50"),
        "supernet SE": (step(supernet, x, y, draw), "share SE"),
    }
    times = interleave({name: run for name, (run, _) in steps.items()}, args.repeats, warmup=2)
    rows = {}
    for name, (_, reference) in steps.items():
        found = ratio(times[name], times[reference])
        quartiles = f"{found.low:.3f}..{found.high:.3f}"
        rows[name] = {"ms": 1e3 * statistics.median(times[name]), "ratio": f"{found.median:.3f}"}
        rows[name] |= {"quartiles": quartiles, "to": reference}
    print_table(f"training step, ResNet-50, batch {args.batch}, {args.size} px", rows)


if __name__ == "__main__":
    main()
