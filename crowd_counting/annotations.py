"""Head points from annotation files, what happens to points outside the image, and the layout of one's own data.

One's own data need no code. Two layouts are read; images are what the reader of images takes::

    root/images/NAME.jpg                root/train/images/NAME.jpg          (val/ and test/ likewise)
    root/annotations/NAME.csv           root/train/annotations/NAME.csv
    root/{train,val,test}.txt

A list holds one image name a line, with or without its ending. An annotation may also lie beside its image. Without a
list or folder for ``val`` a tenth of the training images is held out, always the same; without one for ``test``,
``val`` is tested on; with neither lists nor folders every image is a training image.

An annotation is the points (x, y) of the heads, x to the right and y down, in pixels of the image as people see it: an
EXIF orientation is applied, unless ``orientation`` says that the points were made on the pixels as stored. It is a .csv
with two columns, or with a header that names ``x`` and ``y``; a .json with a list of pairs, or an object whose
``points`` is one; a .npy with an array (N, 2); or a .mat as in ShanghaiTech or UCF-QNRF. No points at all mean no
people.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from ean_core.data_check import read_names, require_whole_mat
from ean_core.errors import UserError, first_line, shortened
from ean_core.images import ORIENTATIONS, SUFFIXES, Header, read_header, upright_points

Points = NDArray[np.float64]
POINT_SUFFIXES = (".csv", ".json", ".npy", ".mat")
POLICIES = ("drop", "clip")


class Sample(NamedTuple):
    """An image and the file with its points; ``annotation`` may not exist."""

    image: Path
    annotation: Path


def read_points(path: str | Path) -> Points:
    """The head points of one file, shape (N, 2), as x and y in pixels; duplicates are kept.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: It is not what its ending says, has other columns than two, or holds what is not a finite number.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"annotation '{path}' does not exist; add it (an empty .csv means no people)")
    readers = {".csv": _read_csv, ".json": _read_json, ".npy": _read_npy, ".mat": _read_mat, ".txt": _read_txt}
    if path.suffix.lower() not in readers:
        raise UserError(f"'{path}' is no {', '.join(POINT_SUFFIXES[:-1])} or {POINT_SUFFIXES[-1]} file of points")
    try:
        values = _as_numbers(readers[path.suffix.lower()](path))
    except UnicodeDecodeError as error:
        raise UserError(
            f"annotation '{path}' cannot be read: it is no text in UTF-8 (byte {error.start} is none): save it as such"
        ) from None
    except Exception as error:  # damaged files surface as any of a dozen exception types
        reason = first_line(str(error)) or type(error).__name__
        raise UserError(f"annotation '{path}' cannot be read: {reason}") from None
    if values.size == 0:
        return np.zeros((0, 2))
    if values.ndim != 2 or values.shape[1] != 2:
        raise UserError(f"annotation '{path}' has shape {values.shape}: give two columns, x and y")
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(wrong):
        raise UserError(f"annotation '{path}': point {wrong[0] + 1} is not finite ({len(wrong)} such): correct it")
    return values


def _as_numbers(content: Any) -> Points:
    try:
        return np.asarray(content, np.float64)
    except (ValueError, TypeError, OverflowError):
        raise UserError("its points are not all numbers: two a point, x and y in pixels, are wanted") from None


def _read_csv(path: Path) -> list[list[float]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    if not rows:
        return []
    columns, width = [0, 1], len(rows[0][1])
    header = [cell.strip().lower() for cell in rows[0][1]]
    if "x" in header and "y" in header:
        columns = [header.index("x"), header.index("y")]
        rows = rows[1:]
    elif width != 2:
        comma = "; separate them by a comma" if re.search(r"[;\t]", ",".join(header)) else ""
        raise UserError(f"it has {width} columns: keep two, x and y, or name them in a header{comma}")
    for line, row in rows:
        if len(row) != width:
            raise UserError(f"line {line} has {len(row)} columns, not {width}: correct it")
    return [[_number(row[column], line) for column in columns] for line, row in rows]


def _number(cell: str, line: int) -> float:
    try:
        return float(cell)
    except ValueError:
        found = f"{shortened(cell)} is no number" if cell.strip() else "a number is missing"
        raise UserError(f"line {line}: {found}; write x,y in pixels, under a header x,y or none") from None


def _read_json(path: Path) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UserError(
            f"line {error.lineno} is no JSON ({error.msg}): correct it, or export the points again"
        ) from None
    except RecursionError:
        raise UserError("it is nested too deeply: write a list of [x, y]") from None
    if isinstance(content, dict):
        if "points" not in content:
            raise UserError("the object has no 'points'")
        content = content["points"]
    if not isinstance(content, list):
        raise UserError("it is no list of [x, y]")
    for number, point in enumerate(content, 1):
        if not isinstance(point, list) or len(point) != 2 or not all(type(value) in (int, float) for value in point):
            raise UserError(f"point {number} is {shortened(point)}: write it as [x, y], two numbers in pixels")
    return content


def _read_txt(path: Path) -> list[list[float]]:
    """JHU-CROWD++: a line a head, of which the first two numbers are x and y."""
    points = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not (cells := line.split()):
            continue
        if len(cells) < 2:
            raise UserError(f"line {number} has one number: x and y, and what may follow, are wanted")
        try:
            points.append([float(cell) for cell in cells[:2]])
        except ValueError:
            wrong = shortened(" ".join(cells[:2]))
            raise UserError(
                f"line {number}: {wrong} are not two numbers; x and y, and what may follow, are wanted"
            ) from None
    return points


def _read_npy(path: Path) -> Any:
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        if isinstance(error, OSError):
            raise
        raise UserError("it is no array of numbers: write it with numpy.save, as an array (N, 2)") from None
    if values.dtype.kind not in "iuf":
        raise UserError(f"it holds {values.dtype}, and no numbers: write it with numpy.save, as an array (N, 2)")
    return values


def _read_mat(path: Path) -> Any:
    require_whole_mat(path)
    content = loadmat(path)
    if "annPoints" in content:
        return content["annPoints"]
    if "image_info" not in content:
        raise UserError("it has neither image_info (ShanghaiTech) nor annPoints (UCF-QNRF)")
    try:
        return content["image_info"][0, 0][0, 0]["location"]
    except (IndexError, ValueError, TypeError):
        raise UserError("its image_info is not ShanghaiTech's: image_info{1}.location is missing") from None


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
