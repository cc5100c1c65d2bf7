"""Density maps against a plain loop, and against SciPy's filter where no border is near."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

from crowd_counting.density import CHUNK, adaptive_sigma, density_map, limit_sigma, neighbour_distance

SHAPES = [(768, 1024), (183, 293), (97, 50), (9, 8), (5, 5), (1, 1)]


def reference(points, shape, stride, sigmas, truncate=4.0):
    """The definition, pixel by pixel: a Gaussian on the pixels of the image within reach, divided by its sum."""
    height, width = shape
    result = np.zeros((math.ceil(height / stride), math.ceil(width / stride)))
    for (x, y), sigma in zip(points, sigmas, strict=True):
        column, row, radius = min(int(x), width - 1), min(int(y), height - 1), int(truncate * sigma + 0.5)
        values = {}
        for i in range(max(0, row - radius), min(height, row + radius + 1)):
            for j in range(max(0, column - radius), min(width, column + radius + 1)):
                values[i, j] = math.exp(-((i - row) ** 2 + (j - column) ** 2) / (2 * sigma**2))
        total = sum(values.values())
        for (i, j), value in values.items():
            result[i // stride, j // stride] += value / total
    return result


def scatter(count, shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, (count, 2)) * (shape[1], shape[0])


@pytest.mark.parametrize("shape", [(40, 61), (24, 32), (7, 5)])
@pytest.mark.parametrize("stride", [1, 3, 8])
@pytest.mark.parametrize("sigma", [0.2, 1.5, 6.0])
def test_equals_the_definition(shape, stride, sigma):
    points = [*scatter(6, shape), (0, 0), (shape[1], shape[0]), (0, shape[0] - 0.5)]
    expected = reference(points, shape, stride, [sigma] * len(points))
    np.testing.assert_allclose(density_map(points, shape, stride, sigma), expected, rtol=1e-6, atol=1e-12)


def test_a_sigma_a_point():
    shape, sigmas = (50, 70), np.linspace(0.5, 9, 12)
    points = scatter(12, shape)
    expected = reference(points, shape, 8, sigmas)
    np.testing.assert_allclose(density_map(points, shape, 8, sigmas), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("truncate", [2.0, 3.3, 4.0])
@pytest.mark.parametrize("sigma", [4.0, 15.0])
def test_equals_scipy_where_no_border_is_near(sigma, truncate):
    shape = (400, 480)
    points = np.random.default_rng(1).uniform(70, 300, (80, 2))
    ones = np.zeros(shape)
    np.add.at(ones, (points[:, 1].astype(int), points[:, 0].astype(int)), 1)
    filtered = gaussian_filter(ones, sigma, truncate=truncate)
    np.testing.assert_allclose(density_map(points, shape, 1, sigma, truncate), filtered, rtol=1e-6, atol=1e-10)
    blocks = filtered.reshape(50, 8, 60, 8).sum((1, 3))
    np.testing.assert_allclose(density_map(points, shape, 8, sigma, truncate), blocks, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 3000])
@pytest.mark.parametrize("stride", [1, 7, 8])
def test_the_sum_is_the_number_of_people(shape, count, stride):
    points = scatter(count, shape)
    for sigma in (15.0, 0.1, adaptive_sigma(points)):
        density = density_map(points, shape, stride, sigma)
        assert density.dtype == np.float32
        assert density.shape == (math.ceil(shape[0] / stride), math.ceil(shape[1] / stride))
        assert density.min() >= 0
        assert float(density.sum()) == pytest.approx(count, rel=1e-6, abs=1e-6)
        assert density.sum(dtype=np.float64) == pytest.approx(count, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("shape", SHAPES)
def test_corners_and_borders(shape):
    height, width = shape
    points = [(x, y) for x in (0, width / 2, width - 0.001, width) for y in (0, height / 2, height)]
    assert density_map(points, shape, 8, 15.0).sum(dtype=float) == pytest.approx(len(points), abs=1e-6)
    last = density_map([(width, height)], shape, 1, 0.1)
    assert last[-1, -1] == pytest.approx(1)


def test_duplicates_count():
    one = density_map([(30, 20)], (64, 64), 8, 4.0)
    many = density_map([(30, 20)] * 500, (64, 64), 8, 4.0)
    np.testing.assert_allclose(many, 500 * one.astype(float), rtol=1e-6)
    same_place = adaptive_sigma([(30, 20)] * 500)
    assert (same_place == 1.0).all()


def test_the_sum_over_chunks_does_not_depend_on_the_order():
    shape = (120, 160)
    points = scatter(2 * CHUNK + 7, shape)
    sigmas = adaptive_sigma(points)
    shuffled = np.random.default_rng(3).permutation(len(points))
    expected = sum(density_map(p[None], shape, 8, s).astype(float) for p, s in zip(points, sigmas, strict=True))
    np.testing.assert_allclose(density_map(points, shape, 8, sigmas), expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(
        density_map(points[shuffled], shape, 8, sigmas[shuffled]), expected, rtol=1e-5, atol=1e-9
    )


def test_a_kernel_far_larger_than_the_image_is_flat():
    density = density_map([(3, 4)], (16, 24), 8, 1e9)
    np.testing.assert_allclose(density, np.full((2, 3), 1 / 6), rtol=1e-6)


@pytest.mark.parametrize(
    ("points", "shape", "options", "message"),
    [
        ([(-0.1, 3)], (10, 10), {}, "1 of 1 points lie outside the image of 10x10"),
        ([(3, 10.1), (3, 3)], (10, 20), {}, "1 of 2 points lie outside the image of 20x10"),
        ([(math.nan, 3)], (10, 10), {}, "lie outside"),
        ([], (0, 10), {}, "at least 1 pixel"),
        ([], (10, 10), {"stride": 0}, "at least 1 pixel"),
        ([(3, 3)], (10, 10), {"sigma": 0.0}, "positive and finite"),
        ([(3, 3)], (10, 10), {"sigma": math.inf}, "positive and finite"),
        ([(3, 3)], (10, 10), {"truncate": -1.0}, "positive and finite"),
    ],
)
def test_bad_arguments(points, shape, options, message):
    with pytest.raises(ValueError, match=message):
        density_map(np.reshape(points, (-1, 2)), shape, **options)


def test_neighbour_distance_is_the_mean_over_the_nearest():
    points = scatter(40, (100, 100))
    distances = np.sort(np.linalg.norm(points[:, None] - points, axis=-1), axis=1)
    for k in (1, 3, 5):
        np.testing.assert_allclose(neighbour_distance(points, k), distances[:, 1 : k + 1].mean(1))


def test_few_points_have_few_neighbours():
    assert len(neighbour_distance(np.zeros((0, 2)))) == 0
    assert neighbour_distance([(1, 1)]).tolist() == [np.inf]
    assert neighbour_distance([(0, 0), (3, 4)]).tolist() == [5, 5]
    np.testing.assert_allclose(neighbour_distance([(0, 0), (3, 4), (6, 8)]), [7.5, 5, 7.5])


def test_adaptive_sigma():
    points = [(0, 0), (0, 20), (20, 0), (20, 20), (500, 500)]
    expected = 0.3 * (20 + 20 + math.hypot(20, 20)) / 3
    np.testing.assert_allclose(adaptive_sigma(points), [expected] * 4 + [15])
    np.testing.assert_allclose(adaptive_sigma(points, cap=1000)[4] > 100, True)
    assert adaptive_sigma([(1, 1)]).tolist() == [15]
    assert adaptive_sigma([(1, 1), (1, 1)], floor=2).tolist() == [2, 2]


@pytest.mark.parametrize(("floor", "cap"), [(0, 15), (5, 4), (1, math.inf), (math.nan, 3)])
def test_limits_of_sigma(floor, cap):
    with pytest.raises(ValueError, match="0 < floor <= cap"):
        limit_sigma(np.ones(3), floor, cap)


def test_points_spread_evenly_make_no_band_at_a_border() -> None:
    """Their density at a distance y from the border, by integrating the renormalised kernels of all heads t.

    ``integral of phi((y - t) / s) / s / Phi(t / s) dt``: 0.69 at the border itself, at most 1.07 of the mean.
    """
    sigma, height, width = 15.0, 480, 480
    places = np.stack(np.meshgrid(np.arange(0, width, 4), np.arange(height)), -1).reshape(-1, 2) + 0.5
    rows = density_map(places, (height, width), 8, sigma)[:, 20:40].mean(1) / (len(places) / (60 * 60))
    t, y = np.arange(0.05, 200, 0.1), np.arange(0.25, 80, 0.5)
    kernel = norm.pdf((y[:, None] - t) / sigma) / sigma / norm.cdf(t / sigma)
    expected = kernel.sum(1).reshape(-1, 16).mean(1) * 0.1  # of the first ten rows of cells
    np.testing.assert_allclose(rows[:10], expected, rtol=0.02)
    assert (round(float(rows[0]), 2), round(float(rows.max()), 2)) == (0.81, 1.07)
