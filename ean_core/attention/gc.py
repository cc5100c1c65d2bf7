"""Global context block, GCNet (Cao et al., ICCV workshops 2019, arXiv 1904.11492).

As in the authors' released code with attention pooling and addition, its default. The two 1x1 convolutions of a 1x1
map are linear layers here, the same function, so that a backbone that draws all its convolutions anew leaves the last
one at zero.
"""

from __future__ import annotations

import torch
from torch import nn

from ean_core.attention.base import ATTENTION, Attention, State
from ean_core.errors import UserError


@ATTENTION.register_module()
class GC(Attention):
    """One attention map gathers a context, which is transformed and added to every position.

    ::

        y  = sum_HW softmax_HW(w . x + b) x                      (N, C)
        x' = x + W2 relu(LayerNorm(W1 y + b1)) + b2              W1: (p, C), W2: (C, p)

    ``W2`` and ``b2`` start at zero: the module is the identity at first. With ``p = int(channels * ratio)`` it has
    ``2 C p + 3 p + 2 C + 1`` parameters.

    Args:
        channels: ``C``.
        ratio: Of ``p`` to ``C``.

    Raises:
        UserError: No hidden unit is left.
    """

    def __init__(self, channels: int, ratio: float = 1 / 16) -> None:
        super().__init__()
        hidden = int(channels * ratio)
        if hidden < 1:
            raise UserError(f"GC: ratio {ratio} leaves no hidden unit for {channels} channels")
        self.map = nn.Conv2d(channels, 1, 1)
        self.norm = nn.LayerNorm(hidden)
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, x: torch.Tensor, state: State = None) -> tuple[torch.Tensor, State]:
        """Add to ``x`` (N, C, H, W) its context."""
        weights = torch.softmax(self.map(x).flatten(2), 2)  # (N, 1, HW)
        context = (weights.to(x.dtype) @ x.flatten(2).transpose(1, 2))[:, 0]  # (N, C)
        y = self.fc2(torch.relu(self.norm(self.fc1(context))))
        return x + y[:, :, None, None].to(x.dtype), state
