"""How time and memory grow: with the image, the depth, the batch, the connected blocks, and a search step's schemes.

Prints a table for each and draws OUT, by default docs/images/benchmark_growth.png. All networks have random weights.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from ean_core import ConnectionScheme, EANCifarResNet, EANResNet
from ean_core.analysis.complexity import peak_bytes
from ean_core.deploy import fuse
from ean_core.figures import save_figure
from ean_core.search.evaluator import Evaluator
from ean_core.terminal import print_table
from ean_core.timing import interleave

SE = {"type": "SE", "reduction": 16}
Curve = tuple[list[float], list[float], list[float]]  # sizes, milliseconds, megabytes


def images(batch: int, size: int) -> torch.Tensor:
    """Random ones."""
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def sweep(title: str, cases: dict[float, Callable[[], Any]], repeats: int, memory: bool = True) -> Curve:
    """Time calls in turn and print them."""
    with torch.inference_mode():
        times = interleave({str(key): call for key, call in cases.items()}, repeats, warmup=1)
    spent = [1e3 * statistics.median(times[str(key)]) for key in cases]
    bytes_ = [peak_bytes(call) / 1e6 if memory else 0.0 for call in cases.values()]
    print_table(
        title,
        {str(k): {"ms": t, "peak, MB": b if memory else "-"} for k, t, b in zip(cases, spent, bytes_, strict=True)},
    )
    return list(cases), spent, bytes_


def both(net: Any) -> tuple[Any, Any]:
    """Unfused and fused."""
    return net.eval(), fuse(net)


def by_size(sizes: Sequence[int], repeats: int) -> tuple[Curve, Curve]:
    """EAN-SE ResNet-50, one image."""
    plain, fused = both(EANResNet(attention=SE, scheme="authors/imagenet-se"))
    title = "EAN-SE ResNet-50, one image, by its side"
    first = sweep(f"{title}, unfused", {s: partial(plain, images(1, s)) for s in sizes}, repeats)
    return first, sweep(f"{title}, fused", {s: partial(fused, images(1, s)) for s in sizes}, repeats)


def by_depth(repeats: int) -> tuple[Curve, Curve]:
    """Share-full SE, fused: ResNets at 224 px, batch 2, and CIFAR's at 32 px, batch 20."""
    large, small = images(2, 224), images(20, 32)
    nets = {d: partial(fuse(EANResNet(d, attention=SE)), large) for d in (50, 101, 152)}
    cifar = {d: partial(fuse(EANCifarResNet(d, attention=SE)), small) for d in (29, 56, 83, 110, 137, 164)}
    first = sweep("Share-full SE ResNet, fused, batch 2, 224 px, by depth", nets, repeats)
    return first, sweep("Share-full SE CIFAR ResNet, fused, batch 20, by depth", cifar, repeats)


def by_batch(repeats: int) -> tuple[Curve, Curve]:
    """EAN-SE ResNet-164."""
    plain, fused = both(EANCifarResNet(attention=SE, scheme="paper/cifar100-se-a"))
    batches = (1, 4, 8, 16, 32, 64)
    first = sweep("EAN-SE ResNet-164, unfused, by batch", {b: partial(plain, images(b, 32)) for b in batches}, repeats)
    return first, sweep(
        "EAN-SE ResNet-164, fused, by batch", {b: partial(fused, images(b, 32)) for b in batches}, repeats
    )


def by_connections(repeats: int) -> tuple[Curve, Curve]:
    """ResNet-164 whose connections are spread evenly over the blocks."""
    net = EANCifarResNet(attention=SE)
    x, numbers = images(20, 32), (0, 9, 18, 27, 36, 45, 54)
    curves = []
    for way, model in zip(("unfused", "fused"), both(net), strict=True):

        def run(scheme: ConnectionScheme, model: Any = model) -> Any:
            model.set_scheme(scheme)
            return model(x)

        bits = {n: "".join("01"[(i + 1) * n // 54 > i * n // 54] for i in range(54)) for n in numbers}
        cases = {n: partial(run, ConnectionScheme.parse(text, net.blocks)) for n, text in bits.items()}
        curves.append(sweep(f"SE ResNet-164, {way}, batch 20, by connected blocks", cases, repeats, memory=False))
    return curves[0], curves[1]


def by_schemes(repeats: int) -> Curve:
    """A search's evaluator on 20 images: different random schemes of one ResNet-56 at once."""
    net = EANCifarResNet(56, attention=SE)
    evaluate = Evaluator(
        net, head=lambda outs: outs[-1].mean((2, 3)), batches=[(images(20, 32), torch.zeros(20, dtype=torch.int64))]
    )
    draw = torch.Generator().manual_seed(0)
    schemes = [ConnectionScheme.random(net.blocks, 0.5, draw) for _ in range(32)]
    cases = {n: partial(evaluate, schemes[:n]) for n in (1, 2, 4, 8, 16, 32)}
    return sweep("evaluator, SE ResNet-56, batch 20, by schemes at once", cases, repeats, memory=False)


def line(curve: Curve) -> tuple[float, float, float]:
    """Intercept, slope, and the largest residual in % of the fitted value."""
    x, y = np.array(curve[0], float), np.array(curve[1])
    slope, intercept = np.polyfit(x, y, 1)
    return intercept, slope, float(100 * np.abs(y / (intercept + slope * x) - 1).max())


def draw(path: Path, panels: Sequence[tuple[str, str, dict[str, Curve], bool]]) -> None:
    """A panel a sweep; where ``fit`` is set, with its line."""
    figure = Figure(figsize=(12, 7.5), layout="constrained")
    axes = figure.subplots(2, 3).flatten()
    for axis, (title, label, curves, fit) in zip(axes, panels, strict=False):
        for i, (name, curve) in enumerate(curves.items()):
            colour = ("#1f5fa8", "#d9742b")[i]
            if fit:
                a, b, off = line(curve)
                name = f"{name}: {a:.0f} + {b:.2f} n ms, residual <= {off:.1f} %"
                axis.plot(curve[0], a + b * np.array(curve[0]), color=colour, linewidth=1, alpha=0.6)
            axis.plot(curve[0], curve[1], "o" if fit else "o-", color=colour, markersize=4, label=name)
        axis.set(title=title, xlabel=label, ylabel="milliseconds")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.set_ylim(top=1.3 * max(max(curve[1]) for curve in curves.values()))  # room for the legend
        axis.legend(fontsize=8, loc="upper left")
    memory = axes[len(panels)]
    for (name, curve), colour in zip(panels[0][2].items(), ("#1f5fa8", "#d9742b"), strict=True):
        memory.plot(curve[0], curve[2], "o-", color=colour, markersize=4, label=name)
    memory.set(title="memory by image size", xlabel="side, pixels", ylabel="peak of the activations, MB")
    memory.grid(alpha=0.3)
    memory.legend(fontsize=8)
    save_figure(figure, path, dpi=100)


def main() -> None:
    """Measure and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/images/benchmark_growth.png"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 512, 1024, 1536, 2048], help="of the images")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    args = parser.parse_args()
    torch.manual_seed(0)
    names = ("unfused", "fused")
    connections = dict(zip(names, by_connections(args.repeats), strict=True))
    depths = dict(zip(("ResNet, 224 px, batch 2", "CIFAR ResNet, batch 20"), by_depth(args.repeats), strict=True))
    batches = dict(zip(names, by_batch(args.repeats), strict=True))
    schemes = {"evaluator": by_schemes(args.repeats)}
    sizes = dict(zip(names, by_size(args.sizes, max(2, args.repeats // 2)), strict=True))
    for name, curve in (*connections.items(), *batches.items(), *schemes.items()):
        a, b, off = line(curve)
        print(f"{name}: {a:.1f} ms + {b:.3f} ms each, largest residual {off:.1f} %")
    panels = [
        ("EAN-SE ResNet-50, one image", "side, pixels", sizes, False),
        ("Share-full SE, fused", "depth", depths, False),
        ("EAN-SE ResNet-164", "batch", batches, True),
        ("SE ResNet-164, batch 20", "connected blocks", connections, True),
        ("evaluator, SE ResNet-56, batch 20", "schemes a step", schemes, True),
    ]
    draw(args.out, panels)
    print(f"picture     {args.out}")


if __name__ == "__main__":
    main()
