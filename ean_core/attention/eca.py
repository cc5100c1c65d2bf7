"""Efficient Channel Attention, ECA-Net (Wang et al., CVPR 2020, arXiv 1910.03151).

As in the paper, whose kernel grows with the number of channels; the released code has 3 at every width: ``kernel=3``.
"""

from __future__ import annotations

from math import log2

import torch
from torch import nn

from ean_core.attention.base import ATTENTION, ChannelAttention, State
from ean_core.errors import UserError


@ATTENTION.register_module()
class ECA(ChannelAttention):
    """Channel attention from neighbouring channels: ``x * sigmoid(conv1d_k(GAP(x)))`` along the channels.

    The convolution has no bias and is padded with zeros: ``k`` parameters. ``k`` is ``t`` if that is odd, else
    ``t + 1``, for ``t = int(abs((log2 C + 1) / 2))``: 5 for 256 and 512 channels, 5 for 1024, 7 for 2048.

    Args:
        channels: ``C``.
        kernel: ``k``, an odd number; ``None``: by the formula.

    Raises:
        UserError: ``kernel`` is not odd.
    """

    def __init__(self, channels: int, kernel: int | None = None) -> None:
        super().__init__()
        if kernel is None:
            kernel = int(abs((log2(channels) + 1) / 2)) | 1
        if kernel < 1 or kernel % 2 == 0:
            raise UserError(f"ECA: the kernel is an odd number of channels, got {kernel}")
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def mask(self, y: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """``sigmoid(conv1d_k(y))`` of the means ``y`` (N, C)."""
        return torch.sigmoid(self.conv(y[:, None])[:, 0]), state
