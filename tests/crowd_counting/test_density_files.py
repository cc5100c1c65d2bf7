"""The saved density: its array, and a picture that keeps the sum."""

import io

import numpy as np
import pytest
from PIL import Image

from crowd_counting.density_files import files, to_png

RANDOM = np.random.default_rng(0)


def read(png: bytes) -> tuple[np.ndarray, float]:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image).astype(np.int64), float(image.info["units_per_person"])


@pytest.mark.parametrize(
    ("density", "units"),
    [
        (RANDOM.random((96, 128)) * 0.02, 4096),  # of part B: less than a tenth of a person in most cells
        (RANDOM.random((9, 7)) * 1e-5, 4096),  # below half a unit everywhere, and yet the sum is kept
        (RANDOM.random((9, 7)) * 20, 2048),
        (np.full((2, 2), 400.0), 128),
        (np.full((1, 1), 200000.0), 0.25),
        (np.zeros((3, 4)), 4096),
    ],
)
def test_the_sum_is_kept(density: np.ndarray, units: float) -> None:
    values, found = read(to_png(density))
    assert found == units
    assert values.shape == density.shape
    assert abs(values.sum() - density.sum() * units) <= 0.5001
    assert np.abs(values - density * units).max() <= 1.0001
    with Image.open(io.BytesIO(to_png(density))) as image:
        assert image.mode == "I;16"


def test_negative_people() -> None:
    density = np.array([[3.0, -1.0], [2.0, 0.0]])
    values, units = read(to_png(density))
    np.testing.assert_allclose(values / units, [[2.4, 0], [1.6, 0]], atol=1 / units)
    assert read(to_png(-density))[0].sum() == 0


def test_the_array() -> None:
    density = RANDOM.random((5, 6)).astype(np.float32)
    np.testing.assert_array_equal(np.load(io.BytesIO(files(density)[".npy"])), density)
