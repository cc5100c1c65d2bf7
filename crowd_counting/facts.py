"""What ``tools/prepare_data.py shanghaitech`` prints: whether the data are whole, and a table of what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.io import loadmat

from crowd_counting.annotations import Sample, keep_inside
from crowd_counting.check import check_crowd
from crowd_counting.points import read_points
from crowd_counting.shanghaitech import COUNTS, PARTS, find_part, list_images

# The published total, and that of another copy that circulates.
PEOPLE = {"A": (241_677, 241_275), "B": (88_488, 88_272)}
COLUMNS = ("", "images", "of", "people", "fewest", "most", "smallest", "largest", "grey", "outside", "duplicates")


class Facts(NamedTuple):
    """One image: its people, the number its .mat file declares, its size, and how many points are unusual."""

    people: int
    declared: int
    width: int
    height: int
    grey: bool
    outside: int
    duplicates: int


def prepare_shanghaitech(root: str | Path) -> str:
    """Check ShanghaiTech under ``root``, which has to be downloaded by hand, and describe it.

    Returns:
        A table: images, people, sizes, points outside the image, duplicate points; and whether the counts are the
        official ones.

    Raises:
        FileNotFoundError: Neither part is there.
        UserError: Images or annotations are damaged or missing; the message lists the first ten.
    """
    folders = {part: folder for part in PARTS if (folder := find_part(root, part)) is not None}
    if not folders:
        raise FileNotFoundError(
            f"no ShanghaiTech in '{root}': its authors offer it for download by hand; unpack part_A_final/ and "
            f"part_B_final/ into '{root}' and run this again"
        )
    rows: list[tuple[str, ...]] = [COLUMNS]
    notes = []
    for part, folder in folders.items():
        check_crowd(folder, part, ("train", "val", "test"))
        images, people = [], 0
        for split in ("train", "test"):
            facts = [describe(sample) for sample in list_images(folder, split)]
            rows.append(_row(f"{part} {split}", COUNTS[part, split], facts))
            images.append(len(facts))
            people += sum(fact.people for fact in facts)
            differ = sum(fact.declared != fact.people for fact in facts)
            if differ:
                notes.append(f"part {part}, {split}: in {differ} files the declared number is not that of the points")
        notes.append(f"part {part}: {_verdict(part, images, people)}")
    return "\n".join([*_align(rows), *notes])


def describe(sample: Sample) -> Facts:
    """Look at one image of ShanghaiTech."""
    points = read_points(sample.annotation)
    info = loadmat(sample.annotation)["image_info"][0, 0][0, 0]
    declared = int(info["number"].item()) if "number" in info.dtype.names else len(points)
    with Image.open(sample.image) as image:
        (width, height), grey = image.size, image.mode == "L"
    duplicates = len(points) - len(np.unique(points, axis=0))
    return Facts(len(points), declared, width, height, grey, keep_inside(points, width, height)[1], duplicates)


def _row(name: str, expected: int, facts: Sequence[Facts]) -> tuple[str, ...]:
    people = [fact.people for fact in facts]
    areas = sorted(facts, key=lambda fact: fact.width * fact.height)
    sizes = (f"{fact.width}x{fact.height}" for fact in (areas[0], areas[-1]))
    rare = (sum(column) for column in list(zip(*facts, strict=True))[4:])  # grey, outside, duplicates
    numbers = (len(facts), expected, sum(people), min(people), max(people))
    return (name, *(f"{n:,}" for n in numbers), *sizes, *(f"{n:,}" for n in rare))


def _verdict(part: str, images: Sequence[int], people: int) -> str:
    expected = [COUNTS[part, split] for split in ("train", "test")]
    if list(images) != expected:
        return f"a partial copy, {images[0]} + {images[1]} of {expected[0]} + {expected[1]} images; it can be used"
    published, mirror = PEOPLE[part]
    found = f"all images are there, {people:,} people"
    if people == published:
        return f"{found}, the published total"
    also = "; another copy that circulates has the same" if people == mirror else ""
    sign = "fewer" if people < published else "more"
    return f"{found}; differs from the published total of {published:,} by {abs(people - published):,} {sign}{also}"


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
