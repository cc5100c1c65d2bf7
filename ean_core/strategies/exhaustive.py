"""Every scheme there is, for networks of a few blocks: the truth that a search can be held against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ean_core.errors import UserError
from ean_core.scheme import ConnectionScheme
from ean_core.strategies.base import BestSeen

LIMIT = 12  # blocks: 4,096 schemes


class Exhaustive:
    """All ``2^m`` schemes in the order of their bits read as a number; after the last it starts again.

    Neighbours share long beginnings, which the evaluator computes once.

    Args:
        blocks: Number of blocks of each stage; ``m`` in all.
        seed: Not used: nothing is random.

    Raises:
        UserError: More than 4,096 schemes.
    """

    def __init__(self, blocks: Sequence[int], seed: int = 0) -> None:
        self.blocks, self.m = tuple(blocks), sum(blocks)
        if self.m > LIMIT:
            raise UserError(
                f"strategy exhaustive: {self.m} blocks have {2.0**self.m:,.0f} schemes, and {2**LIMIT:,} are the most "
                "it takes: search instead"
            )
        self.position = 0
        self.seen = BestSeen()

    def ask(self, n: int) -> list[ConnectionScheme]:
        """The next ``n`` schemes."""
        numbers = ((self.position + i) % 2**self.m for i in range(n))
        self.position += n
        return [ConnectionScheme.parse(f"{number:0{self.m}b}", self.blocks) for number in numbers]

    def tell(self, schemes: Sequence[ConnectionScheme], rewards: Sequence[float]) -> None:
        """Remember the best."""
        self.seen.update(schemes, rewards)

    def best(self) -> ConnectionScheme:
        """The best scheme told of."""
        return self.seen.get()

    def state_dict(self) -> dict[str, Any]:
        """The position and the best scheme."""
        return {"position": self.position, "seen": self.seen.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.position = state["position"]
        self.seen.load_state_dict(state["seen"], self.blocks)
