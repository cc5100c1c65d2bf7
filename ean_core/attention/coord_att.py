"""Coordinate Attention (Hou et al., CVPR 2021, arXiv 2103.02907).

As in the authors' released code, but for its adaptive pools, which are means over one axis: written as such they are
deterministic and export.
"""

from __future__ import annotations

import torch
from torch import nn

from ean_core.attention.base import ATTENTION, Attention, State
from ean_core.attention.layers import Layers
from ean_core.errors import UserError


@ATTENTION.register_module()
class CoordAtt(Attention):
    """A mask a row and a mask a column, for each channel.

    ::

        [u; v] = hswish(BN(conv1(C, m) [mean_W x; mean_H x]))     (N, m, H + W)
        x' = x sigmoid(conv1(m, C) u) sigmoid(conv1(m, C) v)      masks (N, C, H, 1) and (N, C, 1, W)

    All convolutions are biased. With ``m = max(8, channels // reduction)`` it has ``3 C m + 3 m + 2 C`` parameters.

    Args:
        channels: ``C``.
        reduction: The ratio between ``C`` and the width ``m``, which is 8 at least.

    Raises:
        UserError: ``reduction`` is not positive.
    """

    def __init__(self, channels: int, reduction: int = 32) -> None:
        super().__init__()
        if reduction < 1:
            raise UserError(f"CoordAtt: reduction must be 1 or more, got {reduction}")
        hidden = max(8, channels // reduction)
        self.shared = Layers(nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.Hardswish())
        self.rows = nn.Conv2d(hidden, channels, 1)
        self.columns = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: torch.Tensor, state: State = None) -> tuple[torch.Tensor, State]:
        """Recalibrate ``x`` (N, C, H, W)."""
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)  # (N, C, H, 1), (N, C, W, 1)
        u, v = self.shared(torch.cat([rows, columns], 2)).split((x.shape[2], x.shape[3]), 2)
        return x * torch.sigmoid(self.rows(u)) * torch.sigmoid(self.columns(v)).transpose(2, 3), state
