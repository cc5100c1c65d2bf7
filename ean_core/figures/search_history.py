"""A search as a picture: ``search.png``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from ean_core.errors import UserError
from ean_core.figures import BLUE, GREY, ORANGE


def search_history(entries: Sequence[dict[str, Any]], metric: str) -> Figure:
    """Every scheme of a search as a row of bits over the steps, and seven curves.

    Args:
        entries: The candidates of a ``search.jsonl``, in order.
        metric: The measure, of those in the entries, that is drawn.

    Raises:
        UserError: There is no candidate.
    """
    if not entries:
        raise UserError("nothing to draw: the search has no candidate")
    figure = Figure(figsize=(13, 9), layout="constrained")
    grid = figure.add_gridspec(4, 3, width_ratios=(1.15, 1, 1))
    best = _draw_schemes(figure.add_subplot(grid[:, 0]), entries)
    panels = [figure.add_subplot(grid[row, column]) for row in range(4) for column in (1, 2)]
    _draw_points(panels[0], entries, [e["reward"] for e in entries], "reward", ("best so far", np.fmax.accumulate))
    _draw_points(panels[1], entries, [e.get(metric) for e in entries], metric)
    _draw_points(panels[2], entries, [e["sparsity"] for e in entries], "sparsity (fraction of blocks left out)")
    panels[2].set_ylim(-0.03, 1.03)
    _draw_points(panels[3], entries, [e["strategy"].get("curiosity") for e in entries], "curiosity bonus")
    _draw_unique(panels[4], entries)
    _draw_points(panels[5], entries, [e["strategy"].get("p") for e in entries], "mean p of a scheme's bits")
    panels[5].set_ylim(0.4, 1.03)
    _draw_blocks(panels[6], entries)
    _draw_trade_off(panels[7], entries, metric, best)
    for panel in (*panels[4:6], panels[6]):
        panel.set_xlabel("step" if panel is not panels[6] else "block")
    figure.suptitle(
        f"{len(entries)} candidates, {len({e['scheme'] for e in entries})} different, "
        f"{sum(e['failed'] for e in entries)} failed; best reward {best['reward']:.3f}: {best['scheme']}"
        if best
        else f"{len(entries)} candidates, all failed",
        fontsize=11,
    )
    return figure


def _draw_schemes(axes: Axes, entries: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The raster: a row per candidate, a column per block; lines between stages, an arrow at the best."""
    stages = entries[0]["scheme"].split("-")
    raster = np.array([[bit == "1" for bit in e["scheme"].replace("-", "")] for e in entries])  # (candidates, m)
    steps = [e["step"] for e in entries]
    m = raster.shape[1]
    axes.imshow(
        raster,
        aspect="auto",
        interpolation="nearest",
        cmap=ListedColormap(["white", BLUE]),
        vmin=0,
        vmax=1,
        extent=(0.5, m + 0.5, len(entries) + 0.5, 0.5),
    )
    for edge in np.cumsum([len(stage) for stage in stages])[:-1]:
        axes.axvline(edge + 0.5, color=ORANGE, linewidth=1.5)
    ticks = np.unique(np.linspace(0, len(entries) - 1, 9).astype(int))
    axes.set_yticks(ticks + 1, [str(steps[i]) for i in ticks])
    axes.set(xlabel="block", ylabel="step", title="schemes: blue = connected, orange = between stages")
    scored = [(e["reward"], -i) for i, e in enumerate(entries) if not e["failed"]]
    if not scored:
        return None
    row = -max(scored)[1]
    axes.annotate(
        "best",
        (m + 0.5, row + 1),
        (m + 0.5 + 0.03 * m, row + 1),
        color=ORANGE,
        va="center",
        arrowprops={"arrowstyle": "->", "color": ORANGE},
        annotation_clip=False,
    )
    return entries[row]


def _draw_points(
    axes: Axes, entries: Sequence[dict[str, Any]], values: Sequence[float | None], title: str, line: Any = None
) -> None:
    """Every candidate as a dot, the mean over neighbouring candidates as a line."""
    axes.set_title(title, fontsize=10)
    steps = np.array([e["step"] for e in entries])
    numbers = np.array([np.nan if v is None else v for v in values], dtype=float)
    if np.isnan(numbers).all():
        axes.text(0.5, 0.5, "not reported by this strategy", ha="center", va="center", transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    axes.plot(steps, numbers, ".", color=GREY, markersize=3, alpha=0.6)
    axes.plot(steps, _smooth(numbers), color=BLUE, label="moving average")
    if line is not None:
        axes.plot(steps, line[1](numbers), color=ORANGE, label=line[0])
        axes.legend(fontsize=8)
    axes.grid(alpha=0.3)


def _draw_unique(axes: Axes, entries: Sequence[dict[str, Any]]) -> None:
    seen: set[str] = set()
    counts = [len(seen) for e in entries if not seen.add(e["scheme"])]  # type: ignore[func-returns-value]
    axes.plot([e["step"] for e in entries], counts, color=BLUE, label="different schemes")
    axes.plot([e["step"] for e in entries], range(1, len(entries) + 1), "--", color=GREY, label="candidates")
    axes.set_title("different schemes so far", fontsize=10)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)


def _draw_blocks(axes: Axes, entries: Sequence[dict[str, Any]]) -> None:
    """How often each block was connected, in the first and in the last fifth of the search."""
    raster = np.array([[bit == "1" for bit in e["scheme"].replace("-", "")] for e in entries])
    part = max(len(entries) // 5, 1)
    x = np.arange(1, raster.shape[1] + 1)
    axes.bar(x, raster[-part:].mean(0), color=BLUE, label="last fifth")
    axes.step(x, raster[:part].mean(0), where="mid", color=ORANGE, label="first fifth")
    axes.set_title("how often a block is connected", fontsize=10)
    axes.set_ylim(0, 1.4)
    axes.set_yticks([0, 0.5, 1])
    axes.legend(fontsize=8, loc="upper center", ncols=2)


def _draw_trade_off(axes: Axes, entries: Sequence[dict[str, Any]], metric: str, best: dict[str, Any] | None) -> None:
    """The metric against the sparsity, coloured by step."""
    points = [(e["sparsity"], e[metric], e["step"]) for e in entries if not e["failed"] and e.get(metric) is not None]
    axes.set_title(f"{metric} against sparsity (dark = late)", fontsize=10)
    if points:
        x, y, step = zip(*points, strict=True)
        axes.scatter(x, y, c=step, cmap="Blues", s=9, vmin=-0.3 * max(step))
    if best is not None and metric in best:
        axes.plot(best["sparsity"], best[metric], "o", color=ORANGE, fillstyle="none", markersize=10)
    axes.set_xlabel("sparsity")
    axes.grid(alpha=0.3)


def _smooth(values: np.ndarray) -> np.ndarray:
    """The mean of the last candidates (a twentieth of the search), leaving out NaN."""
    width = max(len(values) // 20, 1)
    out = np.full(len(values), np.nan)
    for i in range(len(values)):
        window = values[max(0, i - width + 1) : i + 1]
        if not np.isnan(window).all():
            out[i] = np.nanmean(window)
    return out
