"""Points from peaks, and their matching against trying all assignments."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from crowd_counting.density import density_map
from crowd_counting.localisation import SIGMAS, count_matches, localisation, matches, peaks


@pytest.mark.parametrize("sigma", [6.0, 12.0])
def test_people_apart_are_found_where_they_are(sigma: float) -> None:
    """To a pixel, although a cell has eight; and one at the border to its cell."""
    heads = np.array([[60.3, 50.7], [150.0, 40.2], [100.9, 120.1], [187.4, 150.0]])
    found = peaks(density_map(heads, (200, 240), 8, sigma), 8)
    assert len(found) == 4
    distances = np.linalg.norm(found[:, None] - heads, axis=2).min(0)
    assert distances.max() < 1.5
    border = peaks(density_map(np.array([[3.0, 196.0]]), (200, 240), 8, 2.0), 8)
    assert np.abs(border - (3, 196)).max() <= 4


def test_as_many_as_people() -> None:
    density = np.zeros((5, 7))
    density[1, 1], density[3, 5], density[3, 2] = 0.9, 0.8, 0.1
    assert len(peaks(density, 8)) == 2  # 1.8 people
    np.testing.assert_allclose(peaks(density, 8), [[12, 12], [44, 28]])
    assert peaks(np.zeros((3, 3)), 8).shape == (0, 2)
    assert len(peaks(np.full((3, 3), 1 / 9), 8)) == 1  # a plateau is one point
    assert len(peaks(np.full((1, 1), 1.0), 8)) == 1
    assert len(peaks(np.array([[-1.0, 2.0], [-1.0, -1.0]]), 8)) == 0  # no more than it counts: none


def by_trial(found: np.ndarray, heads: np.ndarray, sigma: float) -> int:
    near = np.linalg.norm(found[:, None] - heads, axis=2) <= sigma
    short, long = sorted(near.shape)
    near = near if near.shape[0] == short else near.T
    return max(sum(near[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(long), short))


@pytest.mark.parametrize("seed", range(8))
def test_the_matching_is_one_to_one_and_the_largest(seed: int) -> None:
    random = np.random.default_rng(seed)
    found, heads = random.random((4 + seed % 3, 2)) * 14, random.random((5, 2)) * 14
    for sigma in SIGMAS:
        expected = by_trial(found, heads, sigma)
        near = np.linalg.norm(found[:, None] - heads, axis=2) <= sigma
        assert near[linear_sum_assignment(near, maximize=True)].sum() == expected
        assert count_matches(found, heads, sigma) == expected
    assert count_matches(found[:1].repeat(3, 0), found[:1], 4) == 1
    assert count_matches(found, np.zeros((0, 2)), 4) == count_matches(np.zeros((0, 2)), heads, 4) == 0
    assert count_matches(np.array([[0.0, 0.0]]), np.array([[4.0, 0.0]]), 4) == 1  # exactly sigma is near


def test_the_table_sums_over_all_images() -> None:
    table = localisation([(10, 4, 8), (0, 0, 0), (2, 0, 1)], [9, 3, 0])
    near, far = table["within 4 px"], table["within 8 px"]
    assert (near["precision"], near["recall"]) == (pytest.approx(4 / 12), pytest.approx(4 / 12))
    assert (far["precision"], far["recall"]) == (pytest.approx(9 / 12), pytest.approx(9 / 12))
    assert far["F1"] == pytest.approx(0.75)
    assert localisation([(0, 0, 0)], [0])["within 4 px"] == {"F1": None, "precision": None, "recall": None}


def test_an_image_of_the_truth_is_nearly_all_found() -> None:
    heads = np.stack(np.meshgrid(np.arange(20, 220, 40), np.arange(20, 180, 40)), 2).reshape(-1, 2) + 0.25
    density = density_map(heads, (200, 240), 8, 8.0)
    assert matches(density, heads, 8) == (20, 20, 20)
