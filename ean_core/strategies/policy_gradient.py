"""The EAN search: a policy gradient with a sparsity reward, curiosity and replay (Algorithm 1, part 2; Eqs. 5-8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ean_core.scheme import ConnectionScheme
from ean_core.strategies.advantage import build_advantage
from ean_core.strategies.base import BestSeen, drop_failed, from_bits, seeded, to_bits
from ean_core.strategies.controller import Controller
from ean_core.strategies.replay import ReplayBuffer
from ean_core.strategies.rnd import Curiosity


class PolicyGradient:
    """The authors' strategy. Every number is the value in their released code (``search_imagent/EAN_search.py``).

    Where that code departs from the paper, this follows the paper, a scheme at a time: every scheme has its own
    curiosity bonus, replayed rows keep their order, the buffer holds the rewards that the baseline was made of, and
    clipping (which the paper does not have) is off.

    One thing differs from both: rewards are divided by their moving deviation, and bonuses by their moving average
    (:class:`~ean_core.strategies.advantage.Normalised`). The authors' numbers suit rewards in percent; on fractions
    their bonus drowns the reward. ``advantage="authors"`` is theirs.

    Args:
        blocks: Number of blocks of each stage; ``m`` in all.
        seed: Determines everything.
        lr: Adam, controller; 5e-2.
        hidden: Width of the controller; 50.
        input_size: Zeros that it is fed; 20.
        temperature: Divides its logits; 5.
        curiosity: Weight of the bonus, in deviations of the reward (in its unit with ``advantage="authors"``); 1.
            0 switches it off.
        curiosity_hidden: Width of the two networks of the bonus; 32.
        curiosity_lr: Adam, predictor; 5e-2.
        baseline_decay: Of the moving average of rewards, and of what they are normalised by; 0.95.
        replay_size: Past steps that are kept; 30.
        replay_start: The first step (from 0) after which one is replayed; 10.
        replay_weight: Of the replay loss; 0.1. 0 switches it off.
        clip: Clip the importance ratio to ``1 +- clip`` as PPO does (Schulman et al., arXiv 1707.06347). ``None``, as
            in the paper; the released code has 0.1, applied to two sums instead of to each term.
        advantage: ``"normalised"``: rewards times a factor, plus an offset, give the same search. ``"authors"``: as in
            the paper.

    Raises:
        UserError: Another ``advantage``.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        seed: int = 0,
        lr: float = 5e-2,
        hidden: int = 50,
        input_size: int = 20,
        temperature: float = 5.0,
        curiosity: float = 1.0,
        curiosity_hidden: int = 32,
        curiosity_lr: float = 5e-2,
        baseline_decay: float = 0.95,
        replay_size: int = 30,
        replay_start: int = 10,
        replay_weight: float = 0.1,
        clip: float | None = None,
        advantage: str = "normalised",
    ) -> None:
        self.blocks = tuple(blocks)
        m = sum(blocks)
        with seeded(seed) as self.generator:
            self.controller = Controller(m, input_size, hidden, temperature)
            self.rnd = Curiosity(m, curiosity_hidden, curiosity_lr)
        self.optimizer = torch.optim.Adam(self.controller.parameters(), lr)
        self.buffer = ReplayBuffer(replay_size)
        self.advantage, self.curiosity = build_advantage(advantage, curiosity, baseline_decay), curiosity
        self.replay_start, self.replay_weight, self.clip = replay_start, replay_weight, clip
        self.seen = BestSeen()
        self.step = 0

    def ask(self, n: int) -> list[ConnectionScheme]:
        """Draw ``a_i ~ Bernoulli(p_i)``."""
        p = self.controller.probabilities()
        return from_bits(torch.rand(n, len(p), generator=self.generator) < p, self.blocks)

    def notes(self, schemes: Sequence[ConnectionScheme]) -> list[dict[str, float]]:
        """Of every scheme the mean probability ``p`` of its bits (Fig. 5) and its curiosity bonus, as it is."""
        bits = to_bits(schemes)
        with torch.no_grad():
            p = self.controller.log_probs(bits).exp().mean(1)
        bonus = self.curiosity * self.rnd.bonus(bits)
        return [{"p": float(a), "curiosity": float(b)} for a, b in zip(p, bonus, strict=True)]

    def tell(self, schemes: Sequence[ConnectionScheme], rewards: Sequence[float]) -> None:
        """Reward and bonus, baseline, one step of Eq. 5, one replayed step of Eq. 8."""
        self.seen.update(schemes, rewards)
        schemes, raw = drop_failed(schemes, rewards)  # (n,)
        if not schemes:
            return
        bits = to_bits(schemes)  # (n, m)
        bonus = self.rnd.bonus(bits)  # (n,)
        self.rnd.learn(bits)
        self.advantage.update(raw, bonus)

        log_p = self.controller.log_probs(bits)  # (n, m)
        self.buffer.add(bits, log_p.exp(), raw, bonus)
        self._descend(reinforce_loss(log_p, self.advantage(raw, bonus)))

        if self.step >= self.replay_start and self.replay_weight:
            old = self.buffer.sample(self.generator)
            log_p = self.controller.log_probs(old.bits)
            loss = replay_loss(log_p, old.probs, self.advantage(old.rewards, old.bonus), self.clip)
            self._descend(self.replay_weight * loss)
        self.step += 1

    def best(self) -> ConnectionScheme:
        """The scheme with the highest reward told of."""
        return self.seen.get()

    def most_probable(self) -> ConnectionScheme:
        """The controller's answer: a block is connected when ``p_i > 0.5``."""
        return from_bits(self.controller.probabilities()[None] > 0.5, self.blocks)[0]

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimizers, buffer, averages, step and generator."""
        return {
            "controller": self.controller.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rnd": self.rnd.state_dict(),
            "buffer": self.buffer.state_dict(),
            "generator": self.generator.get_state(),
            "seen": self.seen.state_dict(),
            "advantage": self.advantage.state_dict(),
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        for name in ("controller", "optimizer", "rnd", "buffer", "advantage"):
            getattr(self, name).load_state_dict(state[name])
        self.seen.load_state_dict(state["seen"], self.blocks)
        self.generator.set_state(state["generator"])
        self.step = state["step"]

    def _descend(self, loss: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def reinforce_loss(log_p: torch.Tensor, advantage: torch.Tensor) -> torch.Tensor:
    """Eq. 5, negated: ``- R sum_i log p^i`` for a scheme, averaged over the schemes of a step.

    Args:
        log_p: Log-probability of every bit, (n, m).
        advantage: Reward and bonus against those of late, (n,).
    """
    return -(advantage[:, None] * log_p).sum(1).mean()


def replay_loss(
    log_p: torch.Tensor, old_p: torch.Tensor, advantage: torch.Tensor, clip: float | None = None
) -> torch.Tensor:
    """Eq. 8, negated: Eq. 5 on schemes drawn by an older controller, every block weighted by ``p^i / p_old^i``.

    Written as ``- R sum_i p^i / p_old^i``, whose gradient is ``- R sum_i (p^i / p_old^i) grad log p^i``: at ratio 1
    that of :func:`reinforce_loss`. With ``clip`` the ratio is PPO's pessimistic one, block by block.

    Args:
        log_p: Log-probability of every bit now, (n, m).
        old_p: Its probability when the scheme was drawn, (n, m).
        advantage: Reward and bonus of that day against today's, (n,).
        clip: Half-width of the interval around 1, or ``None``.
    """
    ratio = log_p.exp() / old_p  # (n, m)
    gain = advantage[:, None] * ratio
    if clip is not None:
        gain = torch.minimum(gain, advantage[:, None] * ratio.clamp(1 - clip, 1 + clip))
    return -gain.sum(1).mean()
