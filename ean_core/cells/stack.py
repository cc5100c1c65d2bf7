"""How cells are stacked: where each stands, the stem before them, and the classifiers behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import nn

from ean_core.backbones.weights import load_pretrained
from ean_core.cells.genotype import INPUTS
from ean_core.cells.operations import conv_bn
from ean_core.errors import UserError

SIZES = {"cifar": 32, "imagenet": 224}
"""The stems, and the size of the images that each is made for."""


@dataclass(frozen=True)
class Place:
    """Where a cell stands.

    Attributes:
        inputs: Channels of the outputs of the two cells before it, older first.
        channels: C of its nodes.
        reduces: Whether it halves the resolution.
        after_reduction: Whether the cell before it did, so that the older input has to be halved as well.
        size: Height and width of its output.
    """

    inputs: tuple[int, int]
    _: KW_ONLY
    channels: int
    reduces: bool
    after_reduction: bool
    size: int

    def stride(self, source: int) -> int:
        """Of an edge from a state: 2 from the inputs of a cell that reduces."""
        return 2 if self.reduces and source < INPUTS else 1


class CellStack(BaseModule):
    """A stem, cells, and a classifier or feature maps; what :class:`CellNetwork` and :class:`CellSupernet` share.

    Args:
        build: Makes the cell of a place.
        nodes: Number of nodes of a cell.
        channels: See :class:`CellNetwork`, as the others.

    Attributes:
        out_channels: Channels of the three feature maps: before the first reduction, before the second, the last.
        image_size: Height and width of the images that it is made for.
        left_out: What the names of the cells behind the last feature map begin with.
    """

    def __init__(
        self,
        build: Callable[[Place], nn.Module],
        *,
        nodes: int,
        channels: int,
        layers: int,
        num_classes: int | None,
        stem: str,
        auxiliary: bool = False,
        image_size: int | None = None,
        out_indices: Sequence[int] = (0, 1, 2),
        init_cfg: Any = None,
    ) -> None:
        pretrained = isinstance(init_cfg, dict) and init_cfg.get("type") == "Pretrained"
        super().__init__(None if pretrained else init_cfg)
        self.pretrained: str | None = init_cfg["checkpoint"] if pretrained else None
        if stem not in SIZES:
            raise UserError(f"stem must be {' or '.join(SIZES)}, got {stem!r}")
        whole_number("nodes", nodes, 1)
        whole_number("channels", channels, 1)
        whole_number("layers", layers, 3)
        if num_classes is not None:
            whole_number("num_classes", num_classes, 1)
        if image_size is not None:
            whole_number("image_size", image_size, 1)
        self.out_indices = tuple(sorted(out_indices)) if num_classes is None else (2,)
        if not self.out_indices or not set(self.out_indices) <= {0, 1, 2}:
            raise UserError(f"out_indices {tuple(out_indices)} must be one or more of 0, 1, 2")
        self.image_size = image_size or SIZES[stem]
        self.stem, width, size = _stem(stem, channels, self.image_size)
        self.reductions = (layers // 3, 2 * layers // 3)
        self.ends = (*(i - 1 for i in self.reductions), layers - 1)
        self.out_channels = [nodes * channels * 2**i for i in range(3)]

        self.cells = nn.ModuleList()
        inputs, after_reduction = (width, width), stem == "imagenet"
        for i in range(self.ends[self.out_indices[-1]] + 1):
            reduces = i in self.reductions
            if reduces:
                channels, size = 2 * channels, (size + 1) // 2
            place = Place(inputs, channels=channels, reduces=reduces, after_reduction=after_reduction, size=size)
            self.cells.append(build(place))
            inputs, after_reduction = (inputs[1], nodes * channels), reduces

        self.left_out = tuple(f"cells.{i}." for i in range(len(self.cells), layers))
        self.kind, self.num_classes = stem, num_classes
        self.auxiliary = self.classifier = None
        if num_classes is not None:
            self.auxiliary = self.auxiliary_head(num_classes) if auxiliary else None
            self.classifier = nn.Linear(self.out_channels[-1], num_classes)

    def auxiliary_head(self, num_classes: int) -> AuxiliaryHead:
        """A second classifier for the map behind the second reduction."""
        return AuxiliaryHead(self.out_channels[-1], num_classes, self.kind)

    def cell_argument(self, reduces: bool) -> Any:
        """What the cells of a kind take besides their two inputs, once a forward pass."""
        raise NotImplementedError

    @property
    def stages(self) -> list[nn.Module]:
        """The cells whose outputs are the feature maps."""
        return [self.cells[i] for i in self.ends if i < len(self.cells)]

    @property
    def network(self) -> nn.Module:
        """Itself."""
        return self

    def maps(self, x: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Images (N, 3, H, W) -> the feature maps of ``out_indices``, and that behind the second reduction."""
        if self.kind == "cifar":
            older = newer = self.stem(x)
        else:
            older = self.stem[0](x)
            newer = self.stem[1](older)
        arguments = self.cell_argument(False), self.cell_argument(True)
        found, side = [], newer
        for i, cell in enumerate(self.cells):
            older, newer = newer, cell(older, newer, arguments[i in self.reductions])
            if i in self.ends and self.ends.index(i) in self.out_indices:
                found.append(newer)
            if i == self.reductions[1]:
                side = newer
        return tuple(found), side

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Images (N, 3, H, W) -> logits (N, K), in training with an auxiliary head also its logits; or feature maps."""
        found, side = self.maps(x)
        if self.classifier is None:
            return found
        logits = self.classifier(found[-1].mean((2, 3)))
        return (logits, self.auxiliary(side)) if self.auxiliary is not None and self.training else logits

    def init_weights(self) -> None:
        """Draw the weights that ``init_cfg`` speaks of, or load a checkpoint; else they stay as PyTorch draws them."""
        super().init_weights()
        if self.pretrained is not None:
            load_pretrained(self, self.pretrained)


class AuxiliaryHead(nn.Module):
    """The second classifier of a training, on the map behind the second reduction (8x8 on CIFAR, 7x7 on ImageNet).

    ReLU, mean over 5x5 positions (stride 3 on CIFAR, 2 on ImageNet), 1x1 to 128 and 2x2 to 768 channels, both with
    batch norm and ReLU, linear layer. As in DARTS the last batch norm is left out on ImageNet. What DARTS does not
    provide for: a smaller map is not pooled, and where several positions are left the linear layer takes their mean.
    """

    def __init__(self, channels: int, num_classes: int, stem: str = "cifar") -> None:
        super().__init__()
        stride = 3 if stem == "cifar" else 2
        self.pool = nn.AvgPool2d(5, stride, count_include_pad=False)
        self.least = 5 + stride  # of a map that is pooled: two positions remain
        self.layers = nn.Sequential(
            conv_bn(channels, 128, relu=False),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768) if stem == "cifar" else nn.Identity(),
            nn.ReLU(),
        )
        self.fc = nn.Linear(768, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> logits (N, K)."""
        x = torch.relu(x)
        if min(x.shape[2:]) >= self.least:
            x = self.pool(x)
        if min(x.shape[2:]) < 2:
            raise UserError("the auxiliary classifier needs maps of 2x2 at least: larger images, or auxiliary=0")
        return self.fc(self.layers(x).mean((2, 3)))


def whole_number(name: str, value: Any, least: int) -> None:
    """Check an option.

    Raises:
        UserError: It is no whole number, or too small.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{name} is a whole number of {least} or more, got {value!r}")


def _stem(kind: str, channels: int, size: int) -> tuple[nn.Sequential, int, int]:
    """The layers before the cells, their output's channels and its size."""
    if kind == "cifar":
        return conv_bn(3, 3 * channels, 3, relu=False), 3 * channels, size
    first = nn.Sequential(*conv_bn(3, channels // 2, 3, 2, relu=False), *conv_bn(channels // 2, channels, 3, 2))
    for _ in range(3):
        size = (size + 1) // 2
    return nn.Sequential(first, conv_bn(channels, channels, 3, 2)), channels, size
