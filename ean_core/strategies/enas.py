"""ENAS (Pham et al., ICML 2018, arXiv 1802.03268): an autoregressive LSTM controller trained by REINFORCE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ean_core.scheme import ConnectionScheme
from ean_core.strategies.advantage import Running
from ean_core.strategies.base import BestSeen, drop_failed, from_bits, seeded, to_bits


class ENAS:
    """A bit depends on the bits of all earlier blocks: ``p(a) = prod_i p(a_i | a_1, ..., a_{i-1})``.

    Deviations from ENAS: the search space is ours (one bit per block); the supernet is trained beforehand, as in the
    EAN paper, not in turn with the controller; and rewards are divided by their moving deviation
    (:class:`~ean_core.strategies.advantage.Running`), so that the entropy bonus weighs the same in any unit of theirs.

    Args:
        blocks: Number of blocks of each stage; ``m`` in all.
        seed: Determines everything.
        hidden: Units of the LSTM; 100 in ENAS.
        lr: Adam; 3.5e-4 in ENAS.
        temperature: Divides the logits; 5 in ENAS.
        tanh_constant: Logits are ``c tanh(logits / temperature)``; 2.5 in ENAS.
        entropy: Weight of the entropy bonus, in deviations of the reward; 1e-4 in ENAS.
        baseline_decay: Of the moving averages; 0.95, as in the policy gradient.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        seed: int = 0,
        hidden: int = 100,
        lr: float = 3.5e-4,
        temperature: float = 5.0,
        tanh_constant: float = 2.5,
        entropy: float = 1e-4,
        baseline_decay: float = 0.95,
    ) -> None:
        self.blocks = tuple(blocks)
        with seeded(seed) as self.generator:
            self.controller = nn.ModuleDict(
                {"embed": nn.Embedding(3, hidden), "cell": nn.LSTMCell(hidden, hidden), "out": nn.Linear(hidden, 2)}
            )
        for parameter in self.controller.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1, generator=self.generator)  # as ENAS
        self.optimizer = torch.optim.Adam(self.controller.parameters(), lr)
        self.temperature, self.tanh_constant = temperature, tanh_constant
        self.entropy = entropy
        self.rewards, self.entropies = Running(baseline_decay), Running(baseline_decay)
        self.seen = BestSeen()

    def ask(self, n: int) -> list[ConnectionScheme]:
        """Draw ``n`` schemes, block after block."""
        with torch.no_grad():
            noise = torch.rand(n, sum(self.blocks), generator=self.generator)
            return from_bits(self._unroll(n, noise=noise)[0], self.blocks)

    def notes(self, schemes: Sequence[ConnectionScheme]) -> list[dict[str, float]]:
        """Of every scheme the mean probability ``p`` of its bits."""
        with torch.no_grad():
            log_p = self._unroll(len(schemes), given=to_bits(schemes))[1]
        return [{"p": float(p)} for p in log_p.exp().mean(1)]

    def tell(self, schemes: Sequence[ConnectionScheme], rewards: Sequence[float]) -> None:
        """One step of REINFORCE."""
        self.seen.update(schemes, rewards)
        schemes, raw = drop_failed(schemes, rewards)
        if not schemes:
            return
        _, log_p, entropy = self._unroll(len(schemes), given=to_bits(schemes))
        bonus = entropy.detach().double()
        self.rewards.update(raw)
        self.entropies.update(bonus)
        advantage = self.rewards.standard(raw) + self.entropy * (bonus - (self.entropies.mean or 0.0))  # (n,)
        loss = -(advantage.float() * log_p.sum(1)).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def best(self) -> ConnectionScheme:
        """The scheme with the highest reward told of."""
        return self.seen.get()

    def most_probable(self) -> ConnectionScheme:
        """The scheme of the more probable bit at every block, given those before it."""
        with torch.no_grad():
            return from_bits(self._unroll(1)[0], self.blocks)[0]

    def state_dict(self) -> dict[str, Any]:
        """Network, optimizer, averages and generator."""
        return {
            "controller": self.controller.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "seen": self.seen.state_dict(),
            "rewards": self.rewards.state_dict(),
            "entropies": self.entropies.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.controller.load_state_dict(state["controller"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rewards.load_state_dict(state["rewards"])
        self.entropies.load_state_dict(state["entropies"])
        self.seen.load_state_dict(state["seen"], self.blocks)
        self.generator.set_state(state["generator"])

    def _unroll(
        self, n: int, noise: torch.Tensor | None = None, given: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Bits (given, drawn with the noise, or the likelier), their log-probabilities, both (n, m); entropies (n,)."""
        token = torch.full((n,), 2)  # the start
        state: tuple[torch.Tensor, torch.Tensor] | None = None
        bits, chosen, entropy = [], [], []
        for i in range(sum(self.blocks)):
            state = self.controller["cell"](self.controller["embed"](token), state)
            logits = self.tanh_constant * torch.tanh(self.controller["out"](state[0]) / self.temperature)
            log_p = logits.log_softmax(1)  # (n, 2)
            if given is not None:
                token = given[:, i].long()
            elif noise is not None:
                token = (noise[:, i] < log_p[:, 1].exp()).long()
            else:
                token = log_p.argmax(1)
            bits.append(token)
            chosen.append(log_p.gather(1, token[:, None])[:, 0])
            entropy.append(-(log_p.exp() * log_p).sum(1))
        return torch.stack(bits, 1), torch.stack(chosen, 1), torch.stack(entropy).sum(0)
