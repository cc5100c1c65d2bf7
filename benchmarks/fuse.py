"""What `ean_core.deploy.fuse` buys: fused networks against unfused ones and against timm's seresnet50, in one run.

Every part runs its networks in turn and prints the median time of each, and the median and quartiles of its ratio,
round by round, to the network named in the last column. Peak: bytes of tensors alive at once during a forward pass.

    resnet164   batch 50, 32 px: Eq. 9 of SE, SGE and DIA, unfused and fused
    resnet50    batch 8, 224 px: the same for SE and SGE, against timm's seresnet50 as it comes
    rewrites    one rewrite after the other, ResNet-164
    operators   fused networks with and without each compiled loop, beside Inductor with freezing and max-autotune
    compile     ResNet-50, both sides through torch.compile, channels-last
    bf16        ResNet-50, bfloat16 against float32
    ceilings    how fast this machine multiplies and copies, and what the networks need
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from unittest.mock import patch

import timm
import torch
from mmcv.cnn.utils import fuse_conv_bn
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ean_core import EANCifarResNet, EANResNet
from ean_core.analysis.complexity import count_macs, peak_bytes
from ean_core.deploy import fuse, fused_stage, plain
from ean_core.deploy.cpu import operators
from ean_core.memory import keep_freed_memory
from ean_core.terminal import print_table
from ean_core.timing import interleave, ratio

SE, SGE, DIA = ({"type": "SE", "reduction": 16}, {"type": "SGE", "groups": 4}, {"type": "DIA", "reduction": 4})
CIFAR = partial(EANCifarResNet, depth=164)
BITS = "paper/cifar100-se-a"
Networks = Mapping[str, tuple[Callable[[], Any], str]]


def images(batch: int, size: int) -> torch.Tensor:
    """Random ones."""
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def measure(title: str, networks: Networks, repeats: int, memory: bool = True) -> None:
    """Time calls in turn; each comes with the name of the one it is compared with."""
    with torch.inference_mode():
        times = interleave({name: call for name, (call, _) in networks.items()}, repeats, warmup=3)
    rows: dict[str, Any] = {}
    for name, (call, reference) in networks.items():
        found = ratio(times[name], times[reference])
        rows[name] = {
            "ms": 1e3 * statistics.median(times[name]),
            "ratio": f"{found.median:.3f}",
            "quartiles": f"{found.low:.3f}..{found.high:.3f}",
            "peak, MB": peak_bytes(call) / 1e6 if memory else "-",
            "to": reference,
        }
    print_table(title, rows)


def increments(family: Callable[..., nn.Module], kinds: Mapping[str, tuple[dict, str]], x: torch.Tensor) -> Networks:
    """Unfused and fused: the plain network, and for each attention the full and the sparse scheme."""
    found: dict[str, tuple[Callable[[], Any], str]] = {}
    for way, change in (("unfused", lambda m: m.eval()), ("fused", fuse)):
        plain = f"{way} plain"
        found[plain] = (partial(change(family()), x), plain)
        for name, (attention, scheme) in kinds.items():
            found[f"{way} share {name}"] = (partial(change(family(attention=attention)), x), plain)
            found[f"{way} EAN {name}"] = (partial(change(family(attention=attention, scheme=scheme)), x), plain)
    return found


def compare(title: str, networks: Networks, repeats: int, peer: str = "unfused plain") -> None:
    """Unfused networks in turn, then fused ones, then what is faster than a peer: big tensors disturb small ones."""
    for way in ("unfused", "fused"):
        some = {name: item for name, item in networks.items() if name.startswith(f"{way} ")}
        measure(f"{title}, {way}", some, repeats)
    names = dict.fromkeys([peer, "unfused plain", "fused plain", "fused share SE", "fused EAN SE"])
    beside = {name: (networks[name][0], peer) for name in names}
    if peer != "unfused plain":
        beside["fused plain "] = (networks["fused plain"][0], "unfused plain")
    measure(f"{title}, beside {peer}", beside, repeats)


def resnet164(repeats: int) -> None:
    """Eq. 9 on CIFAR's network."""
    kinds = {"SE": (SE, BITS), "SGE": (SGE, BITS), "DIA": (DIA, BITS)}
    compare("ResNet-164, batch 50, 32 px", increments(CIFAR, kinds, images(50, 32)), repeats)


def resnet50(repeats: int) -> None:
    """Eq. 9 on ImageNet's network, and the peer."""
    x = images(8, 224)
    kinds = {"SE": (SE, "authors/imagenet-se"), "SGE": ({"type": "SGE", "groups": 64}, "paper/imagenet-sge")}
    networks = dict(increments(EANResNet, kinds, x))
    networks["timm seresnet50"] = (partial(timm.create_model("seresnet50").eval(), x), "")
    compare("ResNet-50, batch 8, 224 px", networks, repeats, peer="timm seresnet50")


def without_loops(network: nn.Module, x: torch.Tensor) -> Any:
    """A fused network as on a machine without a C++ compiler."""
    with patch.object(fused_stage, "available", lambda: False):
        return network(x)


def without(name: str, net: nn.Module, x: torch.Tensor) -> Callable[[], Any]:
    """The fused network with one operator's place taken by torch's operations."""
    if name == "perceptron":  # the attention's own layers
        with patch.object(fused_stage, "add_perceptron", lambda _: None):
            return partial(fuse(net), x)
    fused, instead = fuse(net), {"similarity_": similarity_, "remember": remember}[name]

    def call() -> Any:
        with patch.object(operators, name, instead):
            return fused(x)

    return call


def similarity_(*arguments: Any) -> torch.Tensor:
    """By torch, in the layout that the loops want for a mask."""
    return plain.similarity_(*arguments).contiguous(memory_format=torch.channels_last)


def remember(gates: torch.Tensor, cell: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """By torch."""
    i, f, g, o = gates.chunk(4, dim=1)
    cell = f * cell + i * (2 * g - 1)
    return o * torch.sigmoid(cell), cell


def rewrites(repeats: int) -> None:
    """Each rewrite on top of those before it."""
    x = images(50, 32)
    networks: dict[str, tuple[Callable[[], Any], str]] = {}
    for name, options in {
        "plain": {},
        "share SE": {"attention": SE},
        "EAN SE": {"attention": SE, "scheme": BITS},
        "share SGE": {"attention": SGE},
    }.items():
        net = CIFAR(**options).eval()
        folded, fused = fuse_conv_bn(copy.deepcopy(net)), fuse(net)
        steps = {"unfused": net, "+ folded": folded}
        steps["+ channels-last"] = copy.deepcopy(folded).to(memory_format=torch.channels_last)
        calls = {step: partial(model, x) for step, model in steps.items()}
        calls["+ attention before expansion"] = partial(without_loops, fused, x)
        calls["+ C++ loops (fused)"] = partial(fused, x)
        networks |= {f"{name} {step}": (call, f"{name} unfused") for step, call in calls.items()}
    measure("ResNet-164, batch 50: one rewrite after the other", networks, repeats)


def each_operator(repeats: int) -> None:
    """What each compiled loop buys, and what Inductor makes of the same networks."""
    sizes = {"ResNet-164, batch 50, 32 px": (CIFAR, images(50, 32), {"SE": SE, "SGE": SGE, "DIA": DIA})}
    sizes["ResNet-50, batch 8, 224 px"] = (EANResNet, images(8, 224), {"SE": SE, "SGE": {**SGE, "groups": 64}})
    for title, (family, x, attentions) in sizes.items():
        networks = {"plain": (partial(fuse(family()), x), "plain")}
        for name, attention in attentions.items():
            net = family(attention=attention).eval()
            fused = fuse(net)
            networks[f"share {name}"] = (partial(fused, x), "plain")
            for operator in {"SE": ["perceptron"], "SGE": ["similarity_"], "DIA": ["perceptron", "remember"]}[name]:
                networks[f"share {name} without {operator}"] = (without(operator, net, x), "plain")
            networks[f"share {name} without loops"] = (partial(without_loops, fused, x), "plain")
            networks[f"share {name} by Inductor"] = (partial(frozen(net), x), "plain")
        networks["plain by Inductor"] = (partial(frozen(family().eval()), x), "plain")
        measure(f"{title}: fused, one operator after the other", networks, repeats, memory=False)


def frozen(network: nn.Module) -> Callable[..., Any]:
    """Compiled with weights as constants, so that norms are folded and convolutions keep their weights as they like."""
    network = network.to(memory_format=torch.channels_last)
    return torch.compile(network, options={"freezing": True, "max_autotune": True})


def compiled(repeats: int) -> None:
    """Both sides compiled."""
    x = images(8, 224).to(memory_format=torch.channels_last)
    peer = timm.create_model("seresnet50").eval().to(memory_format=torch.channels_last)
    nets = {"timm seresnet50": peer, "fused plain": fuse(EANResNet())}
    nets["fused EAN SE"] = fuse(EANResNet(attention=SE, scheme="authors/imagenet-se"))
    networks = {name: (partial(torch.compile(net), x), "timm seresnet50") for name, net in nets.items()}
    networks["fused EAN SE, eager"] = (partial(nets["fused EAN SE"], x), "timm seresnet50")
    measure("ResNet-50, batch 8, 224 px, torch.compile", networks, repeats, memory=False)


def bf16(repeats: int) -> None:
    """Half the bytes, and the CPU's bfloat16 units where it has them."""
    x = images(8, 224)
    net = fuse(EANResNet(attention=SE, scheme="authors/imagenet-se"))
    half = copy.deepcopy(net).bfloat16()

    def autocast() -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return net(x)

    networks = {"float32": (partial(net, x), "float32"), "bfloat16": (partial(half, x.bfloat16()), "float32")}
    networks["autocast"] = (autocast, "float32")
    measure("fused EAN-SE ResNet-50, batch 8, 224 px", networks, repeats)


def ceilings(repeats: int) -> None:
    """Matrix products and in-place passes as fast as they go here, and what one forward pass needs of them."""
    a, b = torch.randn(2, 2048, 2048).unbind()
    product, tensor = torch.empty(2048, 2048), torch.randn(50 * 64 * 32 * 32)  # 13 MB, a stage's of ResNet-164
    image, filters = a.view(1, 2048, 64, 32).contiguous(memory_format=torch.channels_last), b[:, :, None, None]
    products = {"mm": lambda: torch.mm(a, b, out=product), "convolution": lambda: torch.conv2d(image, filters)}
    flops = 2 * 2048**3 / min(map(min, interleave(products, 5 * repeats).values()))
    speed = 8 * tensor.numel() / min(interleave({"": lambda: tensor.relu_()}, 5 * repeats)[""])  # read and write
    rows = {}
    for name, net, x in (
        ("ResNet-164, batch 50", CIFAR(), images(50, 32)),
        ("ResNet-50, batch 8", EANResNet(), images(8, 224)),
    ):
        fused = fuse(net)
        work, moved = 2 * count_macs(partial(net.eval(), x)), traffic(fused, x)
        rows[name] = {
            "GFLOP": work / 1e9,
            "GB": moved / 1e9,
            "ms of products": 1e3 * work / flops,
            "ms of passes": 1e3 * moved / speed,
            "measured ms": 1e3 * statistics.median(interleave({"": partial(fused, x)}, repeats)[""]),
        }
    print_table(f"ceilings: {flops / 1e9:.0f} GFLOP/s, {speed / 1e9:.1f} GB/s", rows)


def traffic(fused: Any, x: torch.Tensor) -> int:
    """Bytes that the convolutions of a fused network read and write, each tensor once."""
    total = 0

    def note(*tensors: torch.Tensor) -> None:
        nonlocal total
        total += sum(t.numel() * t.element_size() for t in tensors)

    class Note(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            output = func(*args, **(kwargs or {}))
            if func in (torch.conv2d, F.conv2d):
                note(args[0], output)
            return output

    with torch.inference_mode(), Note():
        without_loops(fused, x)
    return total


PARTS = {
    "resnet164": (resnet164, 12), "resnet50": (resnet50, 20), "rewrites": (rewrites, 8),
    "operators": (each_operator, 20), "compile": (compiled, 20), "bf16": (bf16, 15), "ceilings": (ceilings, 10),
}  # fmt: skip

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=list(PARTS), help="all by default")
    parser.add_argument("--repeats", type=int, help="rounds")
    parser.add_argument("--keep-memory", action="store_true", help="call ean_core.memory.keep_freed_memory() first")
    args = parser.parse_args()
    if args.keep_memory:
        keep_freed_memory()
    torch.manual_seed(0)
    for part in args.parts:
        function, rounds = PARTS[part]
        function(args.repeats or rounds)
