"""Eq. 4 of the EAN paper: what a connection does to a residual branch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from ean_core.attention import State

Gate = bool | torch.Tensor
"""``True``/``False`` in a plain network; a scalar tensor in [0, 1] while gates are trained."""

Branch = TypeVar("Branch")


def connect(
    attention: Callable[[Branch, State], tuple[Branch, State]] | None, gate: Gate, branch: Branch, state: State
) -> tuple[Branch, State]:
    """``(a M(f) + (1 - a) 1) * f`` for the branch ``f``, its gate ``a`` and the mask ``M``; Eq. 4 adds it to the input.

    With a Boolean gate there is no arithmetic: a connected branch is what the attention makes of it, a disconnected one
    is left alone and runs no attention code. A gate tensor also blends the state of a stateful module,
    ``a s' + (1 - a) s``, so that gates of 0.0 and 1.0 give exactly what ``False`` and ``True`` give.

    Args:
        attention: ``(f, state) -> (M(f) * f, state')``; ``None`` leaves the branch as it is, whatever the gate.
        gate: The connection.
        branch: ``f``, (N, C, H, W). With a Boolean gate any representation that ``attention`` understands.
        state: What the last connected block of the stage left; ``None`` at the stage's start.

    Returns:
        The branch and the state after it. The arguments are not changed.
    """
    if gate is False or attention is None:
        return branch, state
    recalibrated, after = attention(branch, state)
    if gate is True:
        return recalibrated, after
    blended: Any = gate * recalibrated + (1 - gate) * branch  # type: ignore[operator]
    return blended, _blend(gate, after, state)


def _blend(gate: Gate, after: State, before: State) -> State:
    if after is None:
        return None
    start = before if before is not None else tuple(torch.zeros_like(t) for t in after)
    return tuple(gate * new + (1 - gate) * old for new, old in zip(after, start, strict=True))
