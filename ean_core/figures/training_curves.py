"""A training as curves: ``curves.png``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure


def training_curves(history: Sequence[dict[str, Any]], metric: str, unit: str = "%") -> Figure | None:
    """Training loss and learning rate on the left, validation metrics on the right, against epochs.

    Args:
        history: The entries of a ``history.jsonl``.
        metric: The validation metric that is drawn first.
        unit: Of the validation metrics.

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
    names = [k for k in val[-1] if k not in ("mode", "epoch", "iter")]
    for name in sorted(names, key=lambda n: n != metric):
        right.plot([e["epoch"] for e in val], [e.get(name, math.nan) for e in val], marker=".", label=name)
    right.set(xlabel="epoch", ylabel=unit, title="validation")
    right.grid(alpha=0.3)
    right.legend()
    return figure
