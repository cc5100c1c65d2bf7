"""ShanghaiTech (Zhang et al., MCNN, CVPR 2016) as it is downloaded, and its splits.

Two copies of the data circulate; both are read, under the data folder or one folder further down::

    part_A_final/train_data/images/IMG_1.jpg        part_A/train_data/images/IMG_1.jpg
    part_A_final/train_data/ground_truth/GT_IMG_1.mat   part_A/train_data/ground-truth/GT_IMG_1.mat

Part A has 300 + 182 images, part B 400 + 316. No public list says which training images the papers validate on, so
``splits.json`` ships an order of each part's training numbers, drawn by :func:`draw_order`: the first tenth of those
that are there is for validation, 30 of 300 and 40 of 400. The test images are used for nothing else.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np

from crowd_counting.annotations import Sample, hold_out
from crowd_counting.layouts import LAYOUTS, find_layout
from ean_core.errors import UserError

PARTS = ("A", "B")
COUNTS = {("A", "train"): 300, ("A", "test"): 182, ("B", "train"): 400, ("B", "test"): 316}
HELD_OUT = 0.1


def draw_order(part: str) -> list[int]:
    """The order of a part's training image numbers in ``splits.json``; NumPy keeps this generator's stream forever."""
    seed = 2020 + PARTS.index(part)
    return [int(number) + 1 for number in np.random.RandomState(seed).permutation(COUNTS[part, "train"])]


@cache
def read_order(part: str) -> tuple[int, ...]:
    """The shipped order of a part's training image numbers; the first are held out for validation."""
    return tuple(json.loads(Path(__file__).with_name("splits.json").read_text())[part])


def find_part(root: str | Path, part: str) -> Path | None:
    """The folder of part ``"A"`` or ``"B"`` under ``root``, which may also be that folder itself; None without one.

    Raises:
        UserError: There is no such part.
    """
    if part not in PARTS:
        raise UserError(f"part must be A or B, or None for data of your own, got {part!r}")
    root, names = Path(root), (f"part_{part}_final", f"part_{part}")
    nested = sorted(root.iterdir()) if root.is_dir() else []
    candidates = [root] * (root.name in names or root.resolve().name in names)
    candidates += [base / name for base in (root, *nested) for name in names]
    return next((folder for folder in candidates if (folder / "train_data" / "images").is_dir()), None)


def detect_part(root: str | Path, part: str | None) -> str | None:
    """``part`` if ``root`` holds it, else None: ``root`` is in a layout of one's own (`crowd_counting.annotations`).

    Raises:
        FileNotFoundError: ``root`` holds neither; the message names what was looked for.
    """
    root = Path(root)
    if part is None or (find_layout if part in LAYOUTS else find_part)(root, part) is not None:
        return part
    if any((root / folder).is_dir() for folder in ("images", "train/images")):
        return None
    if part in LAYOUTS:
        layout = LAYOUTS[part]
        raise FileNotFoundError(f"no {layout.title} in '{root}': put a folder with {', '.join(layout.marks)} there")
    raise FileNotFoundError(
        f"no crowd data in '{root}': put part_{part}_final/ (or part_{part}/) of ShanghaiTech there, or images/ and "
        "annotations/ of your own"
    )


def list_images(folder: Path, split: str) -> list[Sample]:
    """All ``IMG_*.jpg`` of ``train`` or ``test`` in a part's folder with their .mat files, by number.

    Raises:
        FileNotFoundError: There are no images.
    """
    data = folder / f"{split}_data"
    images = [p for p in (data / "images").glob("IMG_*.jpg") if p.stem[4:].isdigit()]
    if not images:
        raise FileNotFoundError(f"no IMG_*.jpg in '{data / 'images'}'; unpack the part again")
    truth = annotation_folder(data)
    return [Sample(p, truth / f"GT_{p.stem}.mat") for p in sorted(images, key=lambda p: int(p.stem[4:]))]


def annotation_folder(data: Path) -> Path:
    """``ground_truth`` or ``ground-truth``, whichever is in ``train_data`` or ``test_data``."""
    return data / "ground-truth" if (data / "ground-truth").is_dir() else data / "ground_truth"


def find_shanghaitech(root: str | Path, part: str, split: str) -> list[Sample]:
    """The images of one split of one part, by number; a copy that lacks images is used as it is.

    Args:
        root: The data folder.
        part: ``"A"`` or ``"B"``.
        split: ``"train"``, ``"val"`` (both from ``train_data``) or ``"test"``.

    Raises:
        FileNotFoundError: The part is not there, or has no images.
    """
    folder = find_part(root, part)
    if folder is None:
        raise FileNotFoundError(f"no part_{part}_final/ or part_{part}/ of ShanghaiTech in '{root}'")
    source = "test" if split == "test" else "train"
    samples = list_images(folder, source)
    if source == "test":
        return samples
    place = {number: index for index, number in enumerate(read_order(part))}
    # A number beyond the official ones comes after them, so it is never held out before one of those.
    order = sorted(range(len(samples)), key=lambda i: (place.get(number_of(samples[i]), len(place)), i))
    return hold_out(samples, order, HELD_OUT)[split == "val"]


def number_of(sample: Sample) -> int:
    """The number in an image's name."""
    return int(sample.image.stem[4:])


def partial_notice(root: str | Path, part: str, split: str) -> str:
    """Words for the log when a split comes from a partial copy, such as "40 of 400 images"; else an empty string."""
    folder, source = find_part(root, part), "test" if split == "test" else "train"
    found, expected = len(list_images(folder, source)) if folder else 0, COUNTS[part, source]
    return "" if found == expected else f"{found} of {expected} images of {source}_data"
