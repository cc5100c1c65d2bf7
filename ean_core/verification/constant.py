"""A control for attention: a mask that is the same for every image, channel and position."""

from __future__ import annotations

import torch
from torch import nn


class Constant(nn.Module):
    """``M(f) = mask``, whatever the branch ``f``. In configs it is an attention by its dotted name.

    New attention shrinks the branches that it is connected to, SE to about a half, and smaller branches alone can make
    a training end better. What attention is better by than a constant mask of that size is due to what it sees.

    Args:
        channels: ``C``; the module is the same for every number of channels.
        mask: The factor.
    """

    def __init__(self, channels: int, mask: float) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``mask x``, (N, C, H, W)."""
        return self.mask * x
