"""Paired statistics against SciPy, plain loops, and simulations."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from ean_core.analysis.paired import compare_paired, detectable, holm, mean_of, power

A = [71.2, 69.8, 73.1, 70.4, 72.9]
B = [70.1, 69.9, 71.4, 69.0, 72.2]


def test_mean_and_interval() -> None:
    found = mean_of(A)
    assert (found.n, found.mean) == (5, pytest.approx(sum(A) / 5))
    assert found.sd == pytest.approx(math.sqrt(sum((a - sum(A) / 5) ** 2 for a in A) / 4))
    low, high = stats.t.interval(0.95, 4, loc=np.mean(A), scale=stats.sem(A))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert mean_of([3.0]) == type(found)(1, mean=3.0, sd=None, low=None, high=None)
    with pytest.raises(ValueError, match="at least one"):
        mean_of([])


def test_paired_t_test() -> None:
    found, wanted = compare_paired(A, B), stats.ttest_rel(A, B)
    assert found.t == pytest.approx(wanted.statistic)
    assert found.p == pytest.approx(wanted.pvalue)
    interval = wanted.confidence_interval(0.95)
    assert (found.difference.low, found.difference.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert compare_paired(B, A).t == pytest.approx(-wanted.statistic)


def test_without_spread_there_is_no_test() -> None:
    for a, b in (([1.0, 2.0, 3.0], [0.9, 1.9, 2.9]), ([1.0, 2.0], [1.0, 2.0]), ([1.0], [5.0])):
        found = compare_paired(a, b)
        assert (found.t, found.p) == (None, None)
        assert found.difference.mean == pytest.approx(a[0] - b[0])
    with pytest.raises(ValueError, match="pairs"):
        compare_paired([1, 2], [1])


def test_holm() -> None:
    # worked by hand: 0.01 x 4, 0.02 x 3, max(0.06, 0.03 x 2), 0.6 x 1
    assert holm([0.03, 0.01, None, 0.6, 0.02]) == pytest.approx([0.06, 0.04, None, 0.6, 0.06])
    assert holm([]) == []
    assert holm([0.7, 0.9]) == [1.0, 1.0]
    for ps in product([0.004, 0.02, 0.03, 0.2], repeat=3):  # Holm's own procedure: step down until one is too large
        rejected: set[int] = set()
        for step, index in enumerate(sorted(range(3), key=lambda i: ps[i])):
            if ps[index] > 0.05 / (3 - step):
                break
            rejected.add(index)
        corrected = holm(ps)
        assert {i for i in range(3) if corrected[i] <= 0.05} == rejected


@pytest.mark.parametrize("pairs", [2, 3, 5, 10])
def test_power_is_what_a_simulation_finds(pairs: int) -> None:
    generator = np.random.default_rng(pairs)
    for effect in (0.5, 1.3):
        p = stats.ttest_1samp(generator.normal(effect, 1, (20_000, pairs)), 0, axis=1).pvalue
        assert power(effect, pairs) == pytest.approx((p < 0.05).mean(), abs=0.012)  # 3 standard errors


def test_the_detectable_effect() -> None:
    assert power(0.0, 6) == pytest.approx(0.05)
    for pairs in (2, 3, 4, 8, 30):
        assert power(detectable(pairs), pairs) == pytest.approx(0.8, abs=1e-6)
    assert detectable(10) == pytest.approx(0.996, abs=1e-3)  # G*Power's value for ten pairs
    assert detectable(34) == pytest.approx(0.495, abs=2e-3)  # Cohen: 34 pairs for half a standard deviation
    assert detectable(5, alpha=0.0125) > detectable(5)
    with pytest.raises(ValueError, match="two pairs"):
        detectable(1)
