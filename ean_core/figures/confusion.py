"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

WRITTEN = 25  # classes; with more, cells are too small for numbers
NAMED = 60  # classes; with more, only the most frequent are shown


def confusion_matrix(counts: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """A true class a row, a predicted class a column; a cell is the share of the row's pixels in percent.

    Classes that neither occur nor are predicted are left out. Of more than 60 the most frequent are shown.

    Args:
        counts: Pixels by true and by predicted class, (K, K).
        classes: K names.
    """
    weight = counts.sum(0) + counts.sum(1)
    shown = np.sort(np.argsort(-weight, kind="stable")[:NAMED])
    shown = shown[weight[shown] > 0]
    totals = counts.sum(1)[shown]
    shares = 100 * counts[np.ix_(shown, shown)] / np.maximum(totals, 1)[:, None]
    names = [classes[k] for k in shown]
    longest = max((len(name) for name in names), default=1)
    cells = (0.42 if len(names) <= WRITTEN else 0.22) * max(len(names), 4)
    margin = 0.09 * longest + 0.5
    figure = Figure(figsize=(cells + margin + 1.1, cells + margin + 0.4), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(
        np.ma.masked_where((totals == 0)[:, None].repeat(len(names), 1), shares), "Blues", vmin=0, vmax=100
    )
    size = 9 if len(names) <= WRITTEN else 6
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for i, j in np.ndindex(shares.shape) if len(names) <= WRITTEN else ():
        if totals[i] and shares[i, j] >= 0.5:
            colour = "white" if shares[i, j] > 60 else "black"
            axes.text(j, i, f"{shares[i, j]:.0f}", ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(image, ax=axes, label="% of the true class's pixels", shrink=0.8)
    return figure
