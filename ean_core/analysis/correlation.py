"""Whether a supernet's judgement of schemes is that of stand-alone training, and whether two groups of schemes differ.

These are the two questions behind the EAN paper's trust in its search: the correlation between supernet and stand-alone
accuracy (Pearson's r = 0.71 over 42 schemes there), and random against searched schemes with a t-test (its Fig. 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from ean_core.analysis.comparison import COLOURS, save


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
    """

    n: int
    pearson: float
    pearson_p: float
    kendall: float
    kendall_p: float


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
    sds: tuple[float, float]
    t: float
    df: float
    p: float


def correlate(x: Sequence[float], y: Sequence[float]) -> Correlation:
    """Pearson's and Kendall's correlation of paired values.

    Raises:
        ValueError: Fewer than three pairs, unequal lengths, values that are not finite or all equal.
    """
    a, b = np.asarray(x, float), np.asarray(y, float)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 3:
        raise ValueError(f"a correlation needs at least three pairs, got {a.size} and {b.size} values")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a correlation needs finite values")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        raise ValueError("a correlation needs values that differ: all of one side are equal")
    r, tau = stats.pearsonr(a, b), stats.kendalltau(a, b)
    return Correlation(len(a), float(r.statistic), float(r.pvalue), float(tau.statistic), float(tau.pvalue))


def compare_groups(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Welch's t-test between two groups.

    Raises:
        ValueError: A group with fewer than two values, or values that are not finite, or no spread at all.
    """
    x, y = np.asarray(a, float), np.asarray(b, float)
    if len(x) < 2 or len(y) < 2:
        raise ValueError(f"a t-test needs at least two values in each group, got {len(x)} and {len(y)}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("a t-test needs finite values")
    if np.ptp(x) == 0 and np.ptp(y) == 0:
        raise ValueError("a t-test needs values that differ: both groups are constant")
    test = stats.ttest_ind(x, y, equal_var=False)
    means, sds = (float(x.mean()), float(y.mean())), (float(x.std(ddof=1)), float(y.std(ddof=1)))
    return Difference(means, sds, float(test.statistic), float(test.df), float(test.pvalue))


def plot_correlation(
    supernet: Mapping[str, Sequence[float]],
    alone: Mapping[str, Sequence[float]],
    found: Correlation,
    path: str | Path,
) -> None:
    """Draw supernet against stand-alone accuracy, and the stand-alone accuracies of each group of schemes.

    Args:
        supernet: By group, the accuracies in the supernet, in %.
        alone: By group, those after training from scratch, in the same order.
        found: The correlation of all schemes, for the title.
        path: The PNG to write.
    """
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    x = np.concatenate([np.asarray(values, float) for values in supernet.values()])
    y = np.concatenate([np.asarray(values, float) for values in alone.values()])
    for colour, group in zip(COLOURS, supernet, strict=False):
        left.plot(supernet[group], alone[group], "o", color=colour, markersize=6, alpha=0.75, label=group)
    line = np.polyfit(x, y, 1)
    ends = np.array([x.min(), x.max()])
    left.plot(ends, np.polyval(line, ends), "--", color="#6f6f6f", linewidth=1)
    left.set(
        xlabel="accuracy in the supernet, D_val (%)",
        ylabel="accuracy trained from scratch, test images (%)",
        title=f"{found.n} schemes: Pearson {found.pearson:.2f} (p = {found.pearson_p:.2g}), "
        f"Kendall {found.kendall:.2f} (p = {found.kendall_p:.2g})",
    )
    left.title.set_fontsize(10)
    left.legend(fontsize=9)
    left.grid(alpha=0.3)
    for row, (colour, group) in enumerate(zip(COLOURS, alone, strict=False)):
        values = np.asarray(alone[group], float)
        right.plot(values, row + _jitter(len(values)), "o", color=colour, markersize=6, alpha=0.75)
        right.plot([values.mean()] * 2, [row - 0.3, row + 0.3], color=colour, linewidth=2)
        if len(values) > 1:
            sd = values.std(ddof=1)
            right.plot([values.mean() - sd, values.mean() + sd], [row + 0.34] * 2, color=colour, linewidth=1)
    right.set_yticks(range(len(alone)), [f"{group}\nn = {len(values)}" for group, values in alone.items()])
    right.set_ylim(len(alone) - 0.5, -0.5)
    right.set_xlabel("accuracy trained from scratch, test images (%)\n(dot: a scheme, bar: mean, line: ± 1 sd)")
    right.grid(alpha=0.3, axis="x")
    if len(alone) == 2 and all(len(values) > 1 for values in alone.values()):
        test = compare_groups(*alone.values())
        right.set_title(f"Welch's t-test: t = {test.t:.2f}, p = {test.p:.2g}", fontsize=10)
    save(figure, path)


def _jitter(count: int) -> np.ndarray:
    return np.linspace(-0.2, 0.2, count) if count > 1 else np.zeros(count)
