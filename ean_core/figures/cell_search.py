"""A search of cells as a picture: ``search.png``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ean_core.cells.genotype import Genotype
from ean_core.errors import UserError
from ean_core.figures import BLUE, GREY, ORANGE
from ean_core.figures.cell_graph import (
    LEGEND,
    OPERATION_COLOURS,
    TITLE,
    add_axes,
    attention_colours,
    cell_reach,
    cell_width,
    draw_cell,
    legend_handles,
    legend_shape,
)

PANEL = 2.65  # the height in inches of a row of panels
WARM_UP, STOP = "#e6e9ee", "#b02a2a"


def draw_search(
    genotype: Genotype, history: Sequence[dict[str, Any]], operations: Sequence[str], attentions: Sequence[str]
) -> Figure:
    """The cells that a search has found, and below them how it went: weights, losses, entropies and skips by epoch.

    Epochs in which the architecture did not learn are grey; a red line is where the search stopped early. Without
    attentions to choose from, as in DARTS, there is nothing of them. Write it as it is.

    Args:
        genotype: What was found.
        history: One entry an epoch.
        operations: The candidates, in the order of the entries' ``operations``.
        attentions: The candidates, in the order of the entries' ``attentions``.

    Raises:
        UserError: There is no epoch.
    """
    if not history:
        raise UserError("nothing to draw: the search of cells has no epoch")
    found = {edge.attention for _, cell in genotype.cells() for node in cell for edge in node}
    chosen = len(attentions) > 1
    shades = ({"none": GREY} if chosen and "none" in attentions else {}) | attention_colours([*attentions, *found])
    cells = dict(genotype.cells())
    below, above = np.max([cell_reach(cell) for cell in cells.values()], axis=0)
    width, graphs = max(2 * cell_width(genotype.normal), 14.0), below + above + TITLE
    legends = [handles for handles in _legends(history, operations, shades) if handles]
    shapes = [legend_shape(handles, width) for handles in legends]
    bottom = 2 * PANEL + sum(height for _, height in shapes) + 0.1
    figure = Figure(figsize=(width, bottom + graphs))
    for i, (name, cell) in enumerate(cells.items()):
        axes = add_axes(figure, i * width / 2, bottom, width / 2, graphs)
        draw_cell(axes, f"{name} cell", cell, shades, below)
    for handles, (columns, height) in zip(legends, shapes, strict=True):
        at = (0.5, bottom / figure.get_figheight())
        figure.legend(handles=handles, loc="upper center", bbox_to_anchor=at, ncols=columns, **LEGEND)
        bottom -= height

    kinds = [("operations", [OPERATION_COLOURS[name] for name in operations])]
    if chosen:
        kinds.append(("attentions", [shades[name] for name in attentions]))
    panels = iter(_row(figure, PANEL, 2 * len(kinds)))
    for cell_name in cells:
        for kind, colours in kinds:
            _draw_means(next(panels), history, kind, cell_name, colours)
    _draw_progress(figure, history, chosen)
    return figure


def _row(figure: Figure, bottom: float, count: int) -> list[Axes]:
    """Panels side by side, as wide as the figure."""
    slot = figure.get_figwidth() / count
    return [add_axes(figure, i * slot + 0.65, bottom + 0.55, slot - 0.8, PANEL - 0.9) for i in range(count)]


def _legends(
    history: Sequence[dict[str, Any]], operations: Sequence[str], shades: Mapping[str, str]
) -> Iterator[Sequence[Artist]]:
    """Of both the graphs and the panels: operations, attentions, and marks."""
    yield legend_handles(operations, {})
    yield legend_handles([], shades)
    marks: list[Artist] = []
    if not all(entry["learning_architecture"] for entry in history):
        marks.append(Patch(facecolor=WARM_UP, label="warm-up: the architecture does not learn"))
    if any(entry.get("stopped") for entry in history):
        marks.append(Line2D([], [], color=STOP, linestyle="--", label="stopped early"))
    yield marks


def _draw_means(axes: Axes, history: Sequence[dict[str, Any]], kind: str, cell: str, colours: Sequence[str]) -> None:
    """A line for each candidate: its probability, the mean over the edges of the cell."""
    means = np.array([np.mean(entry[kind][cell], axis=0) for entry in history])  # (epochs, candidates)
    for values, colour in zip(means.T, colours, strict=True):
        _plot(axes, history, values, color=colour)
    _finish(axes, history, f"{kind}, {cell} cell", "mean probability")
    axes.set_ylim(0, 1.08 * means.max())


def _draw_progress(figure: Figure, history: Sequence[dict[str, Any]], chosen: bool) -> None:
    """Losses, accuracies where there are some, entropies, and skips."""
    accuracies = any(entry.get(key) is not None for entry in history for key in ("train_top1", "val_top1"))
    panels = _row(figure, 0, 4 if accuracies else 3)
    pairs = [("loss", "loss", "mean of the epoch")]
    if accuracies:
        pairs.append(("top1", "accuracy", "top-1, %"))
    for axes, (key, title, unit) in zip(panels, pairs, strict=False):
        for part, colour in (("train", BLUE), ("val", ORANGE)):
            values = [entry.get(f"{part}_{key}") for entry in history]
            if any(value is not None for value in values):
                _plot(axes, history, values, color=colour, label=f"D_{part}")
        _finish(axes, history, title, unit)
    entropy, skips = panels[-2:]
    for key, label, colour in (("alpha", "operations", BLUE), ("beta", "attentions", ORANGE))[: 1 + chosen]:
        _plot(entropy, history, [entry[f"entropy_{key}"] for entry in history], color=colour, label=label)
    entropy.set_ylim(-0.03, 1.06)
    _finish(entropy, history, "entropy of the weights", "entropy / its maximum")
    _plot(
        skips,
        history,
        [entry["skips"] for entry in history],
        color=OPERATION_COLOURS["skip_connect"],
        drawstyle="steps-mid",
    )
    skips.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    skips.set_ylim(-0.3, max(3, *(entry["skips"] for entry in history)) + 0.5)
    _finish(skips, history, "skip connections of the normal cell", "edges")


def _plot(axes: Axes, history: Sequence[dict[str, Any]], values: Any, **style: Any) -> None:
    """A line over the epochs; with its points where they are few."""
    numbers = [math.nan if value is None else value for value in values]
    marker = "." if len(history) < 20 else None
    axes.plot([entry["epoch"] for entry in history], numbers, linewidth=1.6, marker=marker, **style)


def _finish(axes: Axes, history: Sequence[dict[str, Any]], title: str, unit: str) -> None:
    """Labels, and marks for the epochs that are different."""
    for entry in history:
        if not entry["learning_architecture"]:
            axes.axvspan(entry["epoch"] - 0.5, entry["epoch"] + 0.5, color=WARM_UP, linewidth=0, zorder=0)
        if entry.get("stopped"):
            axes.axvline(entry["epoch"], color=STOP, linestyle="--", linewidth=1.2)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("epoch", fontsize=9)
    axes.set_ylabel(unit, fontsize=9)
    axes.set_xlim(history[0]["epoch"] - 0.5, history[-1]["epoch"] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
