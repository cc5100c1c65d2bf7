"""A training as curves: ``curves.png``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure


def training_curves(
    history: Sequence[dict[str, Any]], metric: str, unit: str = "%", apart: Mapping[str, str] | None = None
) -> Figure | None:
    """Training loss and learning rate on the left, validation metrics on the right, against epochs.

    Args:
        history: The entries of a ``history.jsonl``.
        metric: The validation metric that is drawn first.
        unit: Of the validation metrics.
        apart: The unit of those that have another one, by name: they have an axis of their own, and broken lines.

    Returns:
        ``None`` before the first validation.
    """
    train = [e for e in history if e["mode"] == "train"]
    val = [e for e in history if e["mode"] == "val"]
    if not train or not val:
        return None
    per_epoch = val[-1]["iter"] / val[-1]["epoch"]
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    x = [e["iter"] / per_epoch for e in train]
    left.plot(x, [e["loss"] for e in train], color="tab:blue")
    left.set(xlabel="epoch", title="training")
    left.set_ylabel("loss", color="tab:blue")
    rate = left.twinx()
    rate.plot(x, [e["lr"] for e in train], color="tab:gray", linestyle="--")
    rate.set_ylabel("learning rate", color="tab:gray")
    rate.set_ylim(bottom=0)
    names = sorted((k for k in val[-1] if k not in ("mode", "epoch", "iter")), key=lambda n: n != metric)
    units = {name: unit_ for name, unit_ in (apart or {}).items() if name in names}
    other = right.twinx() if units else right
    for number, name in enumerate(names):
        axis, style = (other, "--") if name in units else (right, "-")
        values = [e.get(name, math.nan) for e in val]
        axis.plot([e["epoch"] for e in val], values, style, marker=".", label=name, color=f"C{number}")
    right.set(xlabel="epoch", ylabel=unit, title="validation")
    right.grid(alpha=0.3)
    if units:
        other.set_ylabel(f"{', '.join(dict.fromkeys(units.values()))} (broken line)")
        other.set_ylim(bottom=0)
    lines = [*right.get_lines(), *(other.get_lines() if units else [])]
    # Below the axes: two axes know nothing of each other's lines, and a legend inside would cover some.
    labels = [str(line.get_label()) for line in lines]
    other.legend(lines, labels, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, frameon=False)
    return figure
