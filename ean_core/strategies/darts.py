"""DARTS (Liu et al., ICLR 2019, arXiv 1806.09055): gates relaxed to [0, 1], trained by gradient, then thresholded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ean_core.scheme import ConnectionScheme
from ean_core.strategies.base import BestSeen, GateLoss, drop_failed, from_bits, to_bits


class DARTS:
    """Gates ``g = sigmoid(alpha)``; every ``ask`` descends a loss of them, in turn with the weights (first order).

    ``ask`` proposes the thresholded gates first and then ``Bernoulli(g)`` schemes around them; rewards only decide
    what is logged. The search it shares with the other strategies has no gradient to give where ``loss`` is missing:
    then the negated least-squares fit of rewards on bits stands in for it, which is our addition.

    Args:
        blocks: Number of blocks of each stage; ``m`` in all.
        seed: Determines the proposals.
        loss: Validation loss of gates (m,); its second argument counts the calls. See
            :meth:`ean_core.search.Evaluator.gate_loss`.
        train_weights: One step of the network's weights on training data under these gates, called before each step
            of the gates. ``None`` keeps the weights of the supernet, which all strategies then share. What it trains
            is not part of this strategy's state.
        lr: Adam; 3e-4 in DARTS, whose search has 50 epochs; one of some hundred steps needs more.
        betas: Of Adam; DARTS.
        weight_decay: On ``alpha``; 1e-3 in DARTS.
        inner_steps: Alternations an ``ask``.
        threshold: A block is connected when its gate is above.
    """

    needs_gate_loss = True

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        seed: int = 0,
        loss: GateLoss | None = None,
        train_weights: Callable[[torch.Tensor], None] | None = None,
        lr: float = 2e-2,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        inner_steps: int = 1,
        threshold: float = 0.5,
    ) -> None:
        self.blocks = tuple(blocks)
        self.alpha = torch.zeros(sum(blocks), requires_grad=True)
        self.optimizer = torch.optim.Adam([self.alpha], lr, betas, weight_decay=weight_decay)
        self.generator = torch.Generator().manual_seed(seed)
        self.loss, self.train_weights = loss, train_weights
        self.inner_steps, self.threshold = inner_steps, threshold
        self.calls = 0
        self.seen = BestSeen()
        self.told: list[tuple[str, float]] = []  # for the fit, where there is no loss

    @property
    def gates(self) -> torch.Tensor:
        """The gates, (m,), with gradient to ``alpha``."""
        return torch.sigmoid(self.alpha)

    def ask(self, n: int) -> list[ConnectionScheme]:
        """Alternate, then the thresholded gates and ``n - 1`` schemes drawn around them."""
        for _ in range(self.inner_steps):
            self.descend()
        gates = self.gates.detach()
        drawn = torch.rand(max(n - 1, 0), len(gates), generator=self.generator) < gates
        return [self.most_probable(), *from_bits(drawn, self.blocks)][:n]

    def descend(self) -> None:
        """One step of the weights, if they are trained, and one of the gates."""
        if self.train_weights is not None:
            self.train_weights(self.gates.detach())
        loss = self.loss or self._fitted_loss
        # A gradient of alpha alone: nothing accumulates in the network's parameters.
        (self.alpha.grad,) = torch.autograd.grad(loss(self.gates, self.calls), self.alpha)
        self.calls += 1
        self.optimizer.step()

    def notes(self, schemes: Sequence[ConnectionScheme]) -> list[dict[str, float]]:
        """Of every scheme the mean of ``g`` where it is connected and ``1 - g`` where it is not, as ``p``."""
        bits, gates = to_bits(schemes), self.gates.detach()
        return [{"p": float(p)} for p in (bits * gates + (1 - bits) * (1 - gates)).mean(1)]

    def tell(self, schemes: Sequence[ConnectionScheme], rewards: Sequence[float]) -> None:
        """Remember the best, and all rewards where they have to stand in for a loss."""
        self.seen.update(schemes, rewards)
        if self.loss is None:
            kept, values = drop_failed(schemes, rewards)
            self.told += zip(map(str, kept), values.tolist(), strict=True)

    def best(self) -> ConnectionScheme:
        """The scheme with the highest reward told of."""
        return self.seen.get()

    def most_probable(self) -> ConnectionScheme:
        """The thresholded gates."""
        return from_bits(self.gates.detach()[None] > self.threshold, self.blocks)[0]

    def state_dict(self) -> dict[str, Any]:
        """The gates, their optimizer, the generator and the rewards."""
        return {
            "alpha": self.alpha.detach().clone(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "calls": self.calls,
            "told": list(self.told),
            "seen": self.seen.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        with torch.no_grad():
            self.alpha.copy_(state["alpha"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.calls, self.told = state["calls"], list(state["told"])
        self.seen.load_state_dict(state["seen"], self.blocks)

    def _fitted_loss(self, gates: torch.Tensor, step: int) -> torch.Tensor:
        """Minus the ridge regression of rewards on bits, at the gates."""
        if not self.told:
            return 0 * gates.sum()
        bits = to_bits([ConnectionScheme.parse(text, self.blocks) for text, _ in self.told])
        rewards = torch.tensor([reward for _, reward in self.told])
        x, y = bits - bits.mean(0), rewards - rewards.mean()
        slope = torch.linalg.solve(x.T @ x + torch.eye(x.shape[1]), x.T @ y)  # (m,)
        return -(slope * gates).sum()
