"""Residual blocks for inference: the squeeze before the expansion, and the branch added up where the identity lies.

The last convolution of a bottleneck is 1x1 and its batch norm is folded, so the branch is ``f = W u + b`` of an ``u``
with a quarter of the channels. What an attention wants to know of ``f`` can be had from ``u``:

- the means: ``GAP(f) = W GAP(u) + b`` (SE, DIA and whatever else is a ``ChannelAttention``);
- SGE's similarity ``t_g = sum_c mean_c f_c`` over a group: ``(sum_c mean_c W_c) u`` plus a constant that its
  normalisation removes; one projection of ``u`` to G channels a sample.

A branch without attention, or with a mask ``m`` on its channels, is then not computed at all: the matrix product
``z + (m W) u`` adds up in place on the identity. Its bias would cost a pass of its own, so the tensor lacks it: a
:class:`Stream` is the pair of ``z`` and an offset ``o`` a channel with ``x = z + o``, and
``relu(x + f) = max(z + m W u, -(o + m b)) + (o + m b)`` is one pass. The next block's 1x1 convolution puts ``W1 o``
into its own bias; the stage's last block adds the offset.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from ean_core.attention import SGE, Attention, ChannelAttention, State
from ean_core.backbones.stage import BasicBlock, Block, Bottleneck

CACHED = 2**18  # values of a branch that a CPU core's second cache holds besides the rest


class Stream(NamedTuple):
    """A stage's tensor in two parts, ``values + offset``.

    Attributes:
        values: (N, C, H, W), channels-last.
        offset: (1, C), or (N, C) once a mask has been in it. ``None``: zero, and the values belong to somebody else.
    """

    values: torch.Tensor
    offset: torch.Tensor | None


def rows(x: torch.Tensor) -> torch.Tensor:
    """A view (N, H W, C) of a channels-last tensor (N, C, H, W)."""
    n, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).view(n, h * w, c)


def squeeze(x: torch.Tensor) -> torch.Tensor:
    """The means (N, C) of (N, H W, C); over one dimension this is twice as fast as over two."""
    return x.sum(1).div_(x.shape[1])


def affine(conv: nn.Conv2d) -> tuple[torch.Tensor, torch.Tensor]:
    """The weights of a folded 1x1 convolution as (C_in, C_out), and its bias (C_out,)."""
    if conv.bias is None:
        raise ValueError("a convolution whose batch norm was folded has a bias")
    return conv.weight.flatten(1).t(), conv.bias


def run_bottleneck(
    block: Bottleneck, attention: Attention | None, stream: Stream, state: State, last: bool
) -> tuple[Stream, State]:
    """One bottleneck block in place: the stream and the state before it, to the same after it.

    Args:
        block: Its batch norms are folded.
        attention: The module that the block is connected to, if it is.
        stream: Before the block. The memory of its values is used for the result, unless it belongs to somebody else.
        state: The attention's state.
        last: Add the offset, so that the result's values are the stage's output.
    """
    u = _trunk(block, stream)
    _, k, h, w = u.shape
    if stream.offset is not None:
        z, offset = stream.values, stream.offset
    elif block.downsample is not None:
        z, offset = block.downsample(stream.values), u.new_zeros(1, block.conv3.out_channels)
    else:
        z, offset = stream.values.clone(), u.new_zeros(1, block.conv3.out_channels)
    out, branch = rows(z), rows(u)
    weight, bias = affine(block.conv3)
    if attention is None:
        out.flatten(0, 1).addmm_(branch.flatten(0, 1), weight)
        offset = offset + bias
    elif isinstance(attention, ChannelAttention):
        mask, state = attention.mask(torch.addmm(bias, squeeze(branch), weight), state)
        if 2 * h * w >= k:  # scaled weights are less to write than the branch
            out.baddbmm_(branch, weight * mask[:, None])
        else:
            out.addcmul_(branch @ weight, mask[:, None])
        offset = torch.addcmul(offset, mask, bias)
    elif isinstance(attention, SGE):
        mask = _spatial_mask(attention, branch, weight, bias)  # (N, H W, G)
        _add_masked(out.flatten(0, 1), branch.flatten(0, 1), weight, bias, mask.flatten(0, 1))
    else:
        f, state = attention(block.conv3(u), state)
        z += f
    if last:
        out.add_(offset[:, None]).relu_()
    else:
        torch.clamp_min_(out, offset.neg()[:, None])
    return Stream(z, offset), state


def _trunk(block: Bottleneck, stream: Stream) -> torch.Tensor:
    """The branch before its last convolution, (N, K, H, W)."""
    x, offset = stream
    if offset is None:
        hidden = block.conv1(x).relu_()
    else:
        n, _, h, w = x.shape
        weight, bias = affine(block.conv1)
        bias = torch.addmm(bias, offset, weight)  # (1 or N, K)
        flat = (rows(x).flatten(0, 1) @ weight).view(n, h * w, -1).add_(bias[:, None]).relu_()
        hidden = flat.view(n, h, w, -1).permute(0, 3, 1, 2)
    return block.conv2(hidden).relu_()


def _spatial_mask(attention: SGE, u: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """SGE's mask (N, H W, G) of the branch ``u weight + bias``, from ``u`` (N, H W, K)."""
    groups, n, k = attention.groups, len(u), u.shape[2]
    mean = squeeze(u)
    means = torch.addmm(bias, mean, weight).view(n, groups, -1).transpose(0, 1)  # (G, N, C/G)
    projection = torch.bmm(means, weight.t().view(groups, -1, k)).permute(1, 2, 0)  # (N, K, G)
    t = torch.baddbmm(-(mean[:, None] @ projection), u, projection)  # (N, H W, G), centred
    if t.dtype in (torch.float16, torch.bfloat16):
        t = t.float()
    scale: torch.Tensor = attention.weight
    if t.shape[1] > 1:
        deviation = (t.square().sum(1, keepdim=True) / (t.shape[1] - 1)).sqrt_()
        scale = scale / (deviation + 1e-5)  # (N, 1, G)
    return torch.addcmul(attention.bias, t, scale).sigmoid_().to(u.dtype)


def _add_masked(
    out: torch.Tensor, u: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, mask: torch.Tensor
) -> None:
    """``out += mask * (u weight + bias)``, all (rows, channels), the mask (rows, G); by pieces that fit a cache."""
    length = max(1, CACHED // out.shape[1]) if out.device.type == "cpu" else len(out)
    groups = mask.shape[1]
    for piece, inputs, masks in zip(out.split(length), u.split(length), mask.split(length), strict=True):
        f = (inputs @ weight).add_(bias)
        piece.unflatten(1, (groups, -1)).addcmul_(f.unflatten(1, (groups, -1)), masks[:, :, None])


def run_basic(
    block: BasicBlock, attention: Attention | None, x: torch.Tensor, state: State
) -> tuple[torch.Tensor, State]:
    """One basic block, in place on its own branch: its last convolution is 3x3 and expands nothing."""
    identity = x if block.downsample is None else block.downsample(x)
    f = block.conv2(block.conv1(x).relu_())
    if isinstance(attention, ChannelAttention):
        mask, state = attention.mask(squeeze(rows(f)), state)
        return torch.addcmul(identity, f, mask[:, :, None, None], out=f).relu_(), state
    if attention is not None:
        f, state = attention(f, state)
    return f.add_(identity).relu_(), state


def run_portable(
    block: Block, attention: Attention | None, x: torch.Tensor, state: State
) -> tuple[torch.Tensor, State]:
    """One block by convolutions and out-of-place operations, the squeeze before the expansion."""
    identity = x if block.downsample is None else block.downsample(x)
    if isinstance(block, Bottleneck) and isinstance(attention, ChannelAttention):
        u = F.relu(block.conv2(F.relu(block.conv1(x))))
        y = F.linear(u.mean((2, 3)), block.conv3.weight.flatten(1), block.conv3.bias)
        mask, state = attention.mask(y, state)
        f = block.conv3(u) * mask[:, :, None, None]
    else:
        f = block.residual(x)
        if attention is not None:
            f, state = attention(f, state)
    return F.relu(f + identity), state
