"""A training or a test that a signal ends behind an iteration."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from mmengine.hooks import Hook

from ean_core.stopping import steps


class StopHook(Hook):
    """Look behind every iteration whether Ctrl-C or SIGTERM asks to stop (:mod:`ean_core.stopping`).

    Attributes:
        where: What the run is doing, in words.
    """

    priority = "LOWEST"

    def __init__(self) -> None:
        self.where = "its preparation"
        self._run = ExitStack()
        self._done: Callable[[], None] | None = None

    def before_train_epoch(self, runner: Any) -> None:
        """Note the epoch."""
        self.where = f"epoch {runner.epoch + 1}"

    def before_val_epoch(self, runner: Any) -> None:
        """Note the epoch."""
        self.where = f"the validation of epoch {runner.epoch}"

    def before_test_epoch(self, runner: Any) -> None:
        """Note that it is a test."""
        self.where = "the test"

    def _after_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        if self._done is None:
            self._done = self._run.enter_context(steps())
        self._done()

    after_train_iter = after_val_iter = after_test_iter = _after_iter

    def after_run(self, runner: Any) -> None:
        """The last iteration is over."""
        self._run.close()
        self._done = None
