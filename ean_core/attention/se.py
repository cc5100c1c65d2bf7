"""Squeeze-and-Excitation (Hu et al., CVPR 2018, arXiv 1709.01507).

As in the paper; both linear layers are biased, which the parameter counts of the EAN paper's Table 1 confirm.
"""

from __future__ import annotations

import torch
from torch import nn

from ean_core.attention.base import ATTENTION, ChannelAttention, State
from ean_core.errors import UserError


@ATTENTION.register_module()
class SE(ChannelAttention):
    """Channel attention: ``x * sigmoid(W2 relu(W1 GAP(x) + b1) + b2)``.

    With ``d = channels // reduction`` it has ``2 C d + d + C`` parameters, without biases ``2 C d``.

    Args:
        channels: ``C``.
        reduction: ``r``, the ratio between ``C`` and the width of the hidden layer.
        width: The width itself instead; below 1 as a fraction of ``C``.
        bias: Whether the layers are biased.
    """

    def __init__(self, channels: int, reduction: int = 16, width: float | None = None, bias: bool = True) -> None:
        super().__init__()
        hidden = channels // reduction if reduction > 0 else 0
        if width is not None:
            hidden = int(width if width >= 1 else width * channels)
        if hidden < 1:
            chosen = f"reduction {reduction}" if width is None else f"width {width}"
            raise UserError(f"SE: {chosen} leaves no hidden unit for {channels} channels")
        self.fc1 = nn.Linear(channels, hidden, bias=bias)
        self.fc2 = nn.Linear(hidden, channels, bias=bias)

    def mask(self, y: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """``sigmoid(W2 relu(W1 y + b1) + b2)`` of the means ``y`` (N, C)."""
        return torch.sigmoid(self.fc2(torch.relu(self.fc1(y)))), state
