"""Keeping the last and the best checkpoint of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ean_core.errors import UserError
from ean_core.files import replacing

LAST, BEST = "last.pth", "best.pth"


@HOOKS.register_module()
class SaveHook(Hook):
    """Write ``last.pth`` when an epoch and its validation are over, and ``best.pth`` when a metric improves.

    Unlike MMEngine's ``CheckpointHook`` it replaces a file in one step, so a run killed at any moment leaves a whole
    checkpoint, and ``last.pth`` always holds the validation of its own epoch.

    Args:
        metric: The validation metric that decides, e.g. ``"mIoU"``.
        rule: ``"greater"`` or ``"less"`` is better.
        interval: Epochs between two ``last.pth``.
    """

    priority = "VERY_LOW"

    def __init__(self, metric: str, rule: str = "greater", interval: int = 1) -> None:
        if rule not in ("greater", "less"):
            raise UserError(f"SaveHook: rule must be 'greater' or 'less', got {rule!r}")
        if interval < 1:
            raise UserError(f"SaveHook: interval must be at least 1 epoch, got {interval}")
        self.metric = metric
        self.sign = 1 if rule == "greater" else -1
        self.interval = interval

    def before_train(self, runner: Any) -> None:
        """Note where this run starts, so that nothing is saved before the first epoch."""
        self._start = runner.epoch

    def before_train_epoch(self, runner: Any) -> None:
        """Save the epoch that has just ended, its validation included."""
        if runner.epoch > self._start and runner.epoch % self.interval == 0:
            self._save(runner, LAST, runner.epoch)

    def after_train(self, runner: Any) -> None:
        """Save the final state."""
        if runner.epoch > self._start:
            self._save(runner, LAST, runner.epoch)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Save the weights when the metric has improved (a NaN never has)."""
        if self.metric not in (metrics or {}):
            return
        score = float(metrics[self.metric])  # type: ignore[index]
        best = runner.message_hub.get_info("best_score", None)
        if score == score and (best is None or self.sign * (score - best) > 0):
            runner.message_hub.update_info("best_score", score)
            runner.message_hub.update_info("best_epoch", runner.epoch)
            self._save(runner, BEST, runner.epoch, optimizer=False)

    def _save(self, runner: Any, name: str, epoch: int, optimizer: bool = True) -> None:
        if not is_main_process():
            return
        with replacing(Path(runner.work_dir, name)) as part:
            runner.save_checkpoint(
                runner.work_dir,
                part.name,
                save_optimizer=optimizer,
                save_param_scheduler=optimizer,
                meta={"epoch": epoch, "iter": runner.iter},
            )
