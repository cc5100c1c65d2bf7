"""Squeeze-and-Excitation (Hu et al., CVPR 2018, arXiv 1709.01507).

As in the paper; both linear layers are biased, which the parameter counts of the EAN paper's Table 1 confirm.
"""

from __future__ import annotations

import torch
from torch import nn

from ean_core.attention.base import ATTENTION, Attention, State


@ATTENTION.register_module()
class SE(Attention):
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
            raise ValueError(f"SE: reduction {reduction} leaves no hidden unit for {channels} channels")
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: torch.Tensor, state: State = None) -> tuple[torch.Tensor, State]:
        """Recalibrate ``x`` (N, C, H, W)."""
        y = x.mean((2, 3))  # (N, C)
        mask = torch.sigmoid(self.fc2(torch.relu(self.fc1(y))))
        return x * mask[:, :, None, None], state
