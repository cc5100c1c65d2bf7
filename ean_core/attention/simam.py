"""SimAM, a simple, parameter-free attention module (Yang et al., ICML 2021, PMLR 139:11863-11874).

As in the authors' released code. Deviations: a 1x1 map, where it divides by ``H W - 1 = 0``, has a deviation of 0, so
its mask is ``sigmoid(1/2)``. Half-precision input is squared and summed in float32.
"""

from __future__ import annotations

from typing import Any

import torch

from ean_core.attention.base import ATTENTION, Attention, State
from ean_core.errors import UserError


@ATTENTION.register_module()
class SimAM(Attention):
    """Weighs a position by how far it stands out from its channel: ``x * sigmoid(1 / e)`` for the least energy ``e``.

    With ``d = (x - mean_HW x)^2`` and ``v = sum_HW d / (H W - 1)``: ``x' = x sigmoid(d / (4 (v + lambda)) + 1/2)``. It
    has no parameters.

    Args:
        channels: ``C``; the module is the same for every number of channels.
        decay: ``lambda``. 1e-4 on CIFAR; the authors take 0.1 on ImageNet.

    Raises:
        UserError: ``decay`` is not positive.
    """

    def __init__(self, channels: int, decay: float = 1e-4) -> None:
        super().__init__()
        if not decay > 0:
            raise UserError(f"SimAM: decay must be positive, got {decay}")
        self.decay = decay

    def forward(self, x: torch.Tensor, state: State = None) -> tuple[torch.Tensor, State]:
        """Recalibrate ``x`` (N, C, H, W)."""
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        d = (wide - wide.mean((2, 3), keepdim=True)) ** 2
        n: Any = x.shape[2] * x.shape[3] - 1
        if isinstance(n, int):  # torch 2.7 compiles no `sym_max` of integers
            n = max(n, 1)
        elif isinstance(n, torch.Tensor):  # to torch.jit.trace
            n = n.clamp(min=1)
        else:
            n = torch.sym_max(n, 1)
        variance = d.sum((2, 3), keepdim=True) / n
        return x * torch.sigmoid(d / (4 * (variance + self.decay)) + 0.5).to(x.dtype), state
