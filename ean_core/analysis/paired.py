"""Paired comparisons of trainings that share their seeds: intervals, t tests, Holm's correction, power."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
from scipy import optimize, stats

from ean_core.errors import UserError


@dataclass(frozen=True)
class Mean:
    """A mean with its 95 % interval by Student's t.

    Attributes:
        n: Number of values.
        mean: Their mean.
        sd: Their sample standard deviation; ``None`` for a single value.
        low: ``mean - t(0.975, n - 1) sd / sqrt(n)``; ``None`` for a single value.
        high: The same with a plus.
    """

    n: int
    _: KW_ONLY
    mean: float
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Paired:
    """Do two networks differ, judged by trainings that share their seeds?

    Attributes:
        difference: The differences a - b over the seeds.
        t: ``mean / (sd / sqrt(n))`` of the differences; ``None`` where they do not vary, or there is only one.
        p: Probability of at least this ``|t|`` if both have the same mean (two-sided, ``n - 1`` degrees of freedom).
    """

    difference: Mean
    _: KW_ONLY
    t: float | None
    p: float | None


def mean_of(values: Sequence[float]) -> Mean:
    """Mean and 95 % interval.

    Raises:
        UserError: There are no values.
    """
    x = np.asarray(values, float)
    if not len(x):
        raise UserError("no values: a mean needs at least one")
    mean = float(x.mean())
    if len(x) == 1:
        return Mean(1, mean=mean, sd=None, low=None, high=None)
    sd = float(x.std(ddof=1))
    half = float(stats.t.ppf(0.975, len(x) - 1)) * sd / math.sqrt(len(x))
    return Mean(len(x), mean=mean, sd=sd, low=mean - half, high=mean + half)


def compare_paired(a: Sequence[float], b: Sequence[float]) -> Paired:
    """The paired t test of a against b, whose values belong together one by one.

    Differences that are all equal have no standard error, so there is no test: t and p are then ``None``.

    Raises:
        UserError: Unequal lengths, or no values.
    """
    if len(a) != len(b):
        raise UserError(f"a paired test needs pairs, got {len(a)} and {len(b)} values")
    differences = np.asarray(a, float) - np.asarray(b, float)
    found = mean_of(differences.tolist())
    if found.sd is None or found.sd <= 1e-12 * max(1.0, float(np.abs(differences).max())):
        return Paired(found, t=None, p=None)
    t = found.mean / (found.sd / math.sqrt(found.n))
    return Paired(found, t=t, p=float(2 * stats.t.sf(abs(t), found.n - 1)))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's correction of p values for several comparisons (Scand. J. Statist. 6, 1979).

    In ascending order the i-th of m values (from 0) becomes the largest ``(m - j) p_j`` of those up to it, at most 1.
    ``None`` is no comparison: it stays and does not count.
    """
    known = sorted((p, index) for index, p in enumerate(ps) if p is not None)
    corrected: list[float | None] = [None] * len(ps)
    largest = 0.0
    for place, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - place) * p))
        corrected[index] = largest
    return corrected


def power(effect: float, pairs: int, alpha: float = 0.05) -> float:
    """The probability that a paired t test of so many pairs finds an effect.

    With n pairs the statistic has a noncentral t distribution of n - 1 degrees of freedom, shifted by
    ``effect sqrt(n)``.

    Args:
        effect: The true mean difference, in standard deviations of the differences.
        pairs: At least two.
        alpha: The level of the two-sided test.
    """
    limit, shift = float(stats.t.ppf(1 - alpha / 2, pairs - 1)), abs(effect) * math.sqrt(pairs)
    # SciPy's value is NaN far out in the tail, where it is 0 to all digits.
    wrong_sign = float(stats.nct.cdf(-limit, pairs - 1, shift))
    return float(stats.nct.sf(limit, pairs - 1, shift)) + (0.0 if math.isnan(wrong_sign) else wrong_sign)


def detectable(pairs: int, alpha: float = 0.05, wanted: float = 0.8) -> float:
    """The smallest effect that a paired t test finds with the wanted :func:`power`, in the same unit.

    Raises:
        UserError: Fewer than two pairs.
    """
    if pairs < 2:
        raise UserError(f"a paired test needs at least two pairs, got {pairs}")
    limit = float(stats.t.ppf(1 - alpha / 2, pairs - 1))
    high = 1.0
    while power(high, pairs, alpha) < wanted and high < 1e3 * limit:
        high *= 2
    return float(optimize.brentq(lambda effect: power(effect, pairs, alpha) - wanted, 0.0, high, xtol=1e-10))
