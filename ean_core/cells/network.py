"""The network of a genotype: cells stacked, two of them reductions, as DARTS stacks them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import nn

from ean_core.cells.genotype import INPUTS, Edge, Genotype, Nodes
from ean_core.cells.operations import FactorizedReduce, build_cell_attention, build_operation, conv_bn
from ean_core.cells.stack import CellStack, Place


class CellEdge(nn.Module):
    """One edge: an operation, then its attention.

    Args:
        edge: What it is.
        channels: Of its input and its output.
        stride: 1 or 2.
        size: Height and width of its output, which the kernel of some attentions has.
    """

    def __init__(self, edge: Edge, channels: int, stride: int, size: int) -> None:
        super().__init__()
        self.operation = build_operation(edge.operation, channels, stride)
        self.attention = build_cell_attention(edge.attention, channels, size) if edge.attention else None

    def forward(self, x: torch.Tensor, drop_path: float = 0.0) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, H / stride, W / stride); drop-path spares an identity, as in DARTS."""
        y = self.operation(x)
        if self.attention is not None:
            y, _ = self.attention(y, None)
        if drop_path and self.training and not isinstance(self.operation, nn.Identity):
            kept = torch.rand(len(y), 1, 1, 1, device=y.device) >= drop_path
            y = y * (kept / (1 - drop_path)).to(y.dtype)
        return y


class Cell(nn.Module):
    """One cell: ``state_k = edge(state_i) + edge(state_j)`` for each node; the nodes' concatenation is its output.

    Args:
        nodes: The two edges of each node.
        place: Where in the network it stands.
    """

    def __init__(self, nodes: Nodes, place: Place) -> None:
        super().__init__()
        (older, newer), channels = place.inputs, place.channels
        self.preprocess0 = FactorizedReduce(older, channels) if place.after_reduction else conv_bn(older, channels)
        self.preprocess1 = conv_bn(newer, channels)
        edges = [edge for pair in nodes for edge in pair]
        self.sources = [edge.source for edge in edges]
        self.edges = nn.ModuleList(CellEdge(edge, channels, place.stride(edge.source), place.size) for edge in edges)

    def forward(self, older: torch.Tensor, newer: torch.Tensor, drop_path: float = 0.0) -> torch.Tensor:
        """The outputs of the two cells before -> (N, nodes * C, H, W)."""
        states = [self.preprocess0(older), self.preprocess1(newer)]
        for e in range(0, len(self.edges), 2):
            first, second = (self.edges[i](states[self.sources[i]], drop_path) for i in (e, e + 1))
            states.append(first + second)
        return torch.cat(states[INPUTS:], dim=1)


@MODELS.register_module()
class CellNetwork(CellStack):
    """The network of a genotype. It classifies, or it is a backbone where ``num_classes`` is ``None``.

    On CIFAR the published cell of Att-DARTS has 3,231,343 parameters with 20 cells of 36 channels and 10 classes.

    Args:
        genotype: A :class:`~ean_core.cells.Genotype`, the name of a published one, a text or a file.
        channels: Of the nodes of the first cells; each of the two reductions doubles them.
        layers: Number of cells; those at ``layers // 3`` and ``2 * layers // 3`` reduce.
        num_classes: Classes of the linear layer behind the mean over positions; ``None``: a backbone, which returns the
            feature maps of ``out_indices``.
        stem: ``"cifar"``: one convolution; ``"imagenet"``: three, which make the map eight times smaller.
        auxiliary: With a second classifier for the training (:class:`~ean_core.cells.stack.AuxiliaryHead`).
        attention: ``False``: the same operations without their attentions, the reference of Eq. 9.
        image_size: Height and width of the images; only attentions with a kernel of the map's size depend on it (GE
            does). By default 32 or, with the stem for ImageNet, 224.
        out_indices: Of a backbone: 0 is the map before the first reduction, 1 that before the second, 2 the last one.
            Cells behind the last of these are not built.
        init_cfg: MMEngine initialisation; a ``Pretrained`` checkpoint is loaded completely or not at all.

    Attributes:
        drop_path: Probability with which an edge is dropped for an image of the batch in training
            (:class:`ean_core.engine.DropPathHook` raises it).

    Raises:
        UserError: A wrong genotype or option.
    """

    def __init__(
        self,
        genotype: Genotype | str | os.PathLike[str] = "att-darts",
        *,
        channels: int = 36,
        layers: int = 20,
        num_classes: int | None = 10,
        stem: str = "cifar",
        auxiliary: bool = False,
        attention: bool = True,
        image_size: int | None = None,
        out_indices: Sequence[int] = (0, 1, 2),
        init_cfg: Any = None,
    ) -> None:
        found = Genotype.load(genotype)
        self.genotype = found if attention else found.with_attention(None)
        cells = {False: self.genotype.normal, True: self.genotype.reduce}
        super().__init__(
            lambda place: Cell(cells[place.reduces], place),
            nodes=len(found.normal),
            channels=channels,
            layers=layers,
            num_classes=num_classes,
            stem=stem,
            auxiliary=auxiliary,
            image_size=image_size,
            out_indices=out_indices,
            init_cfg=init_cfg,
        )
        self.drop_path = 0.0
        kinds = {edge.attention for _, cell in self.genotype.cells() for pair in cell for edge in pair} - {None}
        self.attention = {"type": "+".join(sorted(map(str, kinds)))} if kinds else None

    def cell_argument(self, reduces: bool) -> float:
        """The probability of drop-path."""
        return self.drop_path
