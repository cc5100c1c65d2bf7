"""Residual blocks for inference: the squeeze before the expansion, and the branch added up where the identity lies.

The last convolution of a bottleneck is 1x1 and its batch norm is folded, so the branch is ``f = W u + b`` of an ``u``
with a quarter of the channels. What an attention wants to know of ``f`` can be had from ``u``:

- the means: ``GAP(f) = W GAP(u) + b`` (SE, DIA and whatever else is a ``ChannelAttention``);
- SGE's similarity ``t_g = sum_c mean_c f_c`` over a group: ``(sum_c mean_c W_c) u`` plus a constant that its
  normalisation removes; one projection of ``u`` to G channels a sample.

So the branch itself is needed once, in ``relu(x + mask * (W u + b))``, and :mod:`ean_core.deploy.kernels` computes that
in one pass over ``x``, a few rows at a time in registers.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ean_core.attention import SGE, Attention, ChannelAttention, State
from ean_core.backbones.stage import Block, Bottleneck
from ean_core.deploy import kernels


def run_bottleneck(
    block: Bottleneck, attention: Attention | None, x: torch.Tensor, state: State, owned: bool
) -> tuple[torch.Tensor, State]:
    """One bottleneck by the loops of ``kernels.cpp``.

    Args:
        block: Its batch norms are folded.
        attention: The module that the block is connected to, if it is.
        x: (N, C, H, W), float32 on a CPU, channels-last.
        state: The attention's state.
        owned: The memory of ``x`` may be used for the result.
    """
    in_place = owned or block.downsample is not None
    u = block.conv2(pointwise(block.conv1, x)).contiguous(memory_format=torch.channels_last)
    if attention is None:
        return pointwise(block.conv3, u.relu_(), _identity(block, x), None, in_place), state
    if not isinstance(attention, SGE | ChannelAttention):
        f, state = attention(block.conv3(u.relu_()), state)
        return f.add_(_identity(block, x)).relu_(), state
    inner, (weight, bias) = rows(u), affine(block.conv3)
    mean = kernels.squeeze(inner)
    if isinstance(attention, SGE):
        mask = kernels.similarity(inner, mean, weight, bias, attention.weight, attention.bias).sigmoid_()
    else:
        mask, state = attention.mask(torch.addmm(bias, mean, weight), state)
        mask = mask.to(u.dtype).expand(len(x), -1).contiguous()  # its memory is read as such
    return pointwise(block.conv3, u, _identity(block, x), mask, in_place), state


def _identity(block: Block, x: torch.Tensor) -> torch.Tensor:
    return x if block.downsample is None else block.downsample(x)


def pointwise(
    conv: nn.Conv2d,
    x: torch.Tensor,
    identity: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    in_place: bool = False,
) -> torch.Tensor:
    """``relu(identity + mask * conv(x))`` for a 1x1 convolution: (N, C_in, H, W) -> (N, C_out, H, W), channels-last."""
    if conv.out_channels % kernels.COLUMNS:  # a first convolution to 16 channels
        return conv(x).relu_()
    z = rows(identity) if identity is not None else None
    out = z if in_place and z is not None else x.new_empty(len(x), x.shape[2] * x.shape[3], conv.out_channels)
    kernels.expand(out, z, rows(x), *affine(conv), mask)
    return out.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


def affine(conv: nn.Conv2d) -> tuple[torch.Tensor, torch.Tensor]:
    """The weights of a folded 1x1 convolution as (C_in, C_out), and its bias (C_out,)."""
    if conv.bias is None:
        raise ValueError("a convolution whose batch norm was folded has a bias")
    return conv.weight.flatten(1).t(), conv.bias


def rows(x: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) as (N, H W, C): a view, if it is channels-last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2).contiguous()


def run_torch(
    block: Block, attention: Attention | None, x: torch.Tensor, state: State, in_place: bool
) -> tuple[torch.Tensor, State]:
    """One block by the operations of torch, in place on its own branch if asked to."""
    mask = None
    if isinstance(attention, ChannelAttention) and isinstance(block, Bottleneck):
        u = F.relu(block.conv2(F.relu(block.conv1(x), in_place)), in_place)
        y = F.linear(u.mean((2, 3)), block.conv3.weight.flatten(1), block.conv3.bias)
        mask, state = attention.mask(y, state)
        f = block.conv3(u)
    else:
        f = block.residual(x)
        if isinstance(attention, ChannelAttention):
            mask, state = attention.mask(f.mean((2, 3)), state)
        elif attention is not None:
            f, state = attention(f, state)
    identity = _identity(block, x)
    out = f if in_place else None
    if mask is not None:
        f = torch.addcmul(identity, f, mask[:, :, None, None], out=out)
    else:
        f = torch.add(f, identity, out=out)
    return F.relu(f, in_place), state
