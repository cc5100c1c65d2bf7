"""What a search found between several aims: ``front.png``."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ean_core.figures import BLUE, GREY, ORANGE

LABELS = {
    "accuracy": "accuracy, %",
    "mIoU": "mIoU, %",
    "latency": "latency increment, % (Eq. 9)",
    "connections": "connected blocks",
    "sparsity": "fraction of blocks left out",
}
NUMBERS = 12  # points of the front that are annotated, at most


def pareto_front(
    seen: Sequence[Sequence[float]],
    points: Sequence[Mapping[str, Any]],
    aims: Sequence[Mapping[str, str]],
    written: bool = True,
) -> Figure:
    """All schemes in grey, the front's with their numbers; a panel for each pair of aims.

    Args:
        seen: What was measured of all schemes, a value for each aim.
        points: Those of the front, as in ``front.json``: ``aims`` and ``picked``. Their numbers are those of the scheme
            files ``front/1.json`` and so on.
        aims: ``metric`` and ``direction`` of each; two at least.
        written: Whether the points are those of ``front.json``, and their numbers those of scheme files.
    """
    names = [aim["metric"] for aim in aims]
    directions = {aim["metric"]: "more" if aim["direction"] == "up" else "less" for aim in aims}
    picked = "scheme.json" if written else "highest reward"
    pairs = list(itertools.combinations(range(len(names)), 2))
    rows = -(-len(pairs) // 3)
    columns = min(len(pairs), 3)
    figure = Figure(figsize=(1 + 6.5 * columns, 5.2 * rows), layout="constrained")
    everything = np.asarray(seen, dtype=float).reshape(-1, len(names))
    front = np.array([[point["aims"][name] for name in names] for point in points], dtype=float)
    numbered = set(np.unique(np.linspace(0, len(points) - 1, NUMBERS).round().astype(int)).tolist())
    numbered |= {i for i, point in enumerate(points) if point["picked"]}
    for panel, (first, second) in enumerate(pairs):
        axes = figure.add_subplot(rows, columns, panel + 1)
        x, y = second, first  # the first aim, usually the accuracy, goes up
        axes.plot(everything[:, x], everything[:, y], ".", color=GREY, alpha=0.5, label="all schemes")
        order = np.argsort(front[:, x], kind="stable")
        line = "-" if len(names) == 2 else ""
        axes.plot(front[order, x], front[order, y], f"o{line}", color=BLUE, markersize=5, linewidth=1, label="front")
        for i, point in enumerate(points):
            if point["picked"]:
                axes.plot(*front[i, [x, y]], "o", color=ORANGE, fillstyle="none", markersize=11, label=picked)
        labels: dict[tuple[float, float], list[str]] = {}
        for i in sorted(numbered):
            labels.setdefault((front[i, x], front[i, y]), []).append(str(i + 1))
        for place, texts in labels.items():
            axes.annotate(", ".join(texts), place, (7, -10), textcoords="offset points", fontsize=8, color=BLUE)
        for name, label in ((names[x], axes.set_xlabel), (names[y], axes.set_ylabel)):
            label(f"{LABELS.get(name, name)} ({directions[name]} is better)", fontsize=9)
        axes.margins(0.08)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="best")
    files = "; 1 is front/1.json" if written else ""
    figure.suptitle(f"the front: {len(points)} of {len(everything)} schemes{files}", fontsize=10)
    return figure
