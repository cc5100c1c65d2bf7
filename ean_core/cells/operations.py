"""The operations of DARTS (Liu et al., ICLR 2019, arXiv 1806.09055) and what every cell network is made of besides.

All take (N, C, H, W); a stride of 2 halves H and W, odd sizes rounded up.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ean_core.attention import Attention, build_attention
from ean_core.attention.conv import SameConv
from ean_core.errors import UserError

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)


def norm(channels: int, affine: bool) -> nn.BatchNorm2d:
    """The batch norm of a network, or (not affine) of a supernet: that has no parameters and no running statistics.

    Without its own scale no candidate can take the place of its weight. A supernet normalises by its batch in
    evaluation too: running statistics would average over weights that change with every step of the search.
    """
    return nn.BatchNorm2d(channels, affine=affine, track_running_stats=affine)


def conv_bn(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, affine: bool = True, relu: bool = True
) -> nn.Sequential:
    """ReLU (where asked for), convolution without bias, batch norm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(*([nn.ReLU()] if relu else []), conv, norm(outputs, affine))


def separable(channels: int, kernel: int, stride: int, dilation: int, *, affine: bool) -> list[nn.Module]:
    """ReLU, depthwise and pointwise convolution, batch norm: all of a dilated operation, half of a separable one."""
    spatial = SameConv(channels, outputs=channels, kernel=kernel, stride=stride, dilation=dilation, depthwise=True)
    return [nn.ReLU(), spatial, nn.Conv2d(channels, channels, 1, bias=False), norm(channels, affine)]


class FactorizedReduce(nn.Module):
    """Halve the resolution without losing every other pixel's content.

    ReLU; two 1x1 convolutions of stride 2, the second on the map moved by one pixel, give half of the channels each;
    batch norm. The map is padded on the right and below where it is moved, so that odd sizes work too.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output, an even number.
        affine: Whether the batch norm has parameters.
    """

    def __init__(self, inputs: int, outputs: int, affine: bool = True) -> None:
        super().__init__()
        if outputs % 2:
            raise UserError(f"a cell network halves its maps with an even number of channels, not {outputs}")
        self.even = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.norm = norm(outputs, affine)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / 2, W / 2)."""
        return self.norm(self.halve(torch.relu(x)))

    def halve(self, x: torch.Tensor) -> torch.Tensor:
        """The convolutions alone."""
        moved = F.pad(x[:, :, 1:, 1:], (0, 1, 0, 1))
        return torch.cat([self.even(x), self.odd(moved)], dim=1)


def build_operation(name: str, channels: int, stride: int, *, affine: bool = True) -> nn.Module:
    """One of :data:`OPERATIONS` but ``none``, as the networks that are found use them: pools without batch norm.

    Args:
        name: The operation.
        channels: Of its input and its output.
        stride: 1 or 2.
        affine: Whether batch norms have parameters (see :func:`norm`).
    """
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, padding=1)
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)
    kernel = int(name[-1])
    if name.startswith("dil_conv"):
        return nn.Sequential(*separable(channels, kernel, stride, 2, affine=affine))
    halves = (separable(channels, kernel, s, 1, affine=affine) for s in (stride, 1))
    return nn.Sequential(*(layer for half in halves for layer in half))


def build_cell_attention(name: str, channels: int, size: int) -> Attention:
    """An attention behind an operation of a cell, in the form that Att-DARTS gives it.

    Squeeze-and-Excitation and Gather-Excite without biases, and the latter as theta+ with a kernel of the map's size
    and no ReLU behind its gather's norm; hidden layers have C // 16 units, one at least. Others have their defaults.

    Args:
        name: What :func:`~ean_core.attention.build_attention` takes as ``type``.
        channels: C.
        size: Height and width of the map.
    """
    hidden = {"reduction": min(16, channels)}
    options: dict[str, dict[str, Any]] = {
        "SE": {**hidden, "bias": False},
        "BAM": hidden,
        "CBAM": hidden,
        "GC": {"ratio": max(1 / 16, 1.5 / channels)},
        "A2": {"m": max(1, channels // 4), "n": max(1, channels // 4)},
        "GE": {**hidden, "variant": "theta+", "size": size, "bias": False},
    }
    return build_attention({"type": name, **options.get(name, {})}, channels)
