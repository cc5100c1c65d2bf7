"""Whether a strategy finds the best scheme whatever the unit of its reward: fractions, percent, milliseconds.

A problem is a reward between 0 and 1.1 over m blocks: the fraction of bits that hit a target, plus a tenth of the
fraction of pairs of blocks that are as wanted, scaled so that the best of all 2^m schemes has 1.017. Every strategy has
150 steps of 3 schemes and is told scale * reward + offset. What counts is the reward, before scale and offset, of its
answer: the better one of its most probable scheme and the best it has seen. Each number of the table is the mean over
the seeds, each of which has its own problem.

    python benchmarks/reward_scale.py
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from typing import Any

import torch

from ean_core.scheme import ConnectionScheme
from ean_core.strategies import Strategy, build_strategy
from ean_core.terminal import print_table

BEST = 1.017
SIZES = (9, 12, 16)
UNITS = ((0.01, 0.0), (1.0, 0.0), (100.0, 0.0), (0.01, 1000.0))  # scale, offset
STRATEGIES: dict[str, dict[str, Any]] = {
    "policy_gradient": {"type": "policy_gradient"},
    "advantage=authors": {"type": "policy_gradient", "advantage": "authors"},
    "random": {"type": "random"},
    "genetic": {"type": "genetic"},
}


def rewards_of_all(m: int, seed: int) -> torch.Tensor:
    """The rewards of all schemes of a problem, (2^m,) in float64; a scheme's place is its bits read as a number."""
    draw = torch.Generator().manual_seed(7919 * m + seed)
    target = torch.rand(m, generator=draw) < 0.5
    pairs = torch.stack([torch.randperm(m, generator=draw)[:2] for _ in range(m)])  # m pairs of different blocks
    differ = torch.rand(m, generator=draw) < 0.5  # whether the two bits of a pair should
    bits = (torch.arange(2**m)[:, None] >> torch.arange(m - 1, -1, -1)) & 1 == 1  # (2^m, m)
    hits = (bits == target).double().mean(1)
    wanted = ((bits[:, pairs[:, 0]] != bits[:, pairs[:, 1]]) == differ).double().mean(1)
    rewards = hits + 0.1 * wanted
    return rewards * BEST / rewards.max()


def place(scheme: ConnectionScheme) -> int:
    """Where a scheme's reward stands in :func:`rewards_of_all`."""
    return int(str(scheme).replace("-", ""), 2)


def answer(strategy: Strategy, rewards: torch.Tensor, scale: float, offset: float, steps: int = 150) -> float:
    """The reward of what a strategy answers after some steps of 3 schemes."""
    seen = []
    for _ in range(steps):
        schemes = strategy.ask(3)
        own = [float(rewards[place(scheme)]) for scheme in schemes]
        strategy.tell(schemes, [scale * reward + offset for reward in own])
        seen += own
    final = getattr(strategy, "most_probable", strategy.best)()
    return max(*seen, float(rewards[place(final)]))


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8, help="runs of each number of the table (default: 8)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    args = parser.parse_args(argv)
    for m in SIZES:
        problems = {seed: rewards_of_all(m, seed) for seed in range(args.first, args.first + args.seeds)}
        rows: dict[str, dict[str, str]] = {}
        for name, config in STRATEGIES.items():
            rows[name] = {}
            for scale, offset in UNITS:
                found = [answer(build_strategy(config, (m,), s), own, scale, offset) for s, own in problems.items()]
                rows[name][f"{scale:g} R {offset:+g}" if offset else f"{scale:g} R"] = f"{statistics.fmean(found):.4f}"
        print_table(f"{m} blocks, {args.seeds} seeds, the best has {BEST}", rows)


if __name__ == "__main__":
    main()
