"""A region of interest: a polygon, and how much of each cell of a grid lies inside it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ean_core.errors import UserError, shortened

Point = tuple[float, float]
Polygon = tuple[Point, ...]


def parse_region(text: str) -> Polygon:
    """The corners of ``"x,y x,y x,y"``, in pixels from the left and the top of the upright image.

    Raises:
        UserError: It is no such text, has fewer than three corners or no area, or its sides cross.
    """
    try:
        corners = tuple((float(x), float(y)) for x, y in (pair.split(",") for pair in text.split()))
    except ValueError:
        corners = ()
    if len(corners) > 1 and corners[0] == corners[-1]:  # as GeoJSON ends a polygon
        corners = corners[:-1]
    if len(corners) < 3 or not np.isfinite(corners).all():
        raise UserError(
            f'--region takes three or more corners in pixels, such as "10,20 300,20 300,200", got {shortened(text)}'
        )
    if area(corners) == 0 or _crosses_itself(corners):
        raise UserError(
            f"--region {shortened(text)}: the polygon has no area, or its sides cross: name the corners in order"
        )
    return corners


def area(polygon: Polygon) -> float:
    """Of a polygon whose sides do not cross, by the shoelace formula."""
    sides = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in sides)) / 2


@lru_cache(maxsize=8)
def parts_inside(polygon: Polygon, shape: tuple[int, int], cell: int, size: tuple[int, int]) -> NDArray[np.float64]:
    """The part of each cell of a grid over an image that lies inside a polygon, by area, in [0, 1].

    The polygon is cut to each column of cells, and what is left to each cell of that column (Sutherland and Hodgman,
    1974, whose clipping has the right area for polygons that are not convex, too).

    Args:
        polygon: Its corners in order, x and y in pixels; they may lie outside the image.
        shape: Rows and columns of the grid.
        cell: Pixels a cell, each way.
        size: Height and width of the image in pixels; the last cells may reach beyond it, and count as ending there.

    Returns:
        float64, ``shape``; not to be changed, since it is kept for the next image of this size.
    """
    parts = np.zeros(shape)
    down = np.minimum(np.arange(shape[0] + 1) * cell, size[0])
    across = np.minimum(np.arange(shape[1] + 1) * cell, size[1])
    for column in range(shape[1]):
        strip = _between(polygon, 0, across[column], across[column + 1])
        if len(strip) < 3:
            continue
        heights = [y for _, y in strip]
        for row in range(int(max(0, min(heights)) // cell), shape[0]):
            if down[row] >= max(heights):
                break
            whole = (across[column + 1] - across[column]) * (down[row + 1] - down[row])
            parts[row, column] = area(_between(strip, 1, down[row], down[row + 1])) / whole if whole else 0.0
    parts.setflags(write=False)
    return parts


def _between(polygon: Polygon, axis: int, low: float, high: float) -> Polygon:
    """The polygon between two lines, ``low <= x <= high`` (axis 0) or ``y`` (axis 1)."""
    return tuple(_beyond(tuple(_beyond(polygon, axis, low, 1)), axis, high, -1))


def _beyond(polygon: Polygon, axis: int, line: float, sign: int) -> Iterator[Point]:
    """The corners of the polygon's part on one side of a line."""
    for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        first, second = (sign * ((x0, y0)[axis] - line), sign * ((x1, y1)[axis] - line))
        if first >= 0:
            yield x0, y0
        if first * second < 0:
            part = first / (first - second)
            yield x0 + part * (x1 - x0), y0 + part * (y1 - y0)


def _crosses_itself(polygon: Polygon) -> bool:
    """Whether two sides that are no neighbours have a point in common."""
    sides = list(zip(polygon, polygon[1:] + polygon[:1], strict=True))
    count = len(sides)
    return any(_meet(*sides[i], *sides[j]) for i in range(count) for j in range(i + 2, count - (i == 0)))


def _meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    def turn(p: Point, q: Point, r: Point) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return turn(a, b, c) * turn(a, b, d) <= 0 and turn(c, d, a) * turn(c, d, b) <= 0
