"""Head points from files of several formats.

A .csv has two columns, or a header that names ``x`` and ``y``; a .json a list of pairs, or an object whose ``points``
is one; a .npy an array (N, 2); a .mat is as in ShanghaiTech or UCF-QNRF, a .txt as in JHU-CROWD++.
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from ean_core.data_check import require_whole_mat
from ean_core.errors import UserError, first_line, shortened

Points = NDArray[np.float64]
POINT_SUFFIXES = (".csv", ".json", ".npy", ".mat")
"""Of one's own data."""


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
