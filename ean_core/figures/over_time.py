"""Numbers of a video's frames as curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from ean_core.figures import COLOURS


def over_time(seconds: Sequence[float], curves: Mapping[str, Sequence[float]], title: str) -> Figure:
    """One curve for each name, against the time.

    Args:
        seconds: Of each frame, from the video's beginning.
        curves: The values of each frame, by name.
        title: Above the axes.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    for colour, (name, values) in zip(COLOURS, curves.items(), strict=False):
        axes.plot(seconds, values, color=colour, label=name, linewidth=1.4, marker="." if len(seconds) < 40 else None)
    axes.set(xlabel="seconds", title=title)
    axes.set_ylabel("people" if "count" in curves else "")
    axes.set_ylim(bottom=min(0.0, *(min(values) for values in curves.values())))
    axes.grid(alpha=0.3)
    if len(curves) > 1:
        axes.legend()
    return figure
