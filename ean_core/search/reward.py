"""From measurements of a network to the one number that a search maximises."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ean_core.errors import UserError, building, shortened
from ean_core.scheme import ConnectionScheme
from ean_core.search.log import is_number


@dataclass(frozen=True)
class Term:
    """One summand of a reward: ``+ weight * metric`` when more is better, ``- weight * metric`` when less is.

    Attributes:
        metric: ``"sparsity"`` (Eq. 6) or ``"connections"`` (the number of connected blocks), both of the scheme
            itself, or whatever the evaluator reports: ``"accuracy"``, ``"mIoU"``, ``"MAE"``, ``"latency"`` (Eq. 9).
        weight: Positive.
        direction: ``"up"`` or ``"down"`` is better.
    """

    metric: str
    weight: float = 1.0
    direction: str = "up"

    def __post_init__(self) -> None:
        if self.direction not in ("up", "down"):
            raise UserError(f"direction of the reward term '{self.metric}' must be 'up' or 'down'")
        if not is_number(self.weight) or not self.weight > 0:
            raise UserError(f"weight of the reward term '{self.metric}' must be positive: use direction='down'")


@dataclass(frozen=True)
class Reward:
    """A weighted sum of terms; by default the authors' ``accuracy % + 2 sparsity - 54``.

    The offset changes nothing once the search's baseline has settled.

    Attributes:
        terms: The summands.
        offset: Added to the sum; -54 in the authors' ImageNet code.
        aims: What a search shows the trade-off between. The sum stays the one number of strategies that need one, and
            decides which point of the front is picked.
    """

    terms: tuple[Term, ...] = (Term("accuracy"), Term("sparsity", 2.0))
    offset: float = -54.0
    aims: tuple[Term, ...] = ()

    def __call__(self, scheme: ConnectionScheme, metrics: Mapping[str, float]) -> float:
        """The reward of a scheme with these measurements; NaN if one of them, or an aim, is not finite.

        Raises:
            UserError: A term's or an aim's metric was not measured.
        """
        values, total = self.measured(scheme, metrics), self.offset
        for term in self.terms:
            total += term.weight * values[term.metric] * (1 if term.direction == "up" else -1)
        return total if all(map(math.isfinite, (total, *self.values(scheme, metrics)))) else math.nan

    def values(self, scheme: ConnectionScheme, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """The aims of a scheme with these measurements, all so that more is better: negative where less is."""
        values = self.measured(scheme, metrics)
        return tuple(values[aim.metric] * (1 if aim.direction == "up" else -1) for aim in self.aims)

    def measured(self, scheme: ConnectionScheme, metrics: Mapping[str, float]) -> dict[str, float]:
        """These measurements, and what the scheme itself tells.

        Raises:
            UserError: A term's or an aim's metric is not among them.
        """
        values = {**metrics, "sparsity": scheme.sparsity, "connections": sum(scheme)}
        for term in (*self.terms, *self.aims):
            if term.metric not in values:
                raise UserError(f"no metric '{term.metric}' for the reward: measured are {', '.join(sorted(values))}")
        return values

    @property
    def config(self) -> dict[str, Any]:
        """What :func:`build_reward` makes this reward from."""
        config = asdict(self)
        return config if self.aims else {"terms": config["terms"], "offset": config["offset"]}


def build_reward(
    terms: Sequence[Mapping[str, Any]] | None = None,
    offset: float | None = None,
    aims: Sequence[Mapping[str, Any]] | None = None,
) -> Reward:
    """A reward from a config, e.g. ``[dict(metric="mIoU"), dict(metric="latency", weight=0.1, direction="down")]``.

    Args:
        terms: The fields of :class:`Term`; ``None`` for the aims, and without any for the authors' terms.
        offset: ``None`` for the authors' -54 with their terms, and 0 with others.
        aims: Two or more, with the fields of :class:`Term`, e.g. ``[dict(metric="accuracy"), dict(metric="latency",
            direction="down")]``. Their weights matter only where they are the terms as well.

    Raises:
        UserError: A term is not understood, or there is one aim.
    """
    if aims is not None and len({aim.get("metric") for aim in aims if isinstance(aim, Mapping)}) < max(len(aims), 2):
        raise UserError("search.reward.aims are two or more different metrics: a single one goes into terms")
    if offset is not None and not is_number(offset):
        raise UserError(f"search.reward.offset must be a number, got {shortened(offset)}")
    terms = terms if terms is not None else aims
    if terms is None:
        return Reward() if offset is None else Reward(offset=offset)
    if not terms:
        raise UserError("a reward needs at least one term")
    with building("search.reward"):
        parts = [tuple(Term(**part) for part in given or ()) for given in (terms, aims)]
        return Reward(parts[0], offset or 0.0, parts[1])
