"""Search strategies side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ean_core.figures import COLOURS
from ean_core.figures import label as written

FIRST = 10  # evaluations after which curves are worth a closer look


def strategy_comparison(
    curves: Mapping[str, Sequence[Sequence[float]]],
    picks: Mapping[str, Sequence[float]],
    label: str,
    space: int,
) -> Figure:
    """The best reward so far over the evaluations of different schemes, and what each run picked in the end.

    Args:
        curves: By strategy, of every run the best reward after 1, 2, ... evaluations. The line is the mean over
            runs; a run that ended early keeps its last value.
        picks: By strategy, of every run one number.
        label: What that is: ``"rank"`` (drawn logarithmically, with the top 2 % marked) or another name.
        space: The number of all schemes.
    """
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    for colour, (name, runs) in zip(_cycle(len(curves)), curves.items(), strict=True):
        width = max(map(len, runs))
        table = np.array([[*run, *[run[-1]] * (width - len(run))] for run in runs])  # (runs, evaluations)
        x = np.arange(1, width + 1)
        mean = np.ma.masked_invalid(table).mean(0)
        left.plot(x, mean, color=colour, label=written(name))
        left.plot(x[-1], mean[-1], "o", color=colour, markersize=5)
    started = [np.nanmean([run[min(FIRST, len(run)) - 1] for run in runs]) for runs in curves.values()]
    top = max(np.nanmax(run) for runs in curves.values() for run in runs)
    if min(started) < top:  # what the very first schemes gave would squeeze all else
        left.set_ylim(top - 1.6 * (top - min(started)), top + 0.1 * (top - min(started)))
    left.set(xlabel="different schemes evaluated", ylabel="best reward so far (mean of the runs)")
    left.legend(fontsize=8, loc="lower right")
    left.grid(alpha=0.3)
    names = list(picks)
    for row, (colour, name) in enumerate(zip(_cycle(len(names)), names, strict=True)):
        values = np.asarray(picks[name], float)
        spread = np.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else np.zeros(1)
        right.plot(values, row + spread, "o", color=colour, markersize=5, alpha=0.7)
        right.plot([values.mean()] * 2, [row - 0.34, row + 0.34], color=colour, linewidth=2)
    right.set_yticks(range(len(names)), [written(name, 24) for name in names])
    right.set_ylim(len(names) - 0.5, -0.5)
    right.grid(alpha=0.3, axis="x")
    if label == "rank":
        right.set_xscale("log")
        right.set_xlim(0.85, space)
        right.axvspan(0.85, max(0.02 * space, 1), color="#3a923a", alpha=0.1, linewidth=0)
        ticks = [t for t in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 4000) if t <= space]
        right.set_xticks(ticks, list(map(str, ticks)), minor=False)
        right.set_xticks([], minor=True)
        right.set_xlabel(f"place of the pick among all {space:,} schemes\n(dot: a run, bar: mean, green: top 2 %)")
    else:
        right.set_xlabel(f"{label} of the pick (dot: a run, bar: mean)")
    return figure


def _cycle(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]
