"""Spatial Group-wise Enhance (Li et al., 2019, arXiv 1905.09646).

Deviation: a 1x1 map has no spatial standard deviation (the released code divides by NaN); here its normalised
similarity is zero, so the mask is ``sigmoid(b)``. Half-precision input is normalised in float32.
"""

from __future__ import annotations

import torch
from torch import nn

from ean_core.attention.base import ATTENTION, Attention, State
from ean_core.errors import UserError


@ATTENTION.register_module()
class SGE(Attention):
    """Spatial attention within groups of consecutive channels.

    For every sample and group: ``t = sum_c x_c GAP(x_c)`` over the group's channels, normalised over the ``H W``
    positions to ``(t - mean) / (std + 1e-5)`` (unbiased std), then ``x * sigmoid(w_g t + b_g)``. It has ``2 groups``
    parameters; they start at ``w = 0``, ``b = 1``.

    Args:
        channels: ``C``, a multiple of ``groups``.
        groups: ``G``; 64 on ImageNet. The EAN paper leaves CIFAR's open: 4 agrees with its parameter counts.
    """

    def __init__(self, channels: int, groups: int = 64) -> None:
        super().__init__()
        if groups < 1 or channels % groups:
            raise UserError(f"SGE: {channels} channels cannot be split into {groups} groups")
        self.groups = groups
        self.weight = nn.Parameter(torch.zeros(groups))
        self.bias = nn.Parameter(torch.ones(groups))

    def forward(self, x: torch.Tensor, state: State = None) -> tuple[torch.Tensor, State]:
        """Recalibrate ``x`` (N, C, H, W)."""
        grouped = x.unflatten(1, (self.groups, -1))  # (N, G, C/G, H, W)
        mask = self.mask((grouped * grouped.mean((3, 4), keepdim=True)).sum(2)).to(x.dtype)
        return (grouped * mask[:, :, None]).flatten(1, 2), state

    def mask(self, t: torch.Tensor) -> torch.Tensor:
        """The mask (N, G, H, W) of the similarities ``t``, to which a constant may have been added."""
        if t.dtype in (torch.float16, torch.bfloat16):
            t = t.float()
        t = t - t.mean((2, 3), keepdim=True)
        if t.shape[0] > 0 and t.shape[2] * t.shape[3] > 1:  # torch warns of a deviation over no images
            t = t / (t.std((2, 3), keepdim=True) + 1e-5)
        return torch.sigmoid(t * self.weight[:, None, None] + self.bias[:, None, None])
