"""Heuristic selection plugging: every N-th block, the paper's hand-made baseline (its Table 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ean_core.errors import UserError
from ean_core.scheme import ConnectionScheme
from ean_core.strategies.base import BestSeen


class HSP:
    """All schemes that connect every ``N``-th block, ``N = 1, 2, ...`` with offsets ``0 .. N - 1``, in this order.

    Over the whole network, so ``1010..`` runs on across stages as in the paper. After the last it starts again.

    Args:
        blocks: Number of blocks of each stage.
        seed: Not used: nothing is random.
        n: Only this ``N``; ``None`` for all.
        max_n: The largest ``N``; the number of blocks when ``None``, where one block is connected.
    """

    def __init__(self, blocks: Sequence[int], seed: int = 0, n: int | None = None, max_n: int | None = None) -> None:
        self.blocks = tuple(blocks)
        periods = [n] if n is not None else range(1, (sum(blocks) if max_n is None else max_n) + 1)
        regular = [ConnectionScheme.every(blocks, k, offset) for k in periods for offset in range(max(k, 1))]
        self.schemes = list(dict.fromkeys(regular))  # a large N leaves one block, whatever N is
        if not self.schemes:
            raise UserError(f"strategy hsp: max_n must be positive, got {max_n}")
        self.position = 0
        self.seen = BestSeen()

    def ask(self, n: int) -> list[ConnectionScheme]:
        """The next ``n`` schemes."""
        chosen = [self.schemes[(self.position + i) % len(self.schemes)] for i in range(n)]
        self.position += n
        return chosen

    def tell(self, schemes: Sequence[ConnectionScheme], rewards: Sequence[float]) -> None:
        """Remember the best."""
        self.seen.update(schemes, rewards)

    def best(self) -> ConnectionScheme:
        """The best scheme told of."""
        return self.seen.get()

    def state_dict(self) -> dict[str, Any]:
        """The position in the list and the best scheme."""
        return {"position": self.position, "seen": self.seen.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.position = state["position"]
        self.seen.load_state_dict(state["seen"], self.blocks)
