"""The people of images, what happens to points outside, and the layout of one's own data.

One's own data need no code. Two layouts are read; images are what the reader of images takes::

    root/images/NAME.jpg                root/train/images/NAME.jpg          (val/ and test/ likewise)
    root/annotations/NAME.csv           root/train/annotations/NAME.csv
    root/{train,val,test}.txt

A list holds one image name a line, with or without its ending. An annotation may also lie beside its image. Without a
list or folder for ``val`` a tenth of the training images is held out, always the same; without one for ``test``,
``val`` is tested on; with neither lists nor folders every image is a training image.

An annotation is the points (x, y) of the heads, x to the right and y down, in pixels of the image as people see it: an
EXIF orientation is applied, unless ``orientation`` says that the points were made on the pixels as stored.
:mod:`crowd_counting.points` has the formats. No points at all mean no people.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crowd_counting.points import POINT_SUFFIXES, Points, read_points
from ean_core.data_check import read_names
from ean_core.errors import UserError
from ean_core.images import ORIENTATIONS, SUFFIXES, Header, read_header, upright_points

POLICIES = ("drop", "clip")


class Sample(NamedTuple):
    """An image and the file with its points; ``annotation`` may not exist."""

    image: Path
    annotation: Path


def read_people(sample: Sample, orientation: str, out_of_frame: str) -> tuple[NDArray[np.float32], int]:
    """The points of an image in pixels of its upright view, and how many lay outside (:func:`keep_inside`).

    Args:
        sample: The image and its annotation.
        orientation: In which view the points were made, where the image's EXIF tag turns it: ``"upright"``, as people
            see the picture, or ``"stored"``, as the file has its pixels.
        out_of_frame: See :func:`keep_inside`.

    Raises:
        FileNotFoundError: A file is missing.
        UserError: A file cannot be read, or there is no such orientation or policy.
    """
    header = read_header(sample.image)
    return keep_inside(to_upright(read_points(sample.annotation), header, orientation), *header.size, out_of_frame)


def to_upright(points: Points, header: Header, orientation: str) -> Points:
    """Points made in the view ``orientation``, in the upright one.

    Raises:
        UserError: There is no such view.
    """
    if orientation not in ORIENTATIONS:
        raise UserError(f"orientation must be {' or '.join(ORIENTATIONS)}, got {orientation!r}")
    return upright_points(points, header) if orientation == "stored" else points


def keep_inside(points: Points, width: int, height: int, policy: str = "drop") -> tuple[NDArray[np.float32], int]:
    """Points inside the image, and how many were outside.

    The image covers 0 <= x <= W and 0 <= y <= H: a point on the right or lower border belongs to the last pixel and is
    moved inside by the least step, so that every x returned is below W.

    Args:
        points: Shape (N, 2).
        width: W, of the image.
        height: H.
        policy: ``"drop"`` leaves points outside out; ``"clip"`` moves them to the border, so that they still count.

    Raises:
        UserError: There is no such policy.
    """
    if policy not in POLICIES:
        raise UserError(f"out_of_frame must be {' or '.join(POLICIES)}, got {policy!r}")
    inside = np.all((points >= 0) & (points <= (width, height)), axis=1)
    kept = points[inside] if policy == "drop" else points
    return clamp(kept.astype(np.float32), width, height), int(np.count_nonzero(~inside))


def clamp(points: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Points moved to the nearest place with 0 <= x < W and 0 <= y < H, which rounding may have taken them from."""
    end = np.nextafter(np.array([width, height], np.float32), np.float32(0))
    return np.clip(points, np.float32(0), end)


def find_samples(root: str | Path, split: str) -> list[Sample]:
    """The images of one split of one's own data, in either layout of this module, sorted by name or as in the list.

    Args:
        root: The data folder.
        split: ``"train"``, ``"val"`` or ``"test"``.

    Raises:
        FileNotFoundError: There are no images, or a listed one is missing.
        UserError: A list is no text.
    """
    root = Path(root)
    if split != "train" and (own := _listed(root, split)) is not None:
        return own
    if split == "test":
        return find_samples(root, "val")
    train = _listed(root, "train")
    if train is None:
        raise FileNotFoundError(
            f"no crowd data in '{root}': neither images/ nor train/images/ is there (nor a ShanghaiTech part)"
        )
    others = {name: _listed(root, name) for name in ("val", "test")}
    listed = {sample.image for samples in others.values() for sample in samples or ()}
    if not (root / "train.txt").is_file():  # where only the others are listed, the rest is for training
        train = [sample for sample in train if sample.image not in listed]
    if others["val"] is not None:
        return train
    order = [int(i) for i in np.random.RandomState(0).permutation(len(train))]
    return hold_out(train, order, 0.1)[split == "val"]


def hold_out(samples: Sequence[Sample], order: Sequence[int], fraction: float) -> tuple[list[Sample], list[Sample]]:
    """Split samples into training and validation.

    Args:
        samples: What to split.
        order: The indices of ``samples``; the first of them are held out.
        fraction: How many: rounded, at least one, and never all.

    Raises:
        UserError: There are fewer than two samples.
    """
    if len(samples) < 2:
        raise UserError(f"{len(samples)} image to train and validate on: two are the least")
    chosen = set(order[: max(1, round(fraction * len(samples)))])
    return (
        [sample for index, sample in enumerate(samples) if index not in chosen],
        [sample for index, sample in enumerate(samples) if index in chosen],
    )


def _listed(root: Path, split: str) -> list[Sample] | None:
    """The samples that a list or a folder names; all images where there is neither for training; else None."""
    names = root / f"{split}.txt"
    folder = root if names.is_file() or not (root / split).is_dir() else root / split
    images = _images(folder / "images")
    if names.is_file():
        by_name = {**{path.stem: path for path in images}, **{path.name: path for path in images}}
        wanted = read_names(names)
        missing = [name for name in wanted if name not in by_name]
        twice = [name for name in wanted if sum(path.stem == name for path in images) > 1 and name in by_name]
        if twice:
            both = " and ".join(f"'{path.name}'" for path in images if path.stem == twice[0])
            raise UserError(f"image list '{names}' names '{twice[0]}', which is {both}: write the ending")
        if missing or not wanted:
            shown = missing[0] if missing and missing[0].isprintable() else ascii(missing[:1])[2:-2]
            what = f"names '{shown}', which is not in {folder / 'images'}" if missing else "is empty"
            raise FileNotFoundError(f"image list '{names}' {what}: correct the list, or add the image")
        images = [by_name[name] for name in wanted]
    elif folder == root and split != "train":
        return None
    if not images:
        return None
    found = annotations_of(folder)
    expected = folder / "annotations"
    return [Sample(p, next(iter(found.get(p.stem, ())), expected / f"{p.stem}{POINT_SUFFIXES[0]}")) for p in images]


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


def annotations_of(folder: Path) -> dict[str, list[Path]]:
    """All files of points of a folder in this layout by the name of their image, without its ending.

    They lie in ``annotations`` or beside the images; where there are several of one name, the first is read.
    """
    found: dict[str, list[Path]] = {}
    for place in (folder / "annotations", folder / "images"):
        files = place.iterdir() if place.is_dir() else ()
        points = [p for p in files if p.suffix.lower() in POINT_SUFFIXES and not p.name.startswith(".")]
        for path in sorted(points, key=lambda p: (POINT_SUFFIXES.index(p.suffix.lower()), p.name)):
            found.setdefault(path.stem, []).append(path)
    return found
