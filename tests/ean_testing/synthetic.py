"""A search without a network: a reward of 12 bits whose optimum is known, and a search to be killed."""

import contextlib
import io
from pathlib import Path

from ean_core.scheme import ConnectionScheme
from ean_core.search.loop import search
from ean_core.search.reward import Reward
from ean_core.strategies.base import build_strategy

BLOCKS = (3, 4, 3, 2)
OPTIMUM = ConnectionScheme.parse("101-0110-001-10", BLOCKS)


def accuracy(scheme: ConnectionScheme) -> float:
    """Every bit that agrees with the optimum helps, some more than others: between 54 % and 66 %."""
    agree = zip(scheme, OPTIMUM, strict=True)
    return 60 + sum(0.4 * (0.6 + 0.1 * i) * (1 if a == b else -1) for i, (a, b) in enumerate(agree))


def evaluate(schemes: list[ConnectionScheme]) -> list[dict[str, float]]:
    """As an evaluator; one scheme in sixteen fails."""
    return [{"accuracy": float("nan") if sum(s) % 16 == 5 and s.bits[0] else accuracy(s)} for s in schemes]


def reward(scheme: ConnectionScheme) -> float:
    """The authors' reward of a scheme."""
    return Reward()(scheme, {"accuracy": accuracy(scheme)})


def begin_or_resume(work_dir: Path, steps: int) -> None:
    """What the resume test kills."""
    with contextlib.redirect_stdout(io.StringIO()):
        search(build_strategy("policy_gradient", BLOCKS, seed=3), evaluate, steps, 3, work_dir, resume=True, draw=False)
