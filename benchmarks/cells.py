"""One step of a search of cells: ours against the authors' second-order step (original_cells.py), Att-DARTS's supernet.

The steps take turns in one process; "faster" is the first row's time over a row's own, the median over rounds, with
quartiles. A step is the architecture's on one batch and the weights' on another. Memory is what a process of its own
needs at most above what it had before it built the supernet (of resident memory, two steps; on a GPU of tensors).

    python benchmarks/cells.py --repeats 8
    python benchmarks/cells.py --profile
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from original_cells import Batch, OriginalSupernet, search_step_original
from torch import nn
from torch.nn.functional import cross_entropy

from ean_core.cells import CellSupernet
from ean_core.memory import keep_freed_memory
from ean_core.search.bilevel import search_step
from ean_core.terminal import print_table
from ean_core.timing import interleave, ratio, synchronizer

# What a row of the table is: whose step, its order, options of the supernet, whether it is compiled.
ROWS: dict[str, tuple[str, int, dict[str, Any], bool]] = {
    "original, second order": ("original", 2, {}, False),
    "original, first order": ("original", 1, {}, False),
    "ours, second order": ("ours", 2, {}, False),
    "ours, first order": ("ours", 1, {}, False),
    "ours, first order, partial=4": ("ours", 1, {"partial": 4}, False),
    "ours, first order, no attention": ("ours", 1, {"attentions": ("none",)}, False),
    "ours, first order, compiled": ("ours", 1, {}, True),
}
LR, CLIP = 0.025, 5.0
TOP = 15


def optimizers(
    weights: list[nn.Parameter], architecture: list[nn.Parameter]
) -> tuple[torch.optim.SGD, torch.optim.Adam]:
    """Those of the paper."""
    sgd = torch.optim.SGD(weights, LR, momentum=0.9, weight_decay=3e-4)
    return sgd, torch.optim.Adam(architecture, 3e-4, betas=(0.5, 0.999), weight_decay=1e-3)


def batches(args: argparse.Namespace) -> tuple[Batch, Batch]:
    """For the weights, and for the architecture."""
    shape = (args.batch, 3, args.size, args.size)
    found = [(torch.randn(shape), torch.randint(10, (args.batch,))) for _ in range(2)]
    (x, y), (u, v) = ((images.to(args.device), labels.to(args.device)) for images, labels in found)
    return (x, y), (u, v)


class Ours:
    """Our supernet in training.

    Args:
        args: The command line's.
        options: Of the supernet.
        compiled: Whether ``torch.compile`` compiles it.
    """

    def __init__(self, args: argparse.Namespace, options: dict[str, Any], compiled: bool = False) -> None:
        self.model = CellSupernet(args.channels, layers=args.layers, image_size=args.size, **options).to(args.device)
        self.architecture = self.model.architecture_parameters()
        own = {id(parameter) for parameter in self.architecture}
        self.weights = [parameter for parameter in self.model.parameters() if id(parameter) not in own]
        self.sgd, self.adam = optimizers(self.weights, self.architecture)
        self.call: Callable[..., Any] = torch.compile(self.model) if compiled else self.model
        self.train, self.val = batches(args)

    def loss(self, batch: Batch) -> torch.Tensor:
        """On a batch."""
        return cross_entropy(self.call(batch[0]), batch[1])

    def step(self, order: int) -> None:
        """One step of the search."""
        losses = (partial(self.loss, self.train), partial(self.loss, self.val))
        search_step(self.model, self.architecture, self.sgd, self.adam, *losses, clip=CLIP, order=order)

    def phases(self) -> Iterator[str]:
        """The same step at first order, one part at a time; yields what it has just done."""
        val = self.loss(self.val)
        yield "architecture: forward"
        slopes = torch.autograd.grad(val, self.architecture)
        yield "architecture: backward"
        for parameter, slope in zip(self.architecture, slopes, strict=True):
            parameter.grad = slope
        self.adam.step()
        yield "architecture: update"
        for parameter in self.architecture:
            parameter.requires_grad_(False)
        train = self.loss(self.train)
        yield "weights: forward"
        slopes = torch.autograd.grad(train, self.weights, allow_unused=True)
        yield "weights: backward"
        for parameter, slope in zip(self.weights, slopes, strict=True):
            parameter.grad = slope
        nn.utils.clip_grad_norm_(self.weights, CLIP)
        self.sgd.step()
        for parameter in self.architecture:
            parameter.requires_grad_(True)
        yield "weights: update"


def build(name: str, args: argparse.Namespace) -> Callable[[], Any]:
    """A function that makes one step of a row."""
    whose, order, options, compiled = ROWS[name]
    torch.manual_seed(0)
    if whose == "ours":
        return partial(Ours(args, options, compiled).step, order)
    model = OriginalSupernet(args.channels, args.layers, image_size=args.size, **options).to(args.device)
    sgd, adam = optimizers(model.weights(), model.architecture())
    return partial(search_step_original, model, sgd, adam, *batches(args), LR, order)


def resident(what: str) -> float:
    """Megabytes of this process: ``VmRSS``, at present, or ``VmHWM``, at most so far."""
    with open("/proc/self/status") as file:
        return next(float(line.split()[1]) / 1024 for line in file if line.startswith(what))


def peak(name: str, args: argparse.Namespace) -> float:
    """Megabytes that two steps of a row take at most."""
    before = resident("VmRSS")
    step = build(name, args)
    step()
    step()
    if args.device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resident("VmHWM") - before


def measure(args: argparse.Namespace) -> None:
    """The table of times and memory."""
    names = [name for name in ROWS if name in (args.rows or ROWS)]
    steps: dict[str, Callable[[], Any]] = {}
    for name in names:
        if ROWS[name][-1] and not args.compile:
            continue
        steps[name] = build(name, args)
        try:
            if ROWS[name][-1]:
                steps[name]()
        except Exception as error:  # torch.compile raises what its parts raise
            print(f"skipped '{name}': {type(error).__name__}: {str(error).splitlines()[0]}")
            del steps[name]
    times = interleave(steps, args.repeats, args.warmup, synchronizer(torch.device(args.device)))
    memory: dict[str, float] = {}
    if args.memory:
        context = multiprocessing.get_context("spawn")
        for name in steps:
            with context.Pool(1) as pool:
                memory[name] = pool.apply(peak, (name, args))
    rows = {}
    for name in steps:
        found = ratio(times[next(iter(times))], times[name])
        rows[name] = {
            "s": f"{statistics.median(times[name]):.3f}",
            "faster": f"{found.median:.2f}",
            "quartiles": f"{found.low:.2f}..{found.high:.2f}",
            "peak, MB": f"{memory[name]:.0f}" if name in memory else "-",
        }
    print_table(title(args), rows)


def profile(args: argparse.Namespace) -> None:
    """Where the time of our first-order step goes: its parts, then the operators."""
    torch.manual_seed(0)
    ours, wait = Ours(args, {"partial": args.partial}), synchronizer(torch.device(args.device))
    seconds: dict[str, list[float]] = {}
    for i in range(args.warmup + args.repeats):
        start = time.perf_counter()
        for part in ours.phases():
            wait()
            now = time.perf_counter()
            if i >= args.warmup:
                seconds.setdefault(part, []).append(now - start)
            start = now
    medians = {part: statistics.median(values) for part, values in seconds.items()}
    total = sum(medians.values())
    rows = {part: {"ms": 1e3 * value, "share, %": 100 * value / total} for part, value in medians.items()}
    print_table(f"{title(args)}, partial={args.partial}: ours, first order", rows)

    with torch.profiler.profile() as recorded:
        ours.step(1)
        wait()
    on = "self_device_time_total" if args.device == "cuda" else "self_cpu_time_total"
    events = sorted(recorded.key_averages(), key=lambda event: -getattr(event, on))
    spent = sum(getattr(event, on) for event in events)
    rows = {}
    for event in events[:TOP]:
        own = getattr(event, on)
        rows[event.key[:60]] = {"calls": event.count, "ms": own / 1e3, "share, %": 100 * own / spent}
    print_table("by operator, without what they call", rows)


def title(args: argparse.Namespace) -> str:
    """What is measured."""
    where = "a GPU" if args.device == "cuda" else f"{torch.get_num_threads()} thread(s)"
    return f"a search step, {args.layers} cells, C={args.channels}, batch {args.batch}, {args.size} px, {where}"


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), metavar="ROW", help=f"of: {'; '.join(ROWS)}")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5, help="rounds that count")
    parser.add_argument("--warmup", type=int, default=1, help="rounds before them")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--compile", action="store_true", help="also the compiled row: minutes and more")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="do not measure memory")
    parser.add_argument("--keep-memory", action="store_true", help="call ean_core.memory.keep_freed_memory() first")
    parser.add_argument("--profile", action="store_true", help="instead: where the time of our step goes")
    parser.add_argument("--partial", type=int, default=1, help="with --profile: of the supernet")
    args = parser.parse_args()
    if args.keep_memory:
        keep_freed_memory()
    (profile if args.profile else measure)(args)


if __name__ == "__main__":
    main()
