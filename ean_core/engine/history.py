"""The record of a run: ``history.jsonl`` as it goes, ``curves.png`` and ``metrics.json`` from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ean_core.errors import UserError
from ean_core.figures import save_figure
from ean_core.files import append_line, read_json_lines, write_atomic

HISTORY = "history.jsonl"
Entry = dict[str, Any]


@HOOKS.register_module()
class HistoryHook(Hook):
    """Append one line per logged iteration and per validation to ``history.jsonl``; draw the curves after each.

    A resumed run drops the lines that lie after its checkpoint, so the file reads as if it had run through.

    Args:
        metric: The validation metric by which ``metrics.json`` names the best epoch.
        rule: ``"greater"`` or ``"less"`` is better.
        interval: Iterations between two training lines; each holds the mean loss since the last.
        unit: Of the validation metrics, for the curves.
        apart: The unit of those that have another one, by name.
    """

    priority = "BELOW_NORMAL"  # before the scheduler: the learning rate of a line is the one its step took

    def __init__(
        self,
        metric: str,
        *,
        rule: str = "greater",
        interval: int = 10,
        unit: str = "%",
        apart: Mapping[str, str] | None = None,
    ) -> None:
        if interval < 1:
            raise UserError(f"HistoryHook: interval must be at least 1 iteration, got {interval}")
        self.metric, self.rule, self.interval, self.unit = metric, rule, interval, unit
        self.apart = apart
        self._losses: list[torch.Tensor] = []

    @master_only
    def before_train(self, runner: Any) -> None:
        """Start the file, or cut it back to the checkpoint."""
        self._path = Path(runner.work_dir, HISTORY)
        kept = [e for e in read_history(self._path) if e["iter"] <= runner.iter] if runner.iter else []
        write_atomic(self._path, "".join(json.dumps(entry) + "\n" for entry in kept))

    @master_only
    def before_train_epoch(self, runner: Any) -> None:
        """Losses are averaged within an epoch, which makes the lines independent of where a run was resumed."""
        self._losses.clear()

    @master_only
    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Note the loss; write a line now and then."""
        self._losses.append((outputs or {})["loss"].detach())  # stays on its device until a line is written
        if (batch_idx + 1) % self.interval == 0 or batch_idx + 1 == len(runner.train_dataloader):
            loss = float(torch.stack(self._losses).mean())
            self._losses.clear()
            lr = runner.optim_wrapper.get_lr()["lr"][0]
            self._append(mode="train", epoch=runner.epoch + 1, iter=runner.iter + 1, loss=loss, lr=lr)

    @master_only
    def after_val_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Write a line with the metrics, and draw."""
        if not hasattr(self, "_path"):
            return  # a validation without training
        self._append(
            mode="val", epoch=runner.epoch, iter=runner.iter, **{k: float(v) for k, v in (metrics or {}).items()}
        )
        # Matplotlib: after the first epoch is early enough
        from ean_core.figures.training_curves import training_curves

        figure = training_curves(read_history(self._path), self.metric, self.unit, self.apart)
        if figure is not None:
            save_figure(figure, self._path.with_name("curves.png"))

    @master_only
    def after_train(self, runner: Any) -> None:
        """Write ``metrics.json``: the best and the last validation."""
        values = [e for e in read_history(self._path) if e["mode"] == "val"]
        scored = [e for e in values if math.isfinite(e.get(self.metric, math.nan))]
        if scored:
            pick = max if self.rule == "greater" else min
            summary = {"metric": self.metric, "best": pick(scored, key=lambda e: e[self.metric]), "last": values[-1]}
            write_atomic(self._path.with_name("metrics.json"), json.dumps(summary, indent=2) + "\n")

    def _append(self, **entry: Any) -> None:
        append_line(self._path, json.dumps(entry) + "\n", sync=False)


def read_history(path: Path) -> list[Entry]:
    """The lines of a ``history.jsonl``, none if it is missing.

    Raises:
        UserError: One is not such a line; the message names the file and the line.
    """
    entries = read_json_lines(path)
    for number, entry in enumerate(entries, 1):
        counts = all(isinstance(entry.get(name), int) for name in ("epoch", "iter"))
        numbers = all(isinstance(value, int | float) for name, value in entry.items() if name != "mode")
        if entry.get("mode") not in ("train", "val") or not counts or not numbers:
            raise UserError(f"line {number} of '{path}' is not a line of a training: remove it, or start anew")
    return entries
