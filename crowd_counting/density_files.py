"""A density map as files: an array, and a 16-bit picture with the same sum."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

UNITS = 4096
"""What one person is in the picture; less where a cell has more than 15.99 people, see :func:`to_png`."""

KEY = "units_per_person"


def to_npy(density: NDArray[np.floating]) -> bytes:
    """People in each cell as a float32 ``.npy`` file."""
    file = io.BytesIO()
    np.save(file, np.asarray(density, np.float32))
    return file.getvalue()


def to_png(density: NDArray[np.floating]) -> bytes:
    """People in each cell as a 16-bit grey PNG, one pixel a cell.

    A value is the cell's people times the units of a person, 4096, or the largest power of two with which the fullest
    cell stays below 65536. The file says so in its text ``units_per_person``. Rounding is carried on from cell to cell,
    row by row, so the sum of all values is the count times the units to within half a unit; a value is off by one at
    most. There are no negative people in a picture: where a network without an activation predicts some, the
    others are reduced in proportion, so that the sum stays (0, where it is negative).
    """
    values = np.nan_to_num(np.asarray(density, np.float64)).clip(0)
    total = max(0.0, float(np.nan_to_num(np.asarray(density, np.float64)).sum()))
    if values.sum() > total:
        values *= total / values.sum()
    units = float(UNITS)
    while values.max(initial=0) * units > 65534:
        units /= 2
    running = np.round(np.concatenate([[0.0], np.cumsum(values.ravel() * units)]))
    picture = Image.fromarray(np.diff(running).reshape(values.shape).astype(np.uint16))
    text = PngInfo()
    text.add_text(KEY, f"{units:.10g}")
    file = io.BytesIO()
    picture.save(file, "png", pnginfo=text)
    return file.getvalue()


def files(density: NDArray[np.floating]) -> dict[str, bytes]:
    """Both, by ending."""
    return {".npy": to_npy(density), ".png": to_png(density)}
