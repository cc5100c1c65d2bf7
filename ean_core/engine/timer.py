"""How long iterations take, whatever happens to the system's clock."""

from __future__ import annotations

import time
from typing import Any

from mmengine.hooks import IterTimerHook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class SteadyTimerHook(IterTimerHook):
    """MMEngine's timer, in which an iteration during which the clock is set back takes no time instead of less.

    It measures by the time of day; a summer's end would give the rest of a log negative times left.
    """

    t: float  # when the last iteration ended

    def _before_iter(self, *args: Any, **kwargs: Any) -> None:
        self.t = min(self.t, time.time())
        super()._before_iter(*args, **kwargs)

    def _after_iter(self, *args: Any, **kwargs: Any) -> None:
        self.t = min(self.t, time.time())
        super()._after_iter(*args, **kwargs)
