"""What a verification shows: every run, the paired differences, and the supernet against the trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ean_core.figures import BLUE, GREY, ORANGE
from ean_core.figures.supernet_correlation import draw_correlation

COLOUR = {"found": ORANGE, "reference": BLUE, "chosen": "#8b5fb0", "random": GREY}
LONGEST = 16  # characters of a name


def draw_verdict(result: Mapping[str, Any]) -> Figure:
    """The runs of every network, the differences of the found one to the others, and the correlation if it is known.

    Args:
        result: The content of ``verify.json``: ``contestants``, ``differences``, ``correlation``, ``metric``, ``rule``.
    """
    rows, correlation = result["contestants"], result.get("correlation")
    height = max(4.6, 2.2 + 0.34 * len(rows))
    figure = Figure(figsize=(16 if correlation else 11.5, height), layout="constrained")
    axes = figure.subplots(1, 3 if correlation else 2, width_ratios=(1.2, 1, 0.9) if correlation else (1.2, 1))
    better = "higher is better" if result["rule"] == "greater" else "lower is better"
    unit = f"{result['metric']} on the test images ({better})"
    _runs(axes[0], rows, unit)
    _differences(axes[1], result["differences"], result["metric"], result["rule"])
    if correlation:
        draw_correlation(axes[2], correlation, result["metric"])
    figure.suptitle(result["verdict"][0].removeprefix("VERDICT: "), fontsize=11, x=0.01, ha="left")
    return figure


def _runs(axes: Axes, rows: Sequence[Mapping[str, Any]], unit: str) -> None:
    """A dot a seed, the mean as a bar, its 95 % interval as a line."""
    names = []
    for place, row in enumerate(rows):
        values, colour = list(row["values"].values()), COLOUR[row["group"]]
        increment = row.get("increment")
        name = row["name"] if len(row["name"]) <= LONGEST else f"{row['name'][: LONGEST - 1]}…"
        names.append(name if increment is None else f"{name}  ({increment:+.0f} %)")
        if not values:
            continue
        axes.plot(values, np.full(len(values), place), "o", color=colour, markersize=5, alpha=0.6)
        axes.plot([row["mean"]] * 2, [place - 0.3, place + 0.3], color=colour, linewidth=2.2)
        if row["low"] is not None:
            axes.plot([row["low"], row["high"]], [place] * 2, color=colour, linewidth=1.2)
    values = [value for row in rows for value in row["values"].values()]
    spread = max(np.ptp(values), 1e-3)
    axes.set_xlim(min(values) - 0.35 * spread, max(values) + 0.35 * spread)  # intervals of two seeds are far longer
    axes.set_yticks(range(len(rows)), names, fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(f"{unit}\ndot: a seed, bar: mean, line: its 95 % interval\nin brackets: Eq. 9, the inference time")
    axes.grid(alpha=0.3, axis="x")


def _differences(axes: Axes, rows: Sequence[Mapping[str, Any]], metric: str, rule: str) -> None:
    names = []
    for place, row in enumerate(rows):
        p = row["p_holm"]
        names.append(f"{row['other']}\n" + ("no test" if p is None else f"p = {p:.2g} (Holm)"))
        shown = p is not None and p < 0.05
        colour = "#3a923a" if shown and (row["mean"] > 0) == (rule == "greater") else "#b03030" if shown else "#4a4a4a"
        axes.plot(row["mean"], place, "o", color=colour, markersize=7)
        if row["low"] is not None:
            axes.plot([row["low"], row["high"]], [place] * 2, color=colour, linewidth=1.6)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), names, fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(
        f"found - other, {metric}\nmean of the paired seeds, 95 % interval\ngreen: better, red: worse, grey: open"
    )
    axes.grid(alpha=0.3, axis="x")
