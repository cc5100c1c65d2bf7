"""Which blocks matter to a search's reward: ``importance.png``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ean_core.errors import UserError
from ean_core.figures import BLUE, GREY, ORANGE

LABELLED = 20  # blocks that still have room for a label each


def block_importance(blocks: Sequence[int], effects: Sequence[tuple[float, float, float, int, int]]) -> Figure:
    """What each connection adds to the mean reward: a dot a block, with its interval.

    Args:
        blocks: Number of blocks of each stage.
        effects: By block: the difference of the mean rewards with and without its connection, both ends of its 95 %
            interval, and how many schemes have the connection and have it not. A NaN is not drawn as a number.

    Raises:
        UserError: There is no block.
    """
    if not effects:
        raise UserError("nothing to draw: no candidate of the search succeeded")
    table = np.array(effects, float)  # (m, 5)
    effect, low, high = table[:, :3].T
    x = np.arange(1, len(effects) + 1)
    figure = Figure(figsize=(max(6.5, 0.22 * len(x) + 3), 4.2), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color="black", linewidth=0.8)
    certain = (low > 0) | (high < 0)  # False for NaN
    measured = np.isfinite(low)
    for chosen, colour, label in (
        (measured & certain, BLUE, "95 % interval without 0"),
        (measured & ~certain, GREY, "95 % interval with 0"),
    ):
        if chosen.any():
            errors = np.stack([effect - low, high - effect])[:, chosen]
            axes.errorbar(
                x[chosen], effect[chosen], errors, fmt="o", color=colour, capsize=3, markersize=5, label=label
            )
    alone = ~measured & np.isfinite(effect)
    if alone.any():
        axes.plot(x[alone], effect[alone], "o", color=GREY, fillstyle="none", label="one scheme only on a side")
    empty = ~np.isfinite(effect)
    if empty.any():
        axes.plot(x[empty], np.zeros(empty.sum()), "x", color=ORANGE, label="connected in all schemes, or in none")
    for edge in np.cumsum(blocks)[:-1]:
        axes.axvline(edge + 0.5, color=ORANGE, linewidth=1.2)
    names = [f"{stage}.{block}" for stage, count in enumerate(blocks, 1) for block in range(1, count + 1)]
    every = -(-len(x) // (2 * LABELLED))
    axes.set_xticks(x[::every], names[::every], rotation=90 if len(x) > LABELLED else 0, fontsize=9)
    axes.set_xlim(0.4, len(x) + 0.6)
    axes.set(xlabel="stage.block", ylabel="mean reward with - without the connection")
    schemes = effects[0][3] + effects[0][4]
    axes.set_title(f"what each connection adds to the reward, over {schemes} different schemes", fontsize=11)
    axes.grid(alpha=0.3, axis="y")
    figure.legend(fontsize=8, loc="outside lower center", ncols=4)  # inside it would cover intervals
    return figure
