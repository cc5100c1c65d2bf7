"""The replay buffer: the schemes of past steps, each with its own probabilities, reward and bonus."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Entry:
    """One step of the search; row ``j`` of every tensor belongs to scheme ``j``.

    Attributes:
        bits: The schemes, (n, m).
        probs: The probability that the controller of that time gave each bit, (n, m).
        rewards: The rewards as they were told, (n,): what they are worth is a matter of today's averages.
        bonus: The curiosity bonuses of that time, (n,).
    """

    bits: torch.Tensor
    probs: torch.Tensor
    rewards: torch.Tensor
    bonus: torch.Tensor


class ReplayBuffer:
    """The last ``size`` steps.

    Args:
        size: 30 in the authors' code.
    """

    def __init__(self, size: int = 30) -> None:
        self.entries: deque[Entry] = deque(maxlen=size)

    def add(self, bits: torch.Tensor, probs: torch.Tensor, rewards: torch.Tensor, bonus: torch.Tensor) -> None:
        """Remember a step: (n, m), (n, m), (n,), (n,)."""
        self.entries.append(Entry(bits, probs.detach(), rewards.detach(), bonus.detach()))

    def sample(self, generator: torch.Generator) -> Entry:
        """One past step, drawn uniformly."""
        return self.entries[int(torch.randint(len(self.entries), (), generator=generator))]

    def state_dict(self) -> dict[str, Any]:
        """All entries."""
        return {"entries": [vars(entry) for entry in self.entries]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.entries.clear()
        self.entries.extend(Entry(**entry) for entry in state["entries"])
