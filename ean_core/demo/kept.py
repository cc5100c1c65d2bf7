"""Results that a page refers to: pictures and files in memory, for a while, and no more than there is room for."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from ean_core.demo.limits import Limits, RefusedError


@dataclass(frozen=True)
class Grid:
    """A quantity in each cell of a grid over an image.

    Attributes:
        cells: (h, w).
        cell: Pixels a cell, each way.
        unit: What the cells count.
        size: Height and width of the image in pixels; the last cells may reach beyond it, and count as ending there.
    """

    cells: NDArray[np.floating]
    _: KW_ONLY
    cell: int
    unit: str
    size: tuple[int, int]

    def inside(self, left: float, top: float, right: float, bottom: float) -> float:
        """The sum in a rectangle, in pixels; a cell counts by the part of it that lies inside."""
        rows = _parts(len(self.cells), self.cell, self.size[0], *sorted((top, bottom)))
        columns = _parts(self.cells.shape[1], self.cell, self.size[1], *sorted((left, right)))
        return float(rows @ self.cells.astype(float) @ columns)


def _parts(number: int, cell: int, size: int, low: float, high: float) -> NDArray[np.floating]:
    """The part of each cell of a row or column that lies between two places, in [0, 1]."""
    starts = cell * np.arange(number)
    ends = np.minimum(starts + cell, size)
    return np.clip(np.minimum(ends, high) - np.maximum(starts, low), 0, None) / (ends - starts)


@dataclass(frozen=True)
class Result:
    """What is kept of one result.

    Attributes:
        files: By name, which has the ending of its kind.
        grid: For the sum in a rectangle.
    """

    files: Mapping[str, bytes]
    grid: Grid | None = None
    when: float = field(default_factory=time.monotonic)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, self.files.values())) + (self.grid.cells.nbytes if self.grid else 0)


class Kept:
    """Results by a random word that only the page which shows them knows.

    Args:
        limits: The page's.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._results: OrderedDict[str, Result] = OrderedDict()
        self._lock = Lock()

    def put(self, result: Result) -> str:
        """Keep a result, for which the oldest make room; its word."""
        word = secrets.token_urlsafe(16)
        with self._lock:
            self._results[word] = result
            total = sum(one.size for one in self._results.values())
            while len(self._results) > 1 and (total > self.limits.kept_bytes or self._is_old(self._first())):
                total -= self._results.popitem(last=False)[1].size
        return word

    def get(self, word: str) -> Result:
        """The result of a word.

        Raises:
            RefusedError: It is forgotten.
        """
        with self._lock:
            result = self._results.get(word)
        if result is None or self._is_old(result):
            raise RefusedError(404, "This result is no longer kept: send the image again.")
        return result

    def _first(self) -> Result:
        return next(iter(self._results.values()))

    def _is_old(self, result: Result) -> bool:
        return time.monotonic() - result.when > self.limits.kept_seconds
