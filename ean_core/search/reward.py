"""From measurements of a network to the one number that a search maximises."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ean_core.errors import UserError, building, shortened
from ean_core.scheme import ConnectionScheme


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class Term:
    """One summand of a reward: ``+ weight * metric`` when more is better, ``- weight * metric`` when less is.

    Attributes:
        metric: ``"sparsity"`` (Eq. 6, taken from the scheme), or whatever the evaluator reports: ``"accuracy"``,
            ``"mIoU"``, ``"MAE"``, ``"latency"`` (Eq. 9).
        weight: Positive.
        direction: ``"up"`` or ``"down"`` is better.
    """

    metric: str
    weight: float = 1.0
    direction: str = "up"

    def __post_init__(self) -> None:
        if self.direction not in ("up", "down"):
            raise UserError(f"direction of the reward term '{self.metric}' must be 'up' or 'down'")
        if not _is_number(self.weight) or not self.weight > 0:
            raise UserError(f"weight of the reward term '{self.metric}' must be positive: use direction='down'")


@dataclass(frozen=True)
class Reward:
    """A weighted sum of terms; by default the authors' ``accuracy % + 2 sparsity - 54``.

    The offset changes nothing once the search's baseline has settled.

    Attributes:
        terms: The summands.
        offset: Added to the sum; -54 in the authors' ImageNet code.
    """

    terms: tuple[Term, ...] = (Term("accuracy"), Term("sparsity", 2.0))
    offset: float = -54.0

    def __call__(self, scheme: ConnectionScheme, metrics: Mapping[str, float]) -> float:
        """The reward of a scheme with these measurements; NaN if one of them is not finite.

        Raises:
            UserError: A term's metric was not measured.
        """
        values = {**metrics, "sparsity": scheme.sparsity}
        total = self.offset
        for term in self.terms:
            if term.metric not in values:
                raise UserError(f"no metric '{term.metric}' for the reward: measured are {', '.join(sorted(values))}")
            total += term.weight * values[term.metric] * (1 if term.direction == "up" else -1)
        return total if math.isfinite(total) else math.nan

    @property
    def config(self) -> dict[str, Any]:
        """What :func:`build_reward` makes this reward from."""
        return asdict(self)


def build_reward(terms: Sequence[Mapping[str, Any]] | None = None, offset: float | None = None) -> Reward:
    """A reward from a config, e.g. ``[dict(metric="mIoU"), dict(metric="latency", weight=0.1, direction="down")]``.

    Args:
        terms: The fields of :class:`Term`; ``None`` for the authors' terms.
        offset: ``None`` for the authors' -54 with their terms, and 0 with others.

    Raises:
        UserError: A term is not understood.
    """
    if offset is not None and not _is_number(offset):
        raise UserError(f"search.reward.offset must be a number, got {shortened(offset)}")
    if terms is None:
        return Reward() if offset is None else Reward(offset=offset)
    if not terms:
        raise UserError("a reward needs at least one term")
    with building("search.reward"):
        return Reward(tuple(Term(**term) for term in terms), offset or 0.0)
