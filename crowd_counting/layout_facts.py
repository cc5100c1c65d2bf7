"""What ``tools/prepare_data.py ucf_qnrf`` and its like print: whether the data are whole, and what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crowd_counting.annotations import keep_inside
from crowd_counting.check import check_crowd
from crowd_counting.layouts import FOLDS, LAYOUTS, counted, find_layout, layout_samples
from crowd_counting.points import read_points
from ean_core.data_check import read_names
from ean_core.errors import UserError
from ean_core.images import read_header

COLUMNS = ("", "images", "people", "fewest", "most", "smallest", "largest", "outside", "duplicates")


def prepare_layout(dataset: str, root: str | Path) -> str:
    """Check a data set of :mod:`crowd_counting.layouts`, which has to be downloaded by hand, and describe it.

    Args:
        dataset: ``"ucf_qnrf"``, ``"ucf_cc_50"`` (all folds), ``"nwpu"`` or ``"jhu"``.
        root: The data folder.

    Returns:
        A table of its splits, and whether the numbers of images and people are the published ones.

    Raises:
        FileNotFoundError: It is not there.
        UserError: Images or annotations are damaged or missing, or the image labels of JHU-CROWD++ count other people.
    """
    name = f"{dataset}-1" if dataset == "ucf_cc_50" else dataset
    layout, folder = LAYOUTS[name], find_layout(root, name)
    title = layout.title.split(",")[0]
    if folder is None:
        raise FileNotFoundError(
            f"no {title} in '{root}': its authors offer it for download by hand; unpack a folder with "
            f"{', '.join(layout.marks)} into '{root}' and run this again"
        )
    check_crowd(root, name, counted(layout))
    rows: list[tuple[str, ...]] = [COLUMNS]
    images = people = 0
    parts = [(split, name, split) for split in counted(layout)]
    if dataset == "ucf_cc_50":
        parts = [(f"fold {fold}", f"{dataset}-{fold}", "test") for fold in range(1, FOLDS + 1)]
    for label, source, split in parts:
        row, heads = _describe(label, root, source, split)
        rows.append(row)
        images, people = images + int(row[1].replace(",", "")), people + heads
        if dataset == "jhu":
            _compare_labels(folder / split)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    verdict = _verdict(images, sum(layout.images.values()), people, layout.people)
    return "\n".join([*lines, f"{title}: {verdict}", f"splits: {layout.note}"])


def _describe(label: str, root: str | Path, name: str, split: str) -> tuple[tuple[str, ...], int]:
    """A row of the table, and the people of a split."""
    counts, sizes, outside, duplicates = [], [], 0, 0
    for sample in layout_samples(root, name, split):
        points, size = read_points(sample.annotation), read_header(sample.image).size
        counts.append(len(points))
        sizes.append(size)
        outside += keep_inside(points, *size)[1]
        duplicates += len(points) - len(np.unique(points, axis=0))
    sizes.sort(key=lambda size: size[0] * size[1])
    numbers: Sequence[int] = (len(counts), sum(counts), min(counts), max(counts))
    ends = [f"{width}x{height}" for width, height in (sizes[0], sizes[-1])]
    return (label, *(f"{n:,}" for n in numbers), *ends, f"{outside:,}", f"{duplicates:,}"), sum(counts)


def _verdict(images: int, expected: int, people: int, published: int | None) -> str:
    if images != expected:
        return f"a partial copy, {images:,} of {expected:,} images with annotations; it can be used"
    if published is None:
        return f"complete, {images:,} images with {people:,} people; there is no published total of these"
    if people != published:
        return f"all images are there, with {people:,} people; the published total is {published:,}"
    return f"complete, {people:,} people"


def _compare_labels(folder: Path) -> None:
    """Compare the annotations of JHU-CROWD++ with ``image_labels.txt``: name, count, scene, weather, distractor.

    Raises:
        UserError: An image has another number of points than its label says.
    """
    path = folder / "image_labels.txt"
    if not path.is_file():
        return
    for number, line in enumerate(read_names(path), 1):
        name, count, *_ = [cell.strip() for cell in line.split(",")] + [""]
        annotation = folder / "gt" / f"{name}.txt"
        if not annotation.is_file():
            continue  # of a partial copy
        found = len(read_points(annotation))
        if not count.isdigit() or int(count) != found:
            raise UserError(
                f"'{path}', line {number}: {count or 'no number'} people in '{name}', but '{annotation}' has {found} "
                "points: unpack both again"
            )
