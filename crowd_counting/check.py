"""A fast look at crowd images and annotations before training starts.

Images are not decoded: the header gives the size, the end marker tells a whole file from a truncated one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from crowd_counting.annotations import Sample, annotations_of, keep_inside, to_upright
from crowd_counting.dataset import SPLITS, find_split
from crowd_counting.layouts import LAYOUTS
from crowd_counting.points import POINT_SUFFIXES, Points, read_points
from crowd_counting.shanghaitech import annotation_folder, find_part
from ean_core.data_check import find_problems, report_problems, turned_note, unreadable
from ean_core.images import SUFFIXES, Header, header_of, is_whole


@dataclass(frozen=True)
class Notes:
    """What is worth knowing of images that can be used; filled by several threads."""

    _: KW_ONLY
    turned: list[Path]
    outside: dict[Path, str]
    """By annotation, what is said of its points outside the image."""


def check_crowd(
    root: str | Path,
    part: str | None = None,
    splits: Iterable[str] = ("train", "val"),
    *,
    orientation: str = "upright",
    out_of_frame: str = "drop",
) -> list[str]:
    """Check every image and annotation of the given splits.

    It finds: an image without annotation or with two, two images with one annotation, an annotation without image, an
    unreadable or truncated image, an annotation of another structure or with numbers that are not finite, relative
    coordinates, images all of whose points lie outside (another image's annotation), and points that lie outside in
    this view and inside in the other. Other points outside are no error (``out_of_frame``), no people are none either.

    Args:
        root: The data folder.
        part: ``"A"`` or ``"B"`` of ShanghaiTech, or a name of :data:`crowd_counting.layouts.LAYOUTS`; None: one's own
            data.
        splits: Of ``"train"``, ``"val"`` and ``"test"``.
        orientation: In which view the points were made, ``"upright"`` or ``"stored"``.
        out_of_frame: What happens to points outside, ``"drop"`` or ``"clip"``.

    Returns:
        What is worth knowing of data that can be used, a sentence each: images that an EXIF tag turns, and how their
        points are understood; points outside their image, the files with the most first.

    Raises:
        FileNotFoundError: There is no such data.
        UserError: Problems were found. The first line says how many, where, and what to do; the first ten follow, one
            a line.
    """
    splits = tuple(splits)
    samples = list(dict.fromkeys(sample for split in splits for sample in find_split(root, part, split)))
    notes = Notes(turned=[], outside={})
    problems = find_problems(samples, lambda sample: _problems(sample, orientation, out_of_frame, notes))
    problems += _orphans(Path(root), part, splits)
    if part is None:
        problems += _ambiguous(Path(root), samples)
    report_problems(problems, f"with the {len(samples):,} images of {root}", "correct or remove these files")
    turned = turned_note([str(path) for path in sorted(notes.turned)], len(samples), "points", orientation)
    return turned + [notes.outside[path] for path in sorted(notes.outside)]


def _problems(sample: Sample, orientation: str, out_of_frame: str, notes: Notes) -> Iterator[str]:
    """Yield what is wrong with one image and its annotation, one sentence each."""
    header = points = None
    try:
        with sample.image.open("rb") as file, Image.open(file) as opened:
            header = header_of(opened)
            if not is_whole(file, opened):
                yield f"image '{sample.image}' is truncated, its end is missing"
        if header.mode == "F":
            yield f"image '{sample.image}' has floating-point values: save it with 8 or 16 bits"
    except Exception as error:  # Pillow raises many types for damaged files; each is a finding, none a crash
        yield f"image '{sample.image}' is not readable ({unreadable(error)})"
    try:
        points = read_points(sample.annotation)
    except FileNotFoundError:
        yield f"image '{sample.image}' has no annotation '{sample.annotation}'"
    except ValueError as error:
        yield str(error)
    if header is not None and points is not None:
        if header.orientation != 1:
            notes.turned.append(sample.image)
        if len(points):
            yield from _misplaced(sample, points, header, orientation, out_of_frame, notes)


def _misplaced(
    sample: Sample, points: Points, header: Header, orientation: str, out_of_frame: str, notes: Notes
) -> Iterator[str]:
    """Yield why the points of one image cannot be heads; note single ones outside."""
    width, height = header.size
    name, size = f"annotation '{sample.annotation}'", f"{width}x{height}"
    if len(points) > 1 and np.all((points >= 0) & (points <= 1)) and np.any(points % 1):  # one may lie in a corner
        yield (
            f"{name}: all {len(points)} points lie between 0 and 1: relative coordinates? Write pixels, x times "
            f"{width} and y times {height}"
        )
        return
    other = "stored" if orientation == "upright" else "upright"
    seen = to_upright(points, header, orientation)
    inside = np.all((seen >= 0) & (seen <= header.size), axis=1)
    outside = int(np.count_nonzero(~inside))
    if outside and not keep_inside(to_upright(points, header, other), width, height)[1]:
        yield (
            f"{name}: {outside} of {len(points)} points lie outside its {size} image, which an EXIF tag turns, and "
            f"none with orientation={other}: set that"
        )
    elif outside == len(points):
        yield f"{name}: all {outside} points lie outside its {size} image"
    elif outside:
        done = {"drop": "dropped", "clip": "moved to its border"}[out_of_frame]
        advice = ", or keep them at the border with out_of_frame='clip'" if out_of_frame == "drop" else ""
        first = int(np.flatnonzero(~inside)[0])
        x, y = points[first]
        notes.outside[sample.annotation] = (
            f"{name}: {outside} of {len(points)} points lie outside its {size} image and are {done}, first point "
            f"{first + 1} ({x:g}, {y:g}): correct them{advice}"
        )


def _ambiguous(root: Path, samples: Sequence[Sample]) -> list[str]:
    """Images that share an annotation, and images with several."""
    everywhere = list(samples)
    for split in SPLITS:
        try:
            everywhere += find_split(root, None, split)
        except FileNotFoundError:
            continue
    sharing: dict[Path, list[Path]] = {}
    for sample in dict.fromkeys(everywhere):
        sharing.setdefault(sample.annotation, []).append(sample.image)
    problems = []
    for annotation, images in sharing.items():
        if len(images) > 1:
            names = " and ".join(f"'{image}'" for image in sorted(images))
            problems.append(f"images {names} share the annotation '{annotation}': rename one with its points")
    for folder in {sample.image.parent.parent for sample in samples}:
        for files in annotations_of(folder).values():
            if len(files) > 1:
                names = " and ".join(f"'{path}'" for path in files)
                problems.append(f"one image has the annotations {names}: keep one")
    return problems


def _orphans(root: Path, part: str | None, splits: Sequence[str]) -> list[str]:
    """Annotations whose image is missing, or has an ending that is not read."""
    if part in LAYOUTS:
        return []  # their annotations lie where their images say
    if part is not None:
        folder = find_part(root, part) or root
        sources = dict.fromkeys("test_data" if split == "test" else "train_data" for split in splits)
        pairs = [
            (path, folder / source / "images" / f"{path.stem.removeprefix('GT_')}.jpg")
            for source in sources
            for path in sorted(annotation_folder(folder / source).glob("GT_IMG_*.mat"))
        ]
        return [f"annotation '{path}' has no image" for path, image in pairs if not image.is_file()]
    problems = []
    for folder in (root, *(root / split for split in splits)):
        beside = sorted((folder / "images").glob("*.*"))
        images = Counter(path.stem for path in beside if path.suffix.lower() in SUFFIXES)
        others = {path.stem: path for path in beside if path.suffix.lower() not in (*SUFFIXES, *POINT_SUFFIXES)}
        for stem, files in sorted(annotations_of(folder).items()):
            if stem in images:
                continue
            if stem in others:
                problems.append(
                    f"image '{others[stem]}' has an annotation, but its ending is not read: convert it to .jpg or .png"
                )
            else:
                problems.append(f"annotation '{files[0]}' has no image")
    return problems
