"""Whether a supernet's judgement of schemes is that of stand-alone training, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ean_core.figures import COLOURS


def supernet_correlation(
    supernet: Mapping[str, Sequence[float]], alone: Mapping[str, Sequence[float]], found: str, groups: str = ""
) -> Figure:
    """Supernet against stand-alone accuracy, and the stand-alone accuracies of each group of schemes.

    Args:
        supernet: By group, the accuracies in the supernet, in %.
        alone: By group, those after training from scratch, in the same order.
        found: The correlation of all schemes in words, a title.
        groups: How the groups differ in words, another title.
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
        title=found,
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
    right.set_title(groups, fontsize=10)
    return figure


def _jitter(count: int) -> np.ndarray:
    return np.linspace(-0.2, 0.2, count) if count > 1 else np.zeros(count)
