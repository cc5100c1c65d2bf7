"""Convolutional Block Attention Module (Woo et al., ECCV 2018, arXiv 1807.06521).

As in the authors' released code: the perceptron is biased, the spatial half stacks the maximum before the mean, and
its 7x7 convolution has no bias but a batch norm (momentum 0.01), which the paper does not print. Two deviations: that
norm's weight starts at 1, where the released networks put it to 0; and a training batch of one 1x1 map is normalised by
the running statistics, as one value has no variance.
"""

from __future__ import annotations

import torch
from torch import nn

from ean_core.attention.base import ATTENTION, Attention, State
from ean_core.attention.conv import SameConv
from ean_core.attention.layers import Layers, hidden_width


@ATTENTION.register_module()
class CBAM(Attention):
    """Channel attention, then spatial attention.

    ::

        y  = x sigmoid(P(mean_HW x) + P(max_HW x))          P: Linear(C, r) - ReLU - Linear(r, C)
        x' = y sigmoid(BN(conv7([max_C y; mean_C y])))

    With ``r = channels // reduction`` it has ``2 C r + r + C + 100`` parameters: 98 of the convolution, 2 of the norm.

    Args:
        channels: ``C``.
        reduction: The ratio between ``C`` and the width of the hidden layer.

    Raises:
        UserError: No hidden unit is left.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = hidden_width("CBAM", channels, reduction)
        self.channel = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.spatial = Layers(SameConv(2, outputs=1, kernel=7), nn.BatchNorm2d(1, momentum=0.01))

    def forward(self, x: torch.Tensor, state: State = None) -> tuple[torch.Tensor, State]:
        """Recalibrate ``x`` (N, C, H, W)."""
        scores = self.channel(x.mean((2, 3))) + self.channel(x.flatten(2).max(2).values)  # (N, C)
        x = x * torch.sigmoid(scores)[:, :, None, None]
        pooled = torch.cat([x.max(1, keepdim=True).values, x.mean(1, keepdim=True)], 1)  # (N, 2, H, W)
        return x * torch.sigmoid(self.spatial(pooled)), state
