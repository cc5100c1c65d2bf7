"""Images a second that reach the network, normalised: the batched pipeline against per-sample transforms.

Both run in one process on the same images of CIFAR's size, alternately; a figure is the median over the rounds, beside
the lowest and the highest round. The ordinary pipeline is torchvision's own: a PIL image, RandomCrop(32, padding=4),
RandomHorizontalFlip, ToTensor and Normalize for every sample, in the workers of a DataLoader.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from functools import partial

import torch
from mmengine.runner import Runner
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from classification.classifier import ImagePreprocessor
from classification.datasets import MemoryDataset, collate
from ean_core.timing import interleave, synchronizer

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


class PerSample(Dataset[tuple[torch.Tensor, int]]):
    """What ``torchvision.datasets.CIFAR100`` does for one sample."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.data, self.targets = images.numpy(), labels.tolist()
        steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        self.transform = transforms.Compose([*steps, transforms.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.data[index])), self.targets[index]


def ordinary_epoch(loader: DataLoader, device: torch.device) -> None:
    """One pass of the ordinary pipeline."""
    for images, labels in loader:
        images.to(device), labels.to(device)


def batched_epoch(loader: DataLoader, prepare: ImagePreprocessor) -> None:
    """One pass of ours."""
    for batch in loader:
        prepare(batch, training=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000, help="images in a pass")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="of the ordinary pipeline")
    args = parser.parse_args(argv)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = torch.randint(0, 256, (args.images, 32, 32, 3), dtype=torch.uint8)
    labels = torch.randint(0, 100, (args.images,))
    epochs: dict[str, Callable[[], None]] = {}
    for workers in args.workers:
        loader = DataLoader(
            PerSample(images, labels),
            args.batch_size,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,  # starting workers is not counted
        )
        epochs[f"per sample, {workers} workers"] = partial(ordinary_epoch, loader, device)
    prepare = ImagePreprocessor([255 * m for m in MEAN], std=[255 * s for s in STD], padding=4, flip=0.5).to(device)
    config = {
        "dataset": MemoryDataset(images, labels, ("",) * 100),
        "sampler": {"type": "DefaultSampler", "shuffle": True},
        "batch_size": args.batch_size,
        "num_workers": 0,
        "collate_fn": {"type": collate},
    }
    epochs["batched, in memory"] = partial(batched_epoch, Runner.build_dataloader(config, seed=0), prepare)

    times = interleave(epochs, args.rounds, warmup=1, synchronize=synchronizer(device))
    rates = {name: [args.images / seconds for seconds in values] for name, values in times.items()}
    best = max(statistics.median(rates[name]) for name in rates if name.startswith("per sample"))
    table = Table("pipeline", "images/s", "lowest", "highest", "against the best ordinary")
    for name, values in rates.items():
        median = statistics.median(values)
        table.add_row(name, f"{median:,.0f}", f"{min(values):,.0f}", f"{max(values):,.0f}", f"{median / best:.1f}x")
    console = Console(width=110)
    console.print(
        f"{args.images:,} images of 32x32, batch {args.batch_size}, {args.rounds} rounds, {device}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    console.print(table)


if __name__ == "__main__":
    main()
