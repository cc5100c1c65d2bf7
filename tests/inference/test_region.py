"""A polygon over a grid, against counting small squares, and what is no polygon."""

import numpy as np
import pytest

from ean_core.errors import UserError
from ean_core.inference.region import area, parse_region, parts_inside

SIZE, SHAPE, CELL = (37, 50), (5, 7), 8  # the last row and column of cells are cut by the image
POLYGONS = {
    "triangle": ((3.0, 2.0), (45.5, 10.0), (20.0, 36.0)),
    "not convex": ((2.0, 2.0), (48.0, 2.0), (48.0, 30.0), (25.0, 8.0), (2.0, 30.0)),
    "a fork, in two parts in some cells": (
        (1.0, 1.0), (49.0, 1.0), (49.0, 33.0), (30.0, 33.0), (30.0, 9.0), (28.0, 9.0), (28.0, 33.0), (1.0, 33.0),
    ),
    "partly outside": ((-20.0, -10.0), (30.0, -10.0), (30.0, 90.0), (-20.0, 90.0)),
}  # fmt: skip


def by_squares(polygon: tuple[tuple[float, float], ...], fine: int = 16) -> np.ndarray:
    """Each pixel as 16x16 squares, inside if their centre is, by the even-odd rule."""
    y, x = ((np.arange(length * fine) + 0.5) / fine for length in SIZE)
    inside = np.zeros((len(y), len(x)), bool)
    for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if y0 != y1:
            at = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
            inside ^= ((y0 > y) != (y1 > y))[:, None] & (x[None] < at[:, None])
    parts = np.zeros(SHAPE)
    for row in range(SHAPE[0]):
        for column in range(SHAPE[1]):
            step = CELL * fine
            parts[row, column] = inside[row * step : (row + 1) * step, column * step : (column + 1) * step].mean()
    return parts


@pytest.mark.parametrize("name", POLYGONS)
def test_parts_of_cells(name: str) -> None:
    found = parts_inside(POLYGONS[name], SHAPE, CELL, SIZE)
    np.testing.assert_allclose(found, by_squares(POLYGONS[name]), atol=0.01)


def test_the_whole_image_and_order_of_corners() -> None:
    whole = ((0.0, 0.0), (50.0, 0.0), (50.0, 37.0), (0.0, 37.0))
    np.testing.assert_allclose(parts_inside(whole, SHAPE, CELL, SIZE), 1)
    np.testing.assert_allclose(parts_inside(whole[::-1], SHAPE, CELL, SIZE), 1)
    assert parts_inside(((60.0, 0.0), (70.0, 0.0), (70.0, 9.0)), SHAPE, CELL, SIZE).sum() == 0


def test_what_is_written() -> None:
    assert parse_region("0,0 9,0 9,4 0,0") == parse_region("0,0 9,0 9,4")  # closed, as in GeoJSON
    corners = parse_region(" 0,0 10.5,0   10.5,4 ")
    assert corners == ((0, 0), (10.5, 0), (10.5, 4))
    assert area(corners) == 21


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "three or more corners"),
        ("1,2 3,4", "three or more corners"),
        ("1,2 3,4 5", "three or more corners"),
        ("1,2 3,x 5,6", "three or more corners"),
        ("1,2 3,nan 5,6", "three or more corners"),
        ("0,0 5,5 10,10", "no area"),
        ("0,0 10,10 10,0 0,10", "sides cross"),
    ],
)
def test_no_polygon(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_region(text)
