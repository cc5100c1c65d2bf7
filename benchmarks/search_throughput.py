"""Schemes evaluated a second: the search's evaluator against a fresh DataLoader pass over PNG files for each scheme.

Both score the same schemes of one network, ours or a plugged one, on the same D_val (a folder of images, e.g. CIFAR as
PNGs), in one process, alternately. Every round has schemes of its own, drawn by fair coins and never met before; a
figure is the median over the rounds, beside the lowest and the highest. The plain way is that of the authors' code: for
every scheme a new DataLoader decodes, normalises and collates all images in its workers, and the network runs on each
batch without gradient. The evaluator decodes once, before (printed by itself), and shares what schemes have in common
in a pass ("3 a pass" is a step of the search with the authors' 3 schemes) and, where activations are kept, across
passes. As these gain with every step, the first round, which begins with nothing, has a column of its own. The
accuracies must be equal, those of folded and channels-last networks up to rounding.

At the end, where the time of a scheme goes: decoding, the network as it is, the fused network, and the evaluator.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import MODELS
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from classification.classifier import ImageClassifier
from classification.datasets import build_dataset
from classification.metric import SEARCH_METRIC
from ean_core.checkpoint import read_checkpoint
from ean_core.deploy import fuse
from ean_core.engine.cli import add_config_options, command, config_of, make_parser
from ean_core.errors import UserError
from ean_core.plug import find_pluggable
from ean_core.scheme import ConnectionScheme
from ean_core.search.evaluator import Evaluator
from ean_core.timing import interleave, synchronizer

Scores = list[float]
Way = Callable[[list[ConnectionScheme]], Scores]


class Files(Dataset[tuple[torch.Tensor, int]]):
    """What ``torchvision.datasets.ImageFolder`` does for one sample."""

    def __init__(self, paths: Sequence[Path], *, labels: Sequence[int], size: int, mean: Any, std: Any) -> None:
        self.paths, self.labels, self.size = paths, labels, (size, size)
        self.transform = v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32), v2.Normalize(mean, std)])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.paths[index]) as image:
            image = image.convert("RGB")
            if image.size != self.size:
                image = ImageOps.fit(image, self.size, Image.Resampling.BILINEAR)
            return self.transform(image), int(self.labels[index])


def plain(model: ImageClassifier, files: Files, batch_size: int, workers: int) -> Way:
    """A loader and a pass for each scheme."""
    device = next(model.parameters()).device

    def evaluate(schemes: list[ConnectionScheme]) -> Scores:
        found = []
        for scheme in schemes:
            find_pluggable(model).set_scheme(scheme)
            right = 0
            with torch.no_grad():
                for images, labels in DataLoader(files, batch_size, num_workers=workers):
                    right += int((model.logits(images.to(device)).argmax(1) == labels.to(device)).sum())
            found.append(100 * right / len(files))
        return found

    return evaluate


def ours(model: ImageClassifier, batches: Sequence[Any], a_pass: int, **options: Any) -> Way:
    """The evaluator, given so many schemes at once."""
    evaluator = Evaluator(
        find_pluggable(model),
        head=model.classify,
        batches=batches,
        preprocess=lambda x: model.data_preprocessor({"inputs": x})["inputs"],
        metric=SEARCH_METRIC,
        **options,
    )

    def evaluate(schemes: list[ConnectionScheme]) -> Scores:
        parts = [evaluator(schemes[i : i + a_pass]) for i in range(0, len(schemes), a_pass)]
        return [metrics["accuracy"] for part in parts for metrics in part]

    return evaluate


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = make_parser(__doc__ or "", "python benchmarks/search_throughput.py configs/search/se_cifar100.py")
    add_config_options(parser)
    parser.add_argument("--schemes", type=int, default=12, help="different random schemes in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="of the plain way's loaders")
    args = parser.parse_args(argv)
    cfg = config_of(args)
    if cfg.layout != "folder":
        raise UserError("the plain way reads image files: give a --data-root of class folders")
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = MODELS.build(cfg.model).to(device).eval()
    if cfg.search.supernet:
        model.load_state_dict(read_checkpoint(cfg.search.supernet)["state_dict"])
    common = {key: value for key, value in cfg.val_dataloader.dataset.items() if key not in ("type", "in_memory")}
    size = cfg.val_dataloader.batch_size
    source = build_dataset(**common, in_memory=False).source
    scale = {key: cfg.model.data_preprocessor[key] for key in ("mean", "std")}
    files = Files(source.items, labels=source.labels, size=cfg.image_size, **scale)
    start = time.perf_counter()
    data = build_dataset(**common)
    decoding = time.perf_counter() - start
    batches = [(data.images[i : i + size], data.labels[i : i + size].to(device)) for i in range(0, len(data), size)]

    ways = {
        f"plain, {args.workers} workers": plain(model, files, size, args.workers),
        "3 a pass, exact, nothing kept": ours(model, batches, 3, memory=0),
        "3 a pass, exact": ours(model, batches, 3),
        "3 a pass, fused, nothing kept": ours(model, batches, 3, fuse=True, memory=0),
        "3 a pass, fused (the default)": ours(model, batches, 3, fuse=True),
        "12 a pass, fused": ours(model, batches, 12, fuse=True),
    }
    blocks = find_pluggable(model).blocks
    generator = torch.Generator().manual_seed(0)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    worst = dict.fromkeys(ways, 0.0)
    met: set[ConnectionScheme] = set()
    for _ in range(args.rounds + 1):
        drawn: dict[ConnectionScheme, None] = {}
        while len(drawn) < args.schemes:
            scheme = ConnectionScheme.random(blocks, 0.5, generator)
            if scheme not in met:
                drawn[scheme] = None
        met |= set(drawn)
        expected: Scores = []
        for name, evaluate in ways.items():
            start = time.perf_counter()
            found = evaluate(list(drawn))
            rates[name].append(args.schemes / (time.perf_counter() - start))
            expected = expected or found
            worst[name] = max(worst[name], *(abs(a - b) for a, b in zip(found, expected, strict=True)))
            assert "exact" not in name or found == expected, f"{name}: {found} instead of {expected}"
            assert worst[name] <= 0.5, f"{name} differs by {worst[name]} points"

    base = statistics.median(rates[next(iter(ways))][1:])
    table = Table("", "schemes/s", "lowest", "highest", "against plain", "first round", "accuracies")
    for name, (first, *values) in rates.items():
        median = statistics.median(values)
        same = "the same" if not worst[name] else f"within {worst[name]:.2f} %"
        cells = (f"{median:.2f}", f"{min(values):.2f}", f"{max(values):.2f}", f"{median / base:.1f}x", f"{first:.2f}")
        table.add_row(name, *cells, same)
    console = Console(width=120)
    console.print(
        f"{cfg.model.backbone.get('network', cfg.model.backbone)}: {sum(blocks)} blocks, "
        f"{len(files):,} images of {cfg.image_size} px, batch {size}, {args.schemes} random schemes a round, "
        f"{args.rounds} rounds, {device}, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"decoding once took {decoding:.1f} s"
    )
    console.print(table)
    console.print(shares(model, files, batches, args.workers))


def shares(model: ImageClassifier, files: Files, batches: Sequence[Any], workers: int) -> str:
    """Milliseconds a scheme of what the plain way does, and of the fused network alone, medians of five in turn."""
    folded = fuse(model)
    ready = [model.data_preprocessor({"inputs": x})["inputs"] for x, _ in batches]

    def decode() -> None:
        for _ in DataLoader(files, len(batches[0][0]), num_workers=workers):
            pass

    @torch.inference_mode()
    def run(network: Any) -> None:
        for x in ready:
            network.logits(x)

    find_pluggable(model).set_scheme("full")
    calls = {"decoding": decode, "the network": partial(run, model), "the network fused": partial(run, folded)}
    times = interleave(calls, 5, warmup=1, synchronize=synchronizer(ready[0].device))
    parts = (f"{name} {1000 * statistics.median(values):.0f}" for name, values in times.items())
    return f"a scheme with all connected, ms: {', '.join(parts)}"


if __name__ == "__main__":
    main()
