"""What weighs the gradient of a scheme: its reward and its curiosity bonus, measured against those of late."""

from __future__ import annotations

import math
from typing import Any

import torch

from ean_core.errors import UserError

ROUNDING = 1e-12
"""Rewards whose deviation is below this fraction of their size are equal but for rounding."""
STEPS = 2**16
"""Normalised rewards are multiples of 1 / STEPS: how ``a R + b`` was rounded does not reach the search. Adam needs it,
whose first step has the same size for a gradient that is zero but for rounding as for any other."""


class Running:
    """The moving average and the moving deviation of numbers, in float64: of the first step those of its values alone.

    ``mean <- d mean + (1 - d) average(x)``, then ``variance <- d variance + (1 - d) average((x - mean)^2)``.

    Args:
        decay: ``d``.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.mean: float | None = None
        self.variance = 0.0

    def update(self, values: torch.Tensor) -> None:
        """Take the values of a step, (n,), into account."""
        values = values.double()
        average = float(values.mean())
        keep = 0.0 if self.mean is None else self.decay
        self.mean = average if self.mean is None else keep * self.mean + (1 - keep) * average
        self.variance = keep * self.variance + (1 - keep) * float((values - self.mean).square().mean())

    def standard(self, values: torch.Tensor) -> torch.Tensor:
        """``(x - mean) / deviation`` in steps of 2^-16, (n,) in float64; zeros while all values were equal."""
        values, mean = values.double(), self.mean or 0.0
        deviation = math.sqrt(self.variance)
        if deviation <= ROUNDING * abs(mean):
            return torch.zeros_like(values)
        return ((values - mean) / deviation * STEPS).round() / STEPS

    def state_dict(self) -> dict[str, Any]:
        """Mean and variance."""
        return {"mean": self.mean, "variance": self.variance}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.mean, self.variance = state["mean"], state["variance"]


class Normalised:
    """``(R - mean R) / deviation of R + c (e / mean e - 1)``: the same for rewards ``a R + b``, ``a > 0``, any ``b``.

    Rewards are normalised alone, so a bonus ``e`` of average size is worth ``c`` deviations of the rewards, whatever
    their unit. Both statistics are moving (:class:`Running`); where all rewards were equal only the bonus counts.

    Args:
        curiosity: ``c``.
        decay: Of all averages.
    """

    def __init__(self, curiosity: float, decay: float) -> None:
        self.curiosity = curiosity
        self.rewards, self.bonuses = Running(decay), Running(decay)

    def update(self, rewards: torch.Tensor, bonus: torch.Tensor) -> None:
        """Take a step into account: rewards and bonuses, (n,) each."""
        self.rewards.update(rewards)
        self.bonuses.update(bonus)

    def __call__(self, rewards: torch.Tensor, bonus: torch.Tensor) -> torch.Tensor:
        """The advantages by today's statistics, (n,) in float32; after the first :meth:`update`."""
        usual = self.bonuses.mean
        curious = bonus.double() / usual - 1 if usual else torch.zeros_like(rewards)
        return (self.rewards.standard(rewards) + self.curiosity * curious).float()

    def state_dict(self) -> dict[str, Any]:
        """Both statistics."""
        return {"rewards": self.rewards.state_dict(), "bonuses": self.bonuses.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.rewards.load_state_dict(state["rewards"])
        self.bonuses.load_state_dict(state["bonuses"])


class Authors:
    """``R + c e - mean (R + c e)``, as in the EAN paper and its code: for rewards whose unit is a percent.

    Args:
        curiosity: ``c``.
        decay: Of the moving average.
    """

    def __init__(self, curiosity: float, decay: float) -> None:
        self.curiosity, self.decay = curiosity, decay
        self.baseline: float | None = None

    def update(self, rewards: torch.Tensor, bonus: torch.Tensor) -> None:
        """Take a step into account: rewards and bonuses, (n,) each."""
        mean = float(self._returns(rewards, bonus).mean())
        self.baseline = mean if self.baseline is None else self.decay * self.baseline + (1 - self.decay) * mean

    def __call__(self, rewards: torch.Tensor, bonus: torch.Tensor) -> torch.Tensor:
        """The advantages by today's average, (n,) in float32; after the first :meth:`update`."""
        return self._returns(rewards, bonus) - (self.baseline or 0.0)

    def state_dict(self) -> dict[str, Any]:
        """The average."""
        return {"baseline": self.baseline}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.baseline = state["baseline"]

    def _returns(self, rewards: torch.Tensor, bonus: torch.Tensor) -> torch.Tensor:
        return rewards.float() + self.curiosity * bonus  # Eq. 7


FORMS: dict[str, type[Normalised] | type[Authors]] = {"normalised": Normalised, "authors": Authors}


def build_advantage(form: str, curiosity: float, decay: float) -> Normalised | Authors:
    """``"normalised"`` or ``"authors"``.

    Raises:
        UserError: Another name.
    """
    if form not in FORMS:
        raise UserError(f"advantage must be one of {', '.join(FORMS)}, got {form!r}")
    return FORMS[form](curiosity, decay)
