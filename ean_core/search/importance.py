"""Which blocks matter: the reward of a search's schemes with each connection and without it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from ean_core.search.log import Entry


class BlockEffect(NamedTuple):
    """How the rewards of two groups of schemes differ: those that connect a block, and those that do not.

    Attributes:
        effect: Mean reward with the connection minus mean reward without; NaN where one group is empty.
        low: Lower end of the interval that contains the difference of the groups' true means at the given confidence
            (Welch); NaN where a group has fewer than two schemes.
        high: Its upper end.
        connected: Number of schemes with the connection.
        left_out: Number of schemes without it.
    """

    effect: float
    low: float
    high: float
    connected: int
    left_out: int


def block_effects(entries: Sequence[Entry], confidence: float = 0.95) -> list[BlockEffect]:
    """The effect of every block's connection on the reward, in the order of the blocks.

    A scheme counts once, however often it was proposed; failed candidates are left out. The two means are those of the
    schemes that the search happened to propose. A strategy that converges connects some blocks together more and more
    often, and each of them then gets a share of what the others do: read the effects as a description of the search.
    Those of ``random`` or ``exhaustive``, which draw every block independently, have no such bias.

    Args:
        entries: Lines of a ``search.jsonl``: :func:`ean_core.search.log.read_log`.
        confidence: Of the intervals.

    Returns:
        One entry a block; none if no candidate succeeded.
    """
    rewards = {entry["scheme"]: entry["reward"] for entry in entries if not entry["failed"]}
    if not rewards:
        return []
    bits = np.array([[bit == "1" for bit in scheme.replace("-", "")] for scheme in rewards])  # (schemes, m)
    values = np.array(list(rewards.values()), float)  # (schemes,)
    return [_effect(values[connected], values[~connected], confidence) for connected in bits.T]


def _effect(a: np.ndarray, b: np.ndarray, confidence: float) -> BlockEffect:
    """``mean a - mean b -+ t sqrt(var a / n a + var b / n b)`` with Welch and Satterthwaite's degrees of freedom."""
    effect = float(a.mean() - b.mean()) if len(a) and len(b) else math.nan
    half = math.nan
    if min(len(a), len(b)) > 1:
        u, v = float(a.var(ddof=1)) / len(a), float(b.var(ddof=1)) / len(b)
        half = 0.0
        if u + v > 0:
            freedom = (u + v) ** 2 / (u**2 / (len(a) - 1) + v**2 / (len(b) - 1))
            half = float(stats.t.ppf(0.5 + confidence / 2, freedom)) * math.sqrt(u + v)
    return BlockEffect(effect, effect - half, effect + half, len(a), len(b))
