"""Double attention, A2-Nets (Chen et al., NeurIPS 2018, arXiv 1810.11579).

As in the paper; the four 1x1 convolutions are biased, as in Att-DARTS. The paper's own networks put it, as a block of
its own, between residual blocks; here it acts on a residual branch.
"""

from __future__ import annotations

import torch
from torch import nn

from ean_core.attention.base import ATTENTION, Attention, State
from ean_core.errors import UserError


@ATTENTION.register_module()
class A2(Attention):
    """What ``n`` attention maps gather, handed out to every position by its own weights, and added.

    ::

        A = conv1(C, m) x      B = softmax_HW(conv1(C, n) x)      V = softmax_n(conv1(C, n) x)
        G = A B^T                                            (N, m, n): n descriptors of the whole map
        x' = x + conv1(m, C) (G V)                           V: for each position, weights over the descriptors

    With ``m = n = C // 4`` it has ``C^2 + 7 C / 4`` parameters if 4 divides C, in general
    ``2 C m + 2 C n + m + 2 n + C``.

    Args:
        channels: ``C``.
        m: Channels of the descriptors; ``None``: ``C // 4``.
        n: Number of descriptors; ``None``: ``C // 4``.

    Raises:
        UserError: No descriptor is left.
    """

    def __init__(self, channels: int, m: int | None = None, n: int | None = None) -> None:
        super().__init__()
        m, n = (channels // 4 if number is None else number for number in (m, n))
        if m < 1 or n < 1:
            raise UserError(f"A2: {channels} channels with m={m} and n={n} leave nothing to gather")
        self.features = nn.Conv2d(channels, m, 1)
        self.gathering = nn.Conv2d(channels, n, 1)
        self.handing = nn.Conv2d(channels, n, 1)
        self.out = nn.Conv2d(m, channels, 1)

    def forward(self, x: torch.Tensor, state: State = None) -> tuple[torch.Tensor, State]:
        """Add to ``x`` (N, C, H, W) what was gathered."""
        a = self.features(x).flatten(2)  # (N, m, HW)
        b = torch.softmax(self.gathering(x).flatten(2), 2)  # (N, n, HW), over the positions
        v = torch.softmax(self.handing(x), 1)  # (N, n, H, W), over the descriptors
        descriptors = a @ b.transpose(1, 2)  # (N, m, n)
        given = (descriptors @ v.flatten(2)).unflatten(2, x.shape[2:])  # (N, m, H, W)
        return x + self.out(given), state
