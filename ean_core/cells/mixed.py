"""The mixed cell of a supernet: every edge is the weighted sum of all operations, then of all attentions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from ean_core.attention.conv import SameConv
from ean_core.cells.genotype import INPUTS
from ean_core.cells.operations import FactorizedReduce, build_cell_attention, build_operation, conv_bn
from ean_core.cells.stack import Place
from ean_core.errors import UserError

TOGETHER = 16
"""Edges of one state are computed together up to this number of channels: fewer do not fill a CPU's vectors."""

Scalars = tuple[torch.Tensor | None, ...]
"""The weights of an edge's candidates, ``None`` for those that are left out."""


class Mixture(NamedTuple):
    """The weights of all edges of a cell.

    Attributes:
        alpha: Of the operations, (edges, operations).
        operations: The same as scalars, by edge.
        attentions: Of the attentions, by edge.
        edges: Of the edges themselves, with partial channels.
    """

    alpha: torch.Tensor
    operations: list[Scalars]
    attentions: list[Scalars]
    edges: Scalars


class Input:
    """A state as its edges take it: what does not depend on the edge is computed once for all of them.

    Args:
        x: The state (N, C, H, W).
        stride: Of its edges.
    """

    def __init__(self, x: torch.Tensor, stride: int) -> None:
        self.x, self.stride = x, stride
        self._plain: dict[str, torch.Tensor] = {}

    @cached_property
    def relu(self) -> torch.Tensor:
        """What every convolution begins with."""
        return torch.relu(self.x)

    def plain(self, name: str) -> torch.Tensor:
        """The output of an operation without parameters: a pool, normalised, or the state itself."""
        if name == "skip_connect":
            return self.x
        if name not in self._plain:
            if name == "max_pool_3x3":
                y = F.max_pool2d(self.x, 3, self.stride, 1)
            else:
                y = F.avg_pool2d(self.x, 3, self.stride, 1, count_include_pad=False)
            self._plain[name] = normalize(y)
        return self._plain[name]


class MixedEdge(nn.Module):
    """The candidates of an edge: ``h = sum_o a_o operation_o(x)``, then ``sum_k b_k attention_k(h)``.

    Args:
        operations: Names of the candidates; those without parameters need no module.
        attentions: Names of the candidates, ``"none"`` for none.
        channels: Of its input and its output.
        stride: 1 or 2.
        size: Height and width of its output.
    """

    def __init__(
        self, operations: Sequence[str], *, attentions: Sequence[str], channels: int, stride: int, size: int
    ) -> None:
        super().__init__()
        self.operations = nn.ModuleDict()
        for name in operations:
            if "conv" in name or (name == "skip_connect" and stride == 2):
                self.operations[name] = build_operation(name, channels, stride, affine=False)
        self.attentions = nn.ModuleList(
            None if name == "none" else build_cell_attention(name, channels, size)  # type: ignore[misc]  # torch allows None
            for name in attentions
        )

    def attend(self, h: torch.Tensor, weights: Scalars) -> torch.Tensor:
        """The weighted sum of the attentions of ``h``."""
        out: torch.Tensor | None = None
        for attention, weight in zip(self.attentions, weights, strict=True):
            if weight is not None:
                y = (h if attention is None else attention(h, None)[0]) * weight
                out = y if out is None else out.add_(y)
        if out is None:
            raise UserError("no attention is left on an edge")
        return out


def operate(
    edges: Sequence[MixedEdge], x: Input, names: Sequence[str], weights: Sequence[Scalars]
) -> list[torch.Tensor | None]:
    """The weighted sum of the operations of each edge of a state, but for those without parameters.

    An operation's weight is the scale of the batch norm that it ends with, which has none of its own.

    Args:
        edges: Of one state.
        x: The state.
        names: Of the candidates.
        weights: Of each edge.
    """
    sums: dict[tuple[int, ...], torch.Tensor] = {}
    for o, name in enumerate(names):
        if name not in edges[0].operations:
            continue
        own = tuple(e for e in range(len(edges)) if weights[e][o] is not None)
        if own:
            y = _together([edges[e].operations[name] for e in own], x)
            scale = torch.stack([weights[e][o] for e in own])  # type: ignore[misc]
            y = normalize(y, scale.repeat_interleave(y.shape[1] // len(own)))
            sums[own] = sums[own].add_(y) if own in sums else y
    found: list[torch.Tensor | None] = [None] * len(edges)
    for own, y in sums.items():
        for e, part in zip(own, y.chunk(len(own), dim=1), strict=True):
            before = found[e]
            found[e] = part if before is None else before + part
    return found


def _together(operations: Sequence[Any], x: Input) -> torch.Tensor:
    """The same operation of several edges of one state, without its last norm: (N, edges * C, H, W)."""
    number = len(operations)
    if isinstance(operations[0], FactorizedReduce):
        return torch.cat([operation.halve(x.relu) for operation in operations], dim=1)
    y = torch.cat([x.relu] * number, dim=1) if number > 1 else x.relu
    for layers in list(zip(*operations, strict=True))[1:-1]:
        first: Any = layers[0]
        if number == 1:
            y = first(y)
        elif isinstance(first, SameConv):
            y = first.convolve(y, torch.cat([layer.weight for layer in layers]))
        elif isinstance(first, nn.Conv2d):  # 1x1; one dense product is faster than groups of a few channels
            y = F.conv2d(y, torch.block_diag(*(layer.weight[:, :, 0, 0] for layer in layers))[:, :, None, None])
        elif isinstance(first, nn.BatchNorm2d):
            y = normalize(y)
        else:
            y = first(y)
    return y


class SuperCell(nn.Module):
    """A cell with all edges.

    Args:
        operations: Names of the candidates.
        place: Where in the network it stands.
        attentions: Names of the candidates.
        nodes: Number of nodes.
        partial: ``k``: one of ``k`` channels goes through the candidates.
    """

    def __init__(
        self, operations: Sequence[str], *, place: Place, attentions: Sequence[str], nodes: int, partial: int
    ) -> None:
        super().__init__()
        (older, newer), channels = place.inputs, place.channels
        self.preprocess0: nn.Module = (
            FactorizedReduce(older, channels, affine=False)
            if place.after_reduction
            else conv_bn(older, channels, affine=False)
        )
        self.preprocess1 = conv_bn(newer, channels, affine=False)
        self.place, self.nodes, self.partial, self.own = place, nodes, partial, channels // partial
        self.names = tuple(operations)
        self.edges = nn.ModuleList(
            MixedEdge(
                operations, attentions=attentions, channels=self.own, stride=place.stride(source), size=place.size
            )
            for _, source in all_edges(nodes)
        )

    def forward(self, older: torch.Tensor, newer: torch.Tensor, weights: Mixture) -> torch.Tensor:
        """The outputs of the two cells before -> (N, nodes * C, H, W)."""
        ready: dict[tuple[int, int], torch.Tensor] = {}  # what each edge adds to its node, by (node, source)
        rests: list[torch.Tensor | None] = []
        for state in (self.preprocess0(older), self.preprocess1(newer)):
            rests.append(self._leave(state, len(rests), weights, ready))
        outputs: list[torch.Tensor] = []
        for node in range(INPUTS, INPUTS + self.nodes):
            total: torch.Tensor | None = None
            for source, rest in enumerate(rests):
                y = ready.get((node, source))
                if y is None:
                    continue
                weight = weights.edges[(node - INPUTS) * (node + 1) // 2 + source]
                if rest is not None and weight is not None:
                    y = torch.cat([y, rest], dim=1) * weight
                total = y if total is None else total + y
            if total is None:
                raise UserError(f"no edge into node {node} is left")
            outputs.append(F.channel_shuffle(total, self.partial) if self.partial > 1 else total)
            if len(outputs) < self.nodes:
                rests.append(self._leave(outputs[-1], node, weights, ready))
        return torch.cat(outputs, dim=1)

    def _leave(
        self, state: torch.Tensor, source: int, weights: Mixture, ready: dict[tuple[int, int], torch.Tensor]
    ) -> torch.Tensor | None:
        """Compute all edges that leave a state into ``ready``; returns the channels that go past the candidates."""
        stride, rest = self.place.stride(source), None
        if self.partial > 1:
            rest = state[:, self.own :]
            rest = rest if stride == 1 else F.max_pool2d(rest, 2, 2, ceil_mode=True)
            state = state[:, : self.own]
        x = Input(state.contiguous(memory_format=torch.channels_last), stride)
        leaving = [(e, node) for e, (node, begin) in enumerate(all_edges(self.nodes)) if begin == source]
        number = max(1, TOGETHER // self.own)
        for start in range(0, len(leaving), number):
            part = leaving[start : start + number]
            edges: list[Any] = [self.edges[e] for e, _ in part]
            sums = operate(edges, x, self.names, [weights.operations[e] for e, _ in part])
            bases = self._plain(x, [e for e, _ in part], weights)
            for (e, node), edge, h, base in zip(part, edges, sums, bases, strict=True):
                h = base if h is None else h if base is None else base + h
                if h is not None:
                    ready[node, source] = edge.attend(h, weights.attentions[e])
        return rest

    def _plain(self, x: Input, edges: Sequence[int], weights: Mixture) -> list[torch.Tensor | None]:
        """The weighted sum of the operations without parameters, of each edge."""
        modules: Any = self.edges[edges[0]].operations
        names = [(i, name) for i, name in enumerate(self.names) if name != "none" and name not in modules]
        plain = [i for i, _ in names if any(weights.operations[e][i] is not None for e in edges)]
        if not plain:
            return [None] * len(edges)
        # All edges' sums by one product of matrices: (edges, plain) @ (plain, N H W C)
        maps = torch.stack([x.plain(self.names[i]).permute(0, 2, 3, 1) for i in plain])
        sums = weights.alpha[list(edges)][:, plain] @ maps.flatten(1)
        views = [row.view(maps.shape[1:]).permute(0, 3, 1, 2) for row in sums.unbind()]
        left = [any(weights.operations[e][i] is not None for i in plain) for e in edges]
        return [view if is_left else None for view, is_left in zip(views, left, strict=True)]


def all_edges(nodes: int) -> list[tuple[int, int]]:
    """``(node, source)`` of every edge that a cell can have, ordered by node, then by source: 14 for 4 nodes."""
    return [(node, source) for node in range(INPUTS, INPUTS + nodes) for source in range(node)]


def normalize(x: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
    """By the batch's statistics of each channel, times ``scale`` (C,).

    ``scale`` must be contiguous: torch 2.15 computes wrong gradients of a channels-last map without saying so where it
    is an expanded scalar.
    """
    return F.batch_norm(x, None, None, scale, training=True)
