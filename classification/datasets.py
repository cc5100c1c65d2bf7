"""Data sets of labelled images: small ones in memory, fetched a batch at a time; large ones read file by file.

Both yield ``dict(inputs=uint8 (N, H, W, 3), labels=int64 (N,))`` after :func:`collate`; augmentation of small images
and normalisation happen a batch at a time on the device, in :class:`classification.classifier.ImagePreprocessor`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from mmengine.registry import DATASETS, FUNCTIONS
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch.utils.data import Dataset, default_collate
from torchvision.transforms import v2

from classification.sources import Source, read_source
from classification.splits import split_search
from ean_core.data_check import find_problems, unreadable
from ean_core.errors import UserError
from ean_core.images import read_image, to_rgb

Batch = dict[str, torch.Tensor]
SEARCH_PARTS = ("search_train", "search_val")


class MemoryDataset(Dataset[Batch]):
    """Images in memory. A ``DataLoader`` fetches a whole batch by one indexing operation (``__getitems__``).

    Args:
        images: uint8, shape (N, H, W, 3).
        labels: int64, shape (N,).
        classes: Class names.
    """

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, classes: Sequence[str]) -> None:
        self.images, self.labels = images, labels
        self.metainfo = {"classes": tuple(classes)}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        return {"inputs": self.images[index], "labels": self.labels[index]}

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        index = torch.as_tensor(indices)
        return {"inputs": self.images.index_select(0, index), "labels": self.labels.index_select(0, index)}


class FileDataset(Dataset[Batch]):
    """Images that are decoded, cropped and flipped one by one, in the workers of a ``DataLoader``.

    Args:
        source: Paths (or pixels) and labels.
        size: Side of the crops. Training crops are ``RandomResizedCrop`` and a flip; others the centre of the image
            scaled so that its shorter side is ``size * 256 / 224``, as for ImageNet.
        augment: Whether these are training images.
    """

    def __init__(self, source: Source, size: int, augment: bool) -> None:
        self.source = source
        self.metainfo = {"classes": source.classes}
        steps = [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()]
        self.transform = v2.Compose(steps if augment else [v2.Resize(size * 256 // 224), v2.CenterCrop(size)])

    def __len__(self) -> int:
        return len(self.source.labels)

    def __getitem__(self, index: int) -> Batch:
        item = self.source.items[index]
        image = _open(item)
        return {
            "inputs": torch.from_numpy(np.array(self.transform(image))),
            "labels": torch.tensor(self.source.labels[index]),
        }


@DATASETS.register_module()
def build_dataset(
    root: str,
    part: str,
    layout: str = "folder",
    image_size: int = 32,
    in_memory: bool = True,
    augment: bool = False,
    held_out: int = 100,
    split_seed: int | None = None,
    classes: Sequence[str] | None = None,
) -> MemoryDataset | FileDataset:
    """One part of a data set.

    Args:
        root: The data folder.
        part: ``"train"``, ``"val"`` or ``"test"``; or ``"search_train"`` and ``"search_val"``, the D_train and D_val of
            the search, which split the images of ``"train"`` and none else.
        layout: As in :mod:`classification.sources`.
        image_size: Height and width of what the network sees.
        in_memory: Decode everything once, scaled and cropped to ``image_size``, and keep it.
        augment: Training crops and flips, where images are not in memory.
        held_out: Images a class in ``"search_val"``.
        split_seed: Which; ``None``: the first.
        classes: For folders: these classes only, in this order.

    Raises:
        FileNotFoundError: There is no such data.
        UserError: The data cannot be used as asked; the message says why.
    """
    names = tuple(classes) if classes is not None else None
    base = "train" if part in SEARCH_PARTS else part
    source = load_images(root, layout, base, image_size, names) if in_memory else read_source(root, layout, base, names)
    if part in SEARCH_PARTS:
        split = split_search(source.labels, held_out, split_seed, source.classes)
        source = _select(source, split[SEARCH_PARTS.index(part)])
    if not in_memory:
        return FileDataset(source, image_size, augment)
    return MemoryDataset(torch.from_numpy(source.items), torch.from_numpy(source.labels), source.classes)


@FUNCTIONS.register_module(name="classification.collate")
def collate(batch: Batch | list[Batch]) -> Batch:
    """What ``__getitems__`` returns is a batch already; single items are stacked."""
    return batch if isinstance(batch, dict) else default_collate(batch)


@lru_cache(maxsize=3)
def load_images(root: str, layout: str, part: str, size: int, classes: tuple[str, ...] | None = None) -> Source:
    """Decode a part into one array, uint8 (N, size, size, 3); images of another size are scaled and centre-cropped.

    The last parts are remembered, so that checking the data, training and evaluation decode them once in a process.

    Raises:
        UserError: Images cannot be read; the message names the first.
    """
    source = read_source(root, layout, part, classes)
    if isinstance(source.items, np.ndarray) and source.items.shape[1:3] == (size, size):
        return source
    images = np.empty((len(source.labels), size, size, 3), np.uint8)

    def decode(index: int) -> None:
        image = _open(source.items[index])
        if image.size != (size, size):
            image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
        images[index] = np.asarray(image)

    _for_each(decode, source.items)
    return source._replace(items=images)


def check_files(source: Source) -> None:
    """Find images that cannot be decoded.

    A JPEG is decoded at an eighth of its size: its data are read whole, so the same damage is found, in less time.

    Raises:
        UserError: There are some; the message names the first.
    """

    def decode(index: int) -> None:
        with Image.open(source.items[index]) as image:
            image.draft("RGB", (image.width // 8, image.height // 8))
            to_rgb(image)

    _for_each(decode, source.items)


def _for_each(work: Callable[[int], None], items: NDArray[np.uint8] | list[Path]) -> None:
    """Call ``work(index)`` for every item in threads, and report the images it fails on in one line."""

    def attempt(index: int) -> Iterator[str]:
        try:
            work(index)
        except Exception as error:  # Pillow raises many types for damaged files; each is a finding
            yield f"'{items[index]}' ({unreadable(error)})"

    failed = find_problems(range(len(items)), attempt)
    if failed:
        what = "1 image" if len(failed) == 1 else f"{len(failed):,} images"
        raise UserError(
            f"{what} of {len(items):,} cannot be read, first {failed[0]}: it is truncated, no image, too large, "
            "or not yours to read; replace or remove it"
        )


def _open(item: Path | NDArray[np.uint8]) -> Image.Image:
    if isinstance(item, np.ndarray):
        return Image.fromarray(item)
    return Image.fromarray(read_image(item))


def _select(source: Source, index: NDArray[np.int64]) -> Source:
    items = source.items[index] if isinstance(source.items, np.ndarray) else [source.items[i] for i in index]
    return Source(items, source.labels[index], source.classes)
