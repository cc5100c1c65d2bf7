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

    With ``d = channels // reduction`` it has ``2 C d + d + C`` parameters.

    Args:
        channels: ``C``.
        reduction: ``r``, the ratio between ``C`` and the width of the hidden layer.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = channels // reduction if reduction > 0 else 0
        if hidden < 1:
            raise UserError(f"SE: reduction {reduction} leaves no hidden unit for {channels} channels")
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def mask(self, y: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """``sigmoid(W2 relu(W1 y + b1) + b2)`` of the means ``y`` (N, C)."""
        return torch.sigmoid(self.fc2(torch.relu(self.fc1(y)))), state
