"""Correlations and the t-test against their formulas, written out in plain loops."""

import math
import random

import numpy as np
import pytest
from scipy import integrate, stats

from ean_core.analysis.correlation import bootstrap, compare_groups, correlate, kendall, pearson

random.seed(5)
X = [random.gauss(50, 3) for _ in range(14)]
Y = [0.4 * x + random.gauss(0, 2) for x in X]
TIED_X, TIED_Y = [1, 2, 2, 3, 3, 5, 4, 2], [1, 1, 3, 2, 4, 4, 4, 2]


def student_tail(t: float, df: float) -> float:
    """Two-sided: the density of Student's t, integrated."""
    scale = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(df * math.pi)
    return 2 * integrate.quad(lambda u: scale * (1 + u * u / df) ** (-(df + 1) / 2), abs(t), math.inf)[0]


@pytest.mark.parametrize(("x", "y"), [(X, Y), (TIED_X, TIED_Y), (X, [-y for y in Y])])
def test_correlation(x: list[float], y: list[float]) -> None:
    n, mx, my = len(x), sum(x) / len(x), sum(y) / len(y)
    sxy = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    sxx, syy = sum((a - mx) ** 2 for a in x), sum((b - my) ** 2 for b in y)
    r = sxy / math.sqrt(sxx * syy)
    both = untied_x = untied_y = 0
    for i in range(n):
        for j in range(i):
            dx, dy = x[i] - x[j], y[i] - y[j]
            both += (dx * dy > 0) - (dx * dy < 0)
            untied_x += dx != 0
            untied_y += dy != 0
    found = correlate(x, y)
    assert found.n == n
    assert found.pearson == pytest.approx(r)
    assert found.kendall == pytest.approx(both / math.sqrt(untied_x * untied_y))
    assert found.pearson_p == pytest.approx(student_tail(r * math.sqrt((n - 2) / (1 - r * r)), n - 2), rel=1e-6)
    assert 0 < found.kendall_p < 1
    for name, statistic in (("pearson", pearson), ("kendall", kendall)):
        assert statistic(np.array(x), np.array(y)) == pytest.approx(getattr(found, name))
        assert getattr(found, f"{name}_interval") == bootstrap(statistic, x, y)


def test_kendall_p_of_a_perfect_order_counts_permutations() -> None:
    assert correlate([1, 2, 3, 4, 5], [2, 4, 8, 16, 99]).kendall_p == pytest.approx(2 / math.factorial(5))


def test_difference() -> None:
    a, b = X[:5], [y + 28 for y in Y]
    means = [sum(v) / len(v) for v in (a, b)]
    errors = [sum((u - m) ** 2 for u in v) / (len(v) - 1) / len(v) for v, m in zip((a, b), means, strict=True)]
    t = (means[0] - means[1]) / math.sqrt(sum(errors))
    df = sum(errors) ** 2 / sum(e**2 / (len(v) - 1) for e, v in zip(errors, (a, b), strict=True))
    found = compare_groups(a, b)
    assert found.means == pytest.approx(tuple(means))
    assert found.sds == pytest.approx(tuple(math.sqrt(e * len(v)) for e, v in zip(errors, (a, b), strict=True)))
    assert (found.t, found.df) == pytest.approx((t, df))
    assert found.p == pytest.approx(student_tail(t, df), rel=1e-6)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 2], [1, 2], "three pairs"),
        ([1, 2, 3], [1, 2], "three pairs"),
        ([1, 2, math.nan], [1, 2, 3], "finite"),
        ([1, 2, 3], [4, 4, 4], "all of one side are equal"),
    ],
)
def test_values_without_a_correlation(x: list[float], y: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        correlate(x, y)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [([1], [1, 2], "at least two"), ([1, math.inf], [1, 2], "finite"), ([1, 1], [2, 2], "constant")],
)
def test_groups_without_a_test(a: list[float], b: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_groups(a, b)


def test_bootstrap_against_scipy() -> None:
    generator = np.random.default_rng(1)
    x = generator.normal(size=40)
    y = x + generator.normal(size=40)
    for statistic in (pearson, kendall):
        wanted = stats.bootstrap(
            (x, y), statistic, paired=True, vectorized=False, n_resamples=2000, method="percentile", rng=3
        ).confidence_interval
        low, high = bootstrap(statistic, x.tolist(), y.tolist())
        assert low == pytest.approx(wanted.low, abs=0.03)
        assert high == pytest.approx(wanted.high, abs=0.03)
    assert bootstrap(pearson, X, Y) == bootstrap(pearson, X, Y)
    with pytest.raises(ValueError, match="all values of one side are equal"):
        bootstrap(pearson, [1, 1, 1], [1, 2, 3])
