"""Random search: the paper's control experiment (its Fig. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ean_core.errors import UserError
from ean_core.scheme import ConnectionScheme
from ean_core.strategies.base import BestSeen


class Random:
    """Independent ``Bernoulli(p)^m`` schemes, repetitions included.

    Args:
        blocks: Number of blocks of each stage.
        seed: Determines the sequence.
        p: Probability of a connection; 0.5 in the paper.
    """

    def __init__(self, blocks: Sequence[int], seed: int = 0, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise UserError(f"strategy random: p must lie in [0, 1], got {p}")
        self.blocks, self.p = tuple(blocks), p
        self.generator = torch.Generator().manual_seed(seed)
        self.seen = BestSeen()

    def ask(self, n: int) -> list[ConnectionScheme]:
        """Draw ``n`` schemes."""
        return [ConnectionScheme.random(self.blocks, self.p, self.generator) for _ in range(n)]

    def tell(self, schemes: Sequence[ConnectionScheme], rewards: Sequence[float]) -> None:
        """Remember the best."""
        self.seen.update(schemes, rewards)

    def best(self) -> ConnectionScheme:
        """The best scheme told of."""
        return self.seen.get()

    def state_dict(self) -> dict[str, Any]:
        """The generator and the best scheme."""
        return {"generator": self.generator.get_state(), "seen": self.seen.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.generator.set_state(state["generator"])
        self.seen.load_state_dict(state["seen"], self.blocks)
