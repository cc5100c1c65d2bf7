"""What plugging itself costs: a plugged torchvision ResNet-50 against EANResNet, hooks that do nothing, finding points.

Networks take turns in one process. Ratios are medians over rounds, with quartiles.

    forward     batch 8, 224 px: plugged against EANResNet, and scheme "none" against the bare network, eager, compiled
    training    a step of batch 8, 160 px: the same
    points      find_points on networks of torchvision and timm: seconds
    walk        many schemes at once against one forward pass for each
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import timm
import torch
import torchvision
from torch import nn

from ean_core import ConnectionScheme, EANResNet
from ean_core.memory import keep_freed_memory
from ean_core.plug import find_points, forward_schemes, plug
from ean_core.terminal import print_table
from ean_core.timing import interleave, ratio

SE = {"type": "SE", "reduction": 16}
NETWORKS = ("torchvision:resnet50", "torchvision:regnet_y_400mf", "torchvision:convnext_tiny",
            "torchvision:efficientnet_b0", "timm:resnet50", "timm:convnext_nano", "timm:hrnet_w18_small",
            "timm:nfnet_f0", "timm:mobilenetv4_conv_small")  # fmt: skip


def bare() -> nn.Module:
    """ResNet-50 of torchvision up to its feature map, as ours."""
    network = torchvision.models.resnet50()
    network.avgpool = network.fc = nn.Identity()
    return network


def networks() -> dict[str, nn.Module]:
    """Bare, plugged with nothing connected, plugged, and ours."""
    points = find_points(bare(), torch.randn(1, 3, 64, 64))
    none = plug(bare(), SE, points)
    none.plugged.set_scheme("none")
    return {
        "bare": bare(),
        "plugged, none": none,
        "plugged": plug(bare(), SE, points),
        "EANResNet": EANResNet(50, attention=SE),
    }


AGAINST = {"bare": "bare", "plugged, none": "bare", "plugged": "EANResNet", "EANResNet": "EANResNet"}


def measure(title: str, calls: Mapping[str, Callable[[], Any]], repeats: int) -> None:
    """Time calls in turn and print medians and ratios."""
    times = interleave(calls, repeats, warmup=3)
    rows = {}
    for name in calls:
        found = ratio(times[name], times[AGAINST[name]])
        rows[name] = {
            "ms": 1e3 * statistics.median(times[name]),
            "ratio": f"{found.median:.3f}",
            "quartiles": f"{found.low:.3f}..{found.high:.3f}",
            "to": AGAINST[name],
        }
    print_table(title, rows)


def forward(repeats: int) -> None:
    """Inference."""
    x = torch.randn(8, 3, 224, 224)
    nets = {name: net.eval() for name, net in networks().items()}
    with torch.inference_mode():
        measure("forward, batch 8, 224 px", {name: partial(net, x) for name, net in nets.items()}, repeats)
        compiled = {name: partial(torch.compile(net), x) for name, net in nets.items()}
        measure("forward, compiled", compiled, repeats)


def training(repeats: int) -> None:
    """Forward, backward and SGD."""
    x = torch.randn(8, 3, 160, 160)

    def step(network: Callable[..., Any], optimizer: torch.optim.Optimizer) -> None:
        out = network(x)
        loss = (out[-1] if isinstance(out, tuple) else out).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    nets = {name: net.train() for name, net in networks().items()}
    optimizers = {name: torch.optim.SGD(net.parameters(), 1e-3) for name, net in nets.items()}
    measure(
        "a training step, batch 8, 160 px", {n: partial(step, net, optimizers[n]) for n, net in nets.items()}, repeats
    )
    compiled = {name: torch.compile(net) for name, net in nets.items()}
    calls = {name: partial(step, net, optimizers[name]) for name, net in compiled.items()}
    measure("a training step, compiled", calls, repeats)


def points(repeats: int) -> None:
    """How long it takes to find them."""
    rows = {}
    for name in NETWORKS:
        library, _, model = name.partition(":")
        network = torchvision.models.get_model(model) if library == "torchvision" else timm.create_model(model)
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            found = find_points(network, torch.randn(1, 3, 224, 224))
            seconds.append(time.perf_counter() - start)
        rows[name] = {"points": len(found), "median, s": statistics.median(seconds), "largest, s": max(seconds)}
    print_table("find_points, 224 px", rows)


def walk(repeats: int) -> None:
    """The evaluator's way of computing many schemes."""
    x, rows = torch.randn(8, 3, 96, 96), {}
    plugged = networks()["plugged"].eval()
    ours = EANResNet(50, attention=SE).eval()
    for count in (4, 16, 64):
        schemes = [ConnectionScheme.random((3, 4, 6, 3), 0.5, torch.Generator().manual_seed(i)) for i in range(count)]

        def one_by_one(chosen: list[ConnectionScheme] = schemes) -> None:
            for scheme in chosen:
                plugged.plugged.set_scheme(scheme)
                plugged(x)

        calls = {
            "one by one": one_by_one,
            "plugged": lambda chosen=schemes: list(forward_schemes(plugged.plugged, x, chosen)),
            "EANResNet": lambda chosen=schemes: list(forward_schemes(ours, x, chosen)),
        }
        with torch.inference_mode():
            times = interleave(calls, repeats, warmup=1)
        for name in calls:
            found = ratio(times[name], times["one by one"])
            rows[f"{count} random schemes, {name}"] = {
                "ms": 1e3 * statistics.median(times[name]),
                "ratio": f"{found.median:.3f}",
                "quartiles": f"{found.low:.3f}..{found.high:.3f}",
            }
    print_table("many schemes of a ResNet-50, batch 8, 96 px", rows)


PARTS = {"forward": (forward, 20), "training": (training, 15), "points": (points, 3), "walk": (walk, 5)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=list(PARTS), help="all by default")
    parser.add_argument("--repeats", type=int, help="rounds")
    args = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    for part in args.parts:
        function, rounds = PARTS[part]
        function(args.repeats or rounds)
