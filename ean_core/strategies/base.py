"""What every search strategy is, how one is built by name, and what several of them use."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

import torch

from ean_core.errors import UserError, building
from ean_core.scheme import ConnectionScheme

STRATEGIES = {
    "policy_gradient": "ean_core.strategies.policy_gradient.PolicyGradient",
    "random": "ean_core.strategies.random_.Random",
    "hsp": "ean_core.strategies.hsp.HSP",
    "genetic": "ean_core.strategies.genetic.Genetic",
    "enas": "ean_core.strategies.enas.ENAS",
    "darts": "ean_core.strategies.darts.DARTS",
    "exhaustive": "ean_core.strategies.exhaustive.Exhaustive",
}
"""The classes of the strategies by name; imported when they are built, because some need packages of an extra."""

GateLoss = Callable[[torch.Tensor, int], torch.Tensor]
"""A differentiable loss of gates (m,) in [0, 1]; the integer counts its calls, e.g. to choose a batch."""


@runtime_checkable
class Strategy(Protocol):
    """A search strategy: it proposes schemes and learns from their rewards, of which more is better.

    It is built as ``cls(blocks=..., seed=..., **options)``. All randomness comes from its seed. States hold tensors and
    plain values only and are taken between a ``tell`` and the next ``ask``.

    A class that has ``needs_gate_loss = True`` is given ``loss``, a :data:`GateLoss` of the supernet, as well. A
    strategy may also have

    - ``tell_aims(schemes, rewards, aims)``, called instead of ``tell`` where the reward has several aims, with as many
      values for each scheme, of which more is better;
    - ``notes(schemes) -> list[dict[str, float]]``, what it knows of candidates before their reward, for the log;
    - ``most_probable() -> ConnectionScheme``, if it has probabilities;
    - ``report() -> dict``, what else belongs into ``scheme.json``.
    """

    blocks: tuple[int, ...]

    def ask(self, n: int) -> list[ConnectionScheme]:
        """Propose exactly ``n`` schemes; some may be equal, or equal to earlier ones."""
        ...

    def tell(self, schemes: Sequence[ConnectionScheme], rewards: Sequence[float]) -> None:
        """Learn from the rewards; NaN means that the evaluation failed and teaches nothing."""
        ...

    def best(self) -> ConnectionScheme:
        """The scheme with the highest reward it was told of, the first of equals."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to continue."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        ...


def build_strategy(
    config: Mapping[str, Any] | str, blocks: Sequence[int], seed: int = 0, gate_loss: GateLoss | None = None
) -> Strategy:
    """Build a strategy by name: ``build_strategy(dict(type="policy_gradient"), blocks=(3, 4, 6, 3), seed=0)``.

    Args:
        config: ``type`` (policy_gradient, random, hsp, genetic, enas, darts, exhaustive, or ``"module.Class"`` of one's
            own) and the strategy's options.
        blocks: Number of blocks of each stage.
        seed: Determines everything that the strategy draws; the global generators are left alone.
        gate_loss: A loss through which gradients reach the gates, e.g. ``evaluator.gate_loss``, for strategies that
            declare that they need it.

    Raises:
        UserError: Unknown type or option, a class that is no strategy, or an optional dependency is missing.
    """
    options: dict[str, Any] = {"type": config} if isinstance(config, str) else dict(config)
    record = {key: value for key, value in options.items() if not callable(value)} | {"seed": seed}
    name = options.pop("type", None)
    cls = find_strategy(name)
    if gate_loss is not None and getattr(cls, "needs_gate_loss", False):
        options["loss"] = gate_loss
    with building(f"strategy {name}"):
        strategy = cls(blocks=tuple(blocks), seed=seed, **options)
    if not isinstance(strategy, Strategy):
        parts = ("blocks", "ask", "tell", "best", "state_dict", "load_state_dict")
        missing = ", ".join(part for part in parts if not hasattr(strategy, part))
        raise UserError(f"'{name}' is no search strategy: it lacks {missing} (see ean_core.strategies.Strategy)")
    strategy.config = record  # type: ignore[attr-defined]
    return strategy


def find_strategy(name: Any) -> Callable[..., Any]:
    """The class of a strategy: one of :data:`STRATEGIES`, or ``"module.Class"``.

    Raises:
        UserError: There is none of that name.
    """
    module, _, cls = STRATEGIES.get(name, str(name)).rpartition(".")
    try:
        return getattr(import_module(module), cls)
    except (ModuleNotFoundError, AttributeError, ValueError) as error:
        if isinstance(error, ModuleNotFoundError) and not f"{module}.".startswith(f"{error.name}."):
            raise
        raise UserError(
            f"unknown strategy {name!r}: known are {', '.join(STRATEGIES)}, and your own as 'module.Class'"
        ) from error


class BestSeen:
    """The first scheme with the highest reward so far."""

    def __init__(self) -> None:
        self.scheme: ConnectionScheme | None = None
        self.reward = -math.inf

    def update(self, schemes: Sequence[ConnectionScheme], rewards: Sequence[float]) -> None:
        """Look at more schemes."""
        for scheme, reward in zip(schemes, rewards, strict=True):
            if reward > self.reward:  # never true for NaN
                self.scheme, self.reward = scheme, float(reward)

    def get(self) -> ConnectionScheme:
        """The scheme.

        Raises:
            UserError: No finite reward has been told.
        """
        if self.scheme is None:
            raise UserError("no scheme has been evaluated yet")
        return self.scheme

    def state_dict(self) -> dict[str, Any]:
        """The scheme as text, and its reward."""
        return {"scheme": None if self.scheme is None else str(self.scheme), "reward": self.reward}

    def load_state_dict(self, state: dict[str, Any], blocks: Sequence[int]) -> None:
        """Continue from a state."""
        text = state["scheme"]
        self.scheme = None if text is None else ConnectionScheme.parse(text, blocks)
        self.reward = state["reward"]


def to_bits(schemes: Sequence[ConnectionScheme]) -> torch.Tensor:
    """Schemes as a float tensor of 0s and 1s, (n, m)."""
    return torch.tensor([scheme.bits for scheme in schemes], dtype=torch.float32)


def from_bits(bits: torch.Tensor, blocks: Sequence[int]) -> list[ConnectionScheme]:
    """Schemes from the rows of an (n, m) tensor of 0s and 1s."""
    rows = bits.bool().tolist()
    return [ConnectionScheme.parse("".join("01"[bit] for bit in row), blocks) for row in rows]


def drop_failed(
    schemes: Sequence[ConnectionScheme], rewards: Sequence[float]
) -> tuple[list[ConnectionScheme], torch.Tensor]:
    """The schemes whose evaluation did not fail (their reward is finite), and their rewards, (n,) in float64."""
    kept = [(s, float(r)) for s, r in zip(schemes, rewards, strict=True) if math.isfinite(r)]
    return [s for s, _ in kept], torch.tensor([r for _, r in kept], dtype=torch.float64)


@contextmanager
def seeded(seed: int) -> Iterator[torch.Generator]:
    """Initialise networks from ``seed`` without disturbing torch's global generator; gives a generator of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)
