"""Drop-path that grows with the training (Larsson et al., ICLR 2017, arXiv 1605.07648), as cells are trained."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ean_core.engine.runner import unwrap
from ean_core.errors import UserError


@HOOKS.register_module()
class DropPathHook(Hook):
    """Set the probability with which a network drops its paths: ``rate * epoch / epochs``, as in DARTS.

    It follows from the epoch alone, so a resumed run goes on with the same.

    Args:
        rate: What it would reach behind the last epoch, in [0, 1).

    Raises:
        UserError: A rate outside [0, 1), or (when training starts) the backbone has no ``drop_path``.
    """

    def __init__(self, rate: float) -> None:
        if not 0 <= rate < 1:
            raise UserError(f"DropPathHook: rate must lie in [0, 1), got {rate}")
        self.rate = rate

    def before_train_epoch(self, runner: Any) -> None:
        """Set it for this epoch."""
        backbone = unwrap(runner.model).backbone
        if not hasattr(backbone, "drop_path"):
            raise UserError(f"DropPathHook: {type(backbone).__name__} has no paths to drop")
        backbone.drop_path = self.rate * runner.epoch / runner.max_epochs
