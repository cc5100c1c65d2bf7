"""The paper's Fig. 1: what attention costs in time against what it brings, the parameters as bubbles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from ean_core.figures import COLOURS, label


def cost_bubbles(rows: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """``increment`` in % (x, with its quartiles) against ``accuracy`` in % or else ``macs`` (y).

    Args:
        rows: Each with ``name``, ``increment``, ``low``, ``high``, ``parameters``, ``macs``; the accuracy is drawn
            if all rows have one.
        title: Above the picture.
    """
    by_accuracy = all(row.get("accuracy") is not None for row in rows)
    values = [row["accuracy"] if by_accuracy else row["macs"] / 1e9 for row in rows]
    largest = max(row["parameters"] for row in rows)
    figure = Figure(figsize=(8.5, 5), layout="constrained")
    axes = figure.add_subplot()
    for i, (row, y) in enumerate(zip(rows, values, strict=True)):
        x, colour = row["increment"], COLOURS[i % len(COLOURS)]
        spread = [[max(0.0, x - row["low"])], [max(0.0, row["high"] - x)]]
        text = f"{label(row['name'])}: {x:+.1f} %, {row['parameters'] / 1e6:.2f} M parameters"
        axes.errorbar(x, y, xerr=spread, color=colour, capsize=3, linewidth=1, zorder=3)
        axes.scatter(x, y, s=900 * row["parameters"] / largest, color=colour, alpha=0.35, zorder=2)
        axes.scatter(x, y, s=14, color=colour, label=text, zorder=4)
    axes.margins(0.18)
    axes.grid(alpha=0.3)
    axes.ticklabel_format(useOffset=False)
    axes.set_xlabel("inference time increment over the network without attention, % (Eq. 9; bars: quartiles)")
    axes.set_ylabel("accuracy, %" if by_accuracy else "multiply-accumulates an image, G")
    axes.set_title(label(title, 90), fontsize=10)
    axes.legend(loc="best", fontsize=8, framealpha=0.9)
    return figure
