"""Curiosity by random network distillation (Burda et al., arXiv 1810.12894), as in the EAN paper's Eq. 7."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Curiosity:
    """A bonus for schemes unlike those seen before: the error of a predictor of a fixed random network.

    ``bonus(a) = || target(a) - predictor(a) ||^2`` for every scheme by itself; the released code hands all schemes of
    a step the same sum. Target: m-32-32-4m, never trained. Predictor: m-32-4m. Both with ReLU.

    Args:
        num_blocks: ``m``.
        hidden: 32 in the authors' code.
        lr: Adam's learning rate for the predictor; 5e-2 in the authors' code.
    """

    def __init__(self, num_blocks: int, hidden: int = 32, lr: float = 5e-2) -> None:
        out = 4 * num_blocks
        self.target = nn.Sequential(
            nn.Linear(num_blocks, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, out)
        ).requires_grad_(False)
        self.predictor = nn.Sequential(nn.Linear(num_blocks, hidden), nn.ReLU(), nn.Linear(hidden, out))
        self.optimizer = torch.optim.Adam(self.predictor.parameters(), lr)

    def errors(self, bits: torch.Tensor) -> torch.Tensor:
        """The squared error of every scheme, with gradient: (n, m) -> (n,)."""
        return (self.target(bits) - self.predictor(bits)).square().sum(1)

    def bonus(self, bits: torch.Tensor) -> torch.Tensor:
        """The bonus of every scheme: (n, m) -> (n,)."""
        return self.errors(bits).detach()

    def learn(self, bits: torch.Tensor) -> None:
        """One step of the predictor on these schemes, which makes them less of a surprise."""
        self.optimizer.zero_grad()
        self.errors(bits).mean().backward()
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Both networks and the optimizer."""
        return {name: getattr(self, name).state_dict() for name in ("target", "predictor", "optimizer")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        for name, value in state.items():
            getattr(self, name).load_state_dict(value)
