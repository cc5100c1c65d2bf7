"""Residual blocks for inference: the squeeze before the expansion, and the branch added up where the identity lies.

The last convolution of a bottleneck is 1x1 and its batch norm is folded, so the branch is ``f = W u + b`` of an ``u``
with a quarter of the channels. What an attention wants to know of ``f`` can be had from ``u``:

- the means: ``GAP(f) = W GAP(u) + b`` (SE, DIA and whatever else is a ``ChannelAttention``);
- SGE's similarity ``t_g = sum_c mean_c f_c`` over a group: ``(sum_c mean_c W_c) u`` plus a constant that its
  normalisation removes; one projection of ``u`` to G channels a sample.

So the branch itself is needed once, in ``relu(x + mask * (W u + b))``, and :mod:`ean_core.deploy.cpu.kernels` computes
that in one pass over ``x``, a few rows at a time in registers.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ean_core.attention import DIA, SE, SGE, Attention, ChannelAttention, State
from ean_core.backbones.stage import Block, Bottleneck
from ean_core.deploy.cpu import kernels
from ean_core.errors import UserError


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
    u = block.conv2(_first(block.conv1, x))
    size, u, (weight, bias) = u.shape[2:], rows(u), affine(block.conv3)
    mask = None
    if attention is None:
        u.relu_()
    elif isinstance(attention, SGE):
        mask = kernels.similarity(u, weight, bias, attention.weight, attention.bias)
    elif type(attention) is SE:
        mask = kernels.excite(u, weight, bias, attention.fc1, attention.fc2)
    elif isinstance(attention, ChannelAttention):
        mask, state = _channel_mask(attention, kernels.squeeze(u, weight, bias), state)
    identity = x if block.downsample is None else block.downsample(x)
    if mask is None and attention is not None:
        f, state = attention(block.conv3(images(u.relu_(), size)), state)
        return f.add_(identity).relu_(), state
    z = rows(identity)
    out = z if owned or block.downsample is not None else torch.empty_like(z)
    kernels.expand(out, z, u, weight, bias, mask)
    return images(out, size), state


def _channel_mask(attention: ChannelAttention, y: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
    if type(attention) is DIA:
        h, c = state if state is not None else (torch.zeros_like(y), torch.zeros_like(y))
        h, c = kernels.remember(attention.input_gates(y), attention.hidden_gates(h), c)
        return h, (h, c)
    mask, state = attention.mask(y, state)
    return mask.to(y.dtype).expand_as(y).contiguous(), state  # its memory is read as such


def _first(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """``relu(conv(x))`` of the first convolution."""
    if conv.out_channels % kernels.COLUMNS:
        return conv(x).relu_()
    out = x.new_empty(len(x), x.shape[2] * x.shape[3], conv.out_channels)
    kernels.expand(out, None, rows(x), *affine(conv), None)
    return images(out, x.shape[2:])


def affine(conv: nn.Conv2d) -> tuple[torch.Tensor, torch.Tensor]:
    """The weights of a folded 1x1 convolution as (C_in, C_out), and its bias (C_out,)."""
    if conv.bias is None:
        raise UserError("a convolution whose batch norm was folded has a bias")
    return conv.weight.flatten(1).t(), conv.bias


def rows(x: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) as (N, H W, C): a view, if it is channels-last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2).contiguous()


def images(x: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """(N, H W, C) as (N, C, H, W), channels-last."""
    return x.unflatten(1, size).permute(0, 3, 1, 2)


def run_torch(
    block: Block, attention: Attention | None, x: torch.Tensor, state: State, in_place: bool
) -> tuple[torch.Tensor, State]:
    """One block by the operations of torch, in place on its own branch if asked to."""
    mask = None  # (N, C, 1, 1) or (N, G, H, W)
    if isinstance(block, Bottleneck) and isinstance(attention, SGE | ChannelAttention):
        u = F.relu(block.conv2(F.relu(block.conv1(x), in_place)), in_place)
        weight = block.conv3.weight.flatten(1)
        y = F.linear(u.mean((2, 3)), weight, block.conv3.bias)
        if isinstance(attention, SGE):
            groups = attention.groups
            weights = weight.unflatten(0, (groups, -1))  # (G, C/G, K)
            means = y.unflatten(1, (groups, -1)).transpose(0, 1)  # (G, N, C/G)
            projection = torch.bmm(means, weights).transpose(0, 1)  # (N, G, K)
            mask = attention.mask(torch.bmm(projection, u.flatten(2)).unflatten(2, u.shape[2:])).to(u.dtype)
        else:
            mask, state = attention.mask(y, state)
            mask = mask[:, :, None, None]
        f = block.conv3(u)
    else:
        f = block.residual(x)
        if isinstance(attention, ChannelAttention):
            mask, state = attention.mask(f.mean((2, 3)), state)
            mask = mask[:, :, None, None]
        elif attention is not None:
            f, state = attention(f, state)
    identity = x if block.downsample is None else block.downsample(x)
    if mask is None:
        f = torch.add(f, identity, out=f if in_place else None)
    else:
        z, f = (t.unflatten(1, (mask.shape[1], -1)) for t in (identity, f))  # (N, G, C/G, H, W)
        f = torch.addcmul(z, f, mask[:, :, None], out=f if in_place else None).flatten(1, 2)
    return F.relu(f, in_place), state
