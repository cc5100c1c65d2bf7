"""What the papers' modules have in common: a hidden width, and layers with batch norms that take a single value."""

from __future__ import annotations

import torch
from torch import distributed, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ean_core.errors import UserError


def hidden_width(name: str, channels: int, reduction: int) -> int:
    """``channels // reduction``.

    Args:
        name: Of the module, for the message.
        channels: ``C``.
        reduction: The ratio.

    Raises:
        UserError: Nothing is left.
    """
    hidden = channels // reduction if reduction > 0 else 0
    if hidden < 1:
        raise UserError(f"{name}: reduction {reduction} leaves no hidden unit for {channels} channels")
    return hidden


class Layers(nn.Sequential):
    """``nn.Sequential`` that also trains on a single value a channel (one sample, one position).

    One value has no variance, and torch refuses it: there a batch norm uses its running statistics, as in evaluation,
    and leaves them as they are.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, ...) -> what the last layer makes of it."""
        for layer in self:
            if isinstance(layer, _BatchNorm) and layer.training and x.numel() == x.shape[1] and not _joins(layer):
                x = F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps)
            else:
                x = layer(x)
        return x


def _joins(norm: _BatchNorm) -> bool:
    """Whether a norm sees the values of other processes too, which wait for this one's."""
    return isinstance(norm, nn.SyncBatchNorm) and distributed.is_available() and distributed.is_initialized()
