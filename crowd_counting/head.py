"""Heads that turn a feature map into a density map."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import nn
from torch.nn import functional as F

from ean_core.backbones.norm import build_norm
from ean_core.errors import UserError

CSRNET = (512, 512, 512, 256, 128, 64)
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "softplus": F.softplus,
}


@MODELS.register_module()
class CSRNetHead(BaseModule):
    """Dilated convolutions without any pooling, then a 1x1 convolution to one channel (Li et al., CSRNet, CVPR 2018).

    The default is CSRNet's back end "B": 3x3 convolutions with dilation 2 and 512-512-512-256-128-64 channels. With
    ``channels=(128,), kernel_size=1`` it is the head of the C3F code base's ResNet-50, 1024-128-1. Weights are drawn
    from a normal distribution with standard deviation 0.01, biases are 0, as in both.

    Args:
        in_channels: C; ``None``: :class:`crowd_counting.counter.CrowdCounter` asks the backbone.
        channels: Of the hidden convolutions.
        kernel_size: Of the hidden convolutions, odd.
        dilation: Of the hidden convolutions.
        norm_cfg: MMCV norm config for the hidden convolutions, such as ``dict(type="BN")``; the originals have none.
            It helps where training starts from random weights: with deviation 0.01 and no norm, a signal shrinks by
            half and more in every layer.
        activation: Of the output. ``"none"``, as CSRNet: densities can be negative. ``"relu"``, as C3F: an output that
            is zero everywhere has no gradient and never recovers. ``"softplus"``: ``log(1 + exp(x))``, never negative,
            and its gradient never vanishes; the output starts at 0.69, so the label scale should bring a typical cell
            near 1 (:class:`crowd_counting.losses.DensityLoss`).
        upsample: Enlarge the output by so much, bilinearly, each cell's people shared among its parts: the sum stays.
        init_cfg: MMEngine initialisation.

    Raises:
        UserError: An option is out of range.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        channels: Sequence[int] = CSRNET,
        kernel_size: int = 3,
        dilation: int = 2,
        norm_cfg: Mapping[str, Any] | None = None,
        activation: str = "softplus",
        upsample: int = 1,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg or {"type": "Normal", "layer": "Conv2d", "std": 0.01})
        if activation not in ACTIVATIONS:
            raise UserError(f"head.activation must be {', '.join(ACTIVATIONS)}, got {activation!r}")
        if kernel_size < 1 or kernel_size % 2 == 0 or dilation < 1 or upsample < 1 or not channels:
            raise UserError(
                "the head needs an odd kernel_size, dilation and upsample of at least 1 and hidden channels, got "
                f"kernel_size={kernel_size}, dilation={dilation}, upsample={upsample}, channels={tuple(channels)}"
            )
        layers: list[nn.Module] = []
        for width in channels:
            padding = dilation * (kernel_size // 2)
            layers.append(nn.Conv2d(in_channels, width, kernel_size, 1, padding, dilation, bias=norm_cfg is None))
            layers += [build_norm(norm_cfg, width)] if norm_cfg is not None else []
            layers.append(nn.ReLU(inplace=True))
            in_channels = width
        self.layers = nn.Sequential(*layers)
        self.output = nn.Conv2d(in_channels, 1, 1)
        self.activation, self.upsample = activation, upsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features (N, C, h, w) -> density times the label scale, (N, 1, h * upsample, w * upsample)."""
        out = ACTIVATIONS[self.activation](self.output(self.layers(x)))
        if self.upsample == 1:
            return out
        parts = self.upsample**2
        return F.interpolate(out, scale_factor=self.upsample, mode="bilinear", align_corners=False) / parts
