"""A bottleneck for inference: the attention before the expansion, which then needs one pass.

An attention that asks for no more than the means of the branch, or for SGE's similarities, is answered from the input
of the branch's last convolution, which has a quarter of the channels: see :mod:`ean_core.deploy.plain`. The branch
itself is needed once, in ``relu(x + mask * (W u + b))``.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from ean_core.attention import DIA, SE, SGE, Attention, ChannelAttention, State
from ean_core.backbones.stage import Bottleneck
from ean_core.deploy import plain
from ean_core.deploy.cpu import operators
from ean_core.plug.connect import connect


class Branch(NamedTuple):
    """A residual branch ``mask * (W relu(u) + b)`` before its last convolution.

    Attributes:
        u: (N, K, H, W); an attention leaves its ReLU there, which costs no pass of its own then.
        mask: Nothing, (N, C), or (N, G, H, W) for G groups of channels.
    """

    u: torch.Tensor
    mask: torch.Tensor | None = None


def run_bottleneck(
    block: Bottleneck, attention: Attention | None, gate: bool, x: torch.Tensor, state: State, way: ModuleType
) -> tuple[torch.Tensor, State]:
    """One bottleneck with its gate: (N, C_in, H, W) and the state before it, to the same after it.

    Args:
        block: Its batch norms are folded.
        attention: A module of ours, or ``None``.
        gate: The connection.
        x: Channels-last. Its memory may be used for the result.
        state: The attention's state.
        way: :mod:`ean_core.deploy.cpu.operators` or :mod:`ean_core.deploy.plain`.
    """
    weight, bias = block.conv3.weight, block.conv3.bias

    def recalibrate(branch: Branch, state: State) -> tuple[Branch, State]:
        mask = None
        if isinstance(attention, SGE):
            mask = way.similarity_(branch.u, weight, bias, attention)
        elif isinstance(attention, ChannelAttention):
            mask, state = channel_mask(attention, way.squeeze_(branch.u, weight, bias), state, way)
        return Branch(branch.u, mask), state

    u = channels_last(block.conv2(way.project(x, block.conv1.weight, block.conv1.bias)))
    (u, mask), state = connect(recalibrate, gate, Branch(u), state)
    if mask is None:
        u.relu_()
    identity = x if block.downsample is None else channels_last(block.downsample(x))
    return way.expand(identity, u, weight, bias, mask), state


def channel_mask(
    attention: ChannelAttention, y: torch.Tensor, state: State, way: ModuleType
) -> tuple[torch.Tensor, State]:
    """The mask (N, C) from the means ``y`` (N, C)."""
    perceptron = getattr(attention, "perceptron", None)
    if perceptron is None or way is plain:
        mask, state = attention.mask(y, state)
        return mask.to(y.dtype).expand_as(y).contiguous(), state
    if isinstance(attention, SE):
        return perceptron(y), state
    h, c = state if state is not None else (torch.zeros_like(y), torch.zeros_like(y))
    h, c = operators.remember(perceptron(torch.cat([y, h], 1)), c)
    return h, (h, c)


class Perceptron(nn.Module):
    """SE's mask of the means, or the sigmoids of DIA's scores, as one operator.

    Args:
        pairs: Two layers each, whose results are added up, for consecutive parts of the input.
        double: The scores that count twice, as a ``tanh`` by a sigmoid needs them.
    """

    first: torch.Tensor
    bias1: torch.Tensor
    second: torch.Tensor
    bias2: torch.Tensor

    def __init__(self, pairs: list[tuple[nn.Linear, nn.Linear]], double: slice = slice(0)) -> None:
        super().__init__()
        first, bias1 = torch.block_diag(*(a.weight for a, _ in pairs)), torch.cat([a.bias for a, _ in pairs])
        second, bias2 = torch.cat([b.weight for _, b in pairs], 1), torch.stack([b.bias for _, b in pairs]).sum(0)
        factor = torch.ones_like(bias2)
        factor[double] = 2
        padding = -len(bias1) % operators.LANES  # hidden units that are always 0
        self.register_buffer("first", operators.panels(F.pad(first, (0, 0, 0, padding))))
        self.register_buffer("bias1", F.pad(bias1, (0, padding)))
        self.register_buffer("second", operators.panels(F.pad(second * factor[:, None], (0, padding))))
        self.register_buffer("bias2", bias2 * factor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, K) -> (N, C)."""
        return operators.perceptron(x, self.first, self.bias1, self.second, self.bias2)


def add_perceptron(attention: Attention) -> None:
    """Give SE and DIA their weights as one :class:`Perceptron`; others are left alone."""
    if type(attention) is SE and attention.fc1.bias is not None:
        attention.perceptron = Perceptron([(attention.fc1, attention.fc2)])
    elif type(attention) is DIA:
        of_y: list[Any] = list(attention.input_gates)
        of_h: list[Any] = list(attention.hidden_gates)
        c = of_y[0].in_features
        attention.perceptron = Perceptron([(of_y[0], of_y[2]), (of_h[0], of_h[2])], double=slice(2 * c, 3 * c))


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """``x`` with its channels last in memory, as the loops read it."""
    return x.contiguous(memory_format=torch.channels_last)
