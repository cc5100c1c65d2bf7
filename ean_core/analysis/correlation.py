"""Whether a supernet's judgement of schemes is that of stand-alone training, and whether two groups of schemes differ.

These are the two questions behind the EAN paper's trust in its search: the correlation between supernet and stand-alone
accuracy (Pearson's r = 0.71 over 42 schemes there), and random against searched schemes with a t-test (its Fig. 4).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ean_core.errors import UserError

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Correlation:
    """How two measures of the same n schemes go together.

    Attributes:
        n: Number of pairs.
        pearson: ``cov(x, y) / (sd(x) sd(y))``, of the values.
        pearson_p: Probability of at least this under independence of normal values (two-sided).
        kendall: Tau-b: ``(C - D) / sqrt((C + D + Tx) (C + D + Ty))``, of the orders, with ``C`` concordant and ``D``
            discordant pairs and ``Tx``, ``Ty`` those tied in x or in y alone.
        kendall_p: As ``pearson_p``, of the orders.
        pearson_interval: 95 %, by the :func:`bootstrap`.
        kendall_interval: As ``pearson_interval``.
    """

    n: int
    _: KW_ONLY
    pearson: float
    pearson_p: float
    kendall: float
    kendall_p: float
    pearson_interval: tuple[float, float]
    kendall_interval: tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """Welch's t-test: do two groups with unequal variances have the same mean?

    Attributes:
        means: Of both groups.
        sds: Sample standard deviations.
        t: ``(mean a - mean b) / sqrt(var a / n a + var b / n b)``.
        df: Welch and Satterthwaite's degrees of freedom.
        p: Probability of at least this ``|t|`` if the means are equal (two-sided).
    """

    means: tuple[float, float]
    _: KW_ONLY
    sds: tuple[float, float]
    t: float
    df: float
    p: float


def correlate(x: Sequence[float], y: Sequence[float]) -> Correlation:
    """Pearson's and Kendall's correlation of paired values.

    Raises:
        UserError: Fewer than three pairs, unequal lengths, values that are not finite or all equal.
    """
    a, b = np.asarray(x, float), np.asarray(y, float)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 3:
        raise UserError(f"a correlation needs at least three pairs, got {a.size} and {b.size} values")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise UserError("a correlation needs finite values")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        raise UserError("a correlation needs values that differ: all of one side are equal")
    r, tau = stats.pearsonr(a, b), stats.kendalltau(a, b)
    return Correlation(
        len(a),
        pearson=float(r.statistic),
        pearson_p=float(r.pvalue),
        kendall=float(tau.statistic),
        kendall_p=float(tau.pvalue),
        pearson_interval=bootstrap(pearson, x, y),
        kendall_interval=bootstrap(kendall, x, y),
    )


def compare_groups(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Welch's t-test between two groups.

    Raises:
        UserError: A group with fewer than two values, or values that are not finite, or no spread at all.
    """
    x, y = np.asarray(a, float), np.asarray(b, float)
    if len(x) < 2 or len(y) < 2:
        raise UserError(f"a t-test needs at least two values in each group, got {len(x)} and {len(y)}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise UserError("a t-test needs finite values")
    if np.ptp(x) == 0 and np.ptp(y) == 0:
        raise UserError("a t-test needs values that differ: both groups are constant")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of precision, where one group is constant, which it may be
        test = stats.ttest_ind(x, y, equal_var=False)
    means, sds = (float(x.mean()), float(y.mean())), (float(x.std(ddof=1)), float(y.std(ddof=1)))
    return Difference(means, sds=sds, t=float(test.statistic), df=float(test.df), p=float(test.pvalue))


def bootstrap(
    statistic: Callable[[Values, Values], float],
    x: Sequence[float],
    y: Sequence[float],
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic of pairs, which are drawn anew with replacement.

    Draws of which the statistic is not finite (all of one side equal) are left out.

    Returns:
        The 2.5 and the 97.5 percentile.

    Raises:
        UserError: No draw has a finite statistic.
    """
    a, b = np.asarray(x, float), np.asarray(y, float)
    generator = np.random.default_rng(seed)
    found = []
    for index in generator.integers(len(a), size=(draws, len(a))):
        one, other = a[index], b[index]
        value = statistic(one, other) if np.ptp(one) and np.ptp(other) else math.nan
        if math.isfinite(value):
            found.append(value)
    if not found:
        raise UserError("no interval: all values of one side are equal")
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def pearson(x: Values, y: Values) -> float:
    """``cov(x, y) / (sd(x) sd(y))``."""
    return float(np.corrcoef(x, y)[0, 1])


def kendall(x: Values, y: Values) -> float:
    """Tau-b."""
    return float(stats.kendalltau(x, y).statistic)
