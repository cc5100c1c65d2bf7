"""Bottleneck Attention Module (Park et al., BMVC 2018, arXiv 1807.06514).

As in the authors' released code, whose own file fails at its first line (it names an activation that does not exist)
and whose pooling needs square maps. Its networks have the module between stages; here a scheme says where. Two
deviations: the batch norms' weights start at 1, where the released networks put those of the spatial half to 0; and one
value a channel in training (one sample in the channel half, one 1x1 map in the spatial one), which has no variance, is
normalised by the running statistics.
"""

from __future__ import annotations

import torch
from torch import nn

from ean_core.attention.base import ATTENTION, Attention, State
from ean_core.attention.conv import SameConv
from ean_core.attention.layers import Layers, hidden_width


@ATTENTION.register_module()
class BAM(Attention):
    """Channel and spatial attention side by side, with a mask in (1, 2).

    ::

        Mc = Linear(r, C) ReLU BN Linear(C, r) of mean_HW x                           (N, C, 1, 1)
        Ms = conv1(r, 1) (ReLU BN conv3(r, r))^2 ReLU BN conv1(C, r) of x             (N, 1, H, W)
        x' = x (1 + sigmoid(Mc Ms))

    All layers are biased, the two 3x3 convolutions dilated. With ``r = channels // reduction`` it has
    ``3 C r + 18 r^2 + 13 r + C + 1`` parameters.

    Args:
        channels: ``C``.
        reduction: The ratio between ``C`` and the width of the hidden layers.
        dilation: Of the 3x3 convolutions.

    Raises:
        UserError: No hidden unit is left.
    """

    def __init__(self, channels: int, reduction: int = 16, dilation: int = 4) -> None:
        super().__init__()
        hidden = hidden_width("BAM", channels, reduction)
        self.channel = Layers(
            nn.Linear(channels, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )
        self.spatial = Layers(nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU())
        for _ in range(2):
            self.spatial.append(SameConv(hidden, outputs=hidden, kernel=3, dilation=dilation, bias=True))
            self.spatial.append(nn.BatchNorm2d(hidden)).append(nn.ReLU())
        self.spatial.append(nn.Conv2d(hidden, 1, 1))

    def forward(self, x: torch.Tensor, state: State = None) -> tuple[torch.Tensor, State]:
        """Recalibrate ``x`` (N, C, H, W)."""
        channel = self.channel(x.mean((2, 3)))[:, :, None, None]
        return x * (1 + torch.sigmoid(channel * self.spatial(x))), state
