"""The operations of a fused bottleneck by torch's own: what compilers, exporters, autograd and other devices see.

The functions here and those of the same names in :mod:`ean_core.deploy.cpu.operators` do the same. One whose name ends
in an underscore also puts a ReLU over its first argument, in place. Throughout, ``u`` (N, K, H, W) is the branch
before its last convolution, which is 1x1 and has its batch norm folded, so the branch is ``f = W u + b``:

- its means are ``GAP(f) = W GAP(u) + b``;
- SGE's similarity ``t_g = sum_c GAP(f)_c f_c`` over a group's channels is ``(sum_c GAP(f)_c W_c) u`` plus a constant
  that its normalisation removes: one projection of ``u`` to G channels a sample.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ean_core.attention import SGE


def project(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """``relu(W x + b)`` for the ``W`` of a 1x1 convolution: (N, K, H, W) -> (N, C, H, W)."""
    return F.conv2d(x, weight, bias).relu_()


def expand(
    z: torch.Tensor, u: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """``relu(z + mask * (W u + b))``.

    Args:
        z: What is added, (N, C, H, W).
        u: (N, K, H, W).
        weight: (C, K, 1, 1).
        bias: (C,).
        mask: Nothing, (N, C), or (N, G, H, W) for G groups of consecutive channels.
    """
    f = F.conv2d(u, weight, bias)
    if mask is None:
        return f.add_(z).relu_()
    mask = mask[:, :, None, None] if mask.ndim == 2 else mask
    z, f = (t.unflatten(1, (mask.shape[1], -1)) for t in (z, f))  # (N, G, C/G, H, W)
    return torch.addcmul(z, f, mask[:, :, None]).relu_().flatten(1, 2)


def squeeze_(u: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """``u = relu(u)``, and the means (N, C) of the branch over its positions."""
    return F.linear(u.relu_().mean((2, 3)), weight.flatten(1), bias)


def similarity_(u: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, attention: SGE) -> torch.Tensor:
    """``u = relu(u)``, and the attention's mask (N, G, H, W) of the branch."""
    means = squeeze_(u, weight, bias).unflatten(1, (attention.groups, -1)).transpose(0, 1)  # (G, N, C/G)
    weights = weight.flatten(1).unflatten(0, (attention.groups, -1))  # (G, C/G, K)
    projection = torch.bmm(means, weights).transpose(0, 1)  # (N, G, K)
    return attention.mask(torch.bmm(projection, u.flatten(2)).unflatten(2, u.shape[2:])).to(u.dtype)
