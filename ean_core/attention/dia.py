"""Dense-and-Implicit Attention (Huang et al., AAAI 2020, arXiv 1905.10671).

As in the authors' released code: the output activation of the cell is a sigmoid where an LSTM has a tanh, and the
cell's dropout is defined but never reached by its single layer.
"""

from __future__ import annotations

import torch
from torch import nn

from ean_core.attention.base import ATTENTION, ChannelAttention, State
from ean_core.attention.layers import hidden_width


def _cell(channels: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, 4 * channels))


@ATTENTION.register_module()
class DIA(ChannelAttention):
    """Channel attention from a small LSTM that runs along the connected blocks of a stage.

    With ``y = GAP(x)`` and the state ``(h, c)`` of the previous connected block (zeros at the stage's start)::

        i, f, g, o = chunks of A(y) + B(h)         A, B: Linear(C, d) - ReLU - Linear(d, 4C)
        c' = sigmoid(f) c + sigmoid(i) tanh(g)
        h' = sigmoid(o) sigmoid(c')
        x' = x h'

    With ``d = channels // reduction`` it has ``10 C d + 2 d + 8 C`` parameters.

    Args:
        channels: ``C``.
        reduction: 4 on CIFAR, 20 on ImageNet.
    """

    stateful = True

    def __init__(self, channels: int, reduction: int = 20) -> None:
        super().__init__()
        hidden = hidden_width("DIA", channels, reduction)
        self.input_gates = _cell(channels, hidden)
        self.hidden_gates = _cell(channels, hidden)

    def mask(self, y: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """``h'`` from the means ``y`` (N, C); the state is ``(h, c)``, both (N, C)."""
        h, c = state if state is not None else (torch.zeros_like(y), torch.zeros_like(y))
        i, f, g, o = (self.input_gates(y) + self.hidden_gates(h)).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.sigmoid(c)
        return h, (h, c)
