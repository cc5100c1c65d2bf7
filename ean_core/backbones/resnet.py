"""EANResNet: an ImageNet-type ResNet whose blocks are plugged into attention by a connection scheme."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmengine.registry import MODELS
from torch import nn

from ean_core.backbones.base import StagedBackbone
from ean_core.backbones.norm import build_norm
from ean_core.backbones.stage import BasicBlock, Block, Bottleneck
from ean_core.errors import UserError
from ean_core.scheme import ConnectionScheme

ARCHITECTURES: dict[int, tuple[type[Block], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


def detect_depth(names: Iterable[str]) -> int | None:
    """The depth of the ResNet whose tensors have these names (torchvision's or ours); ``None``: it is none of these."""
    found = {match[0] for name in names if (match := re.match(r"layer\d\.\d+\.conv[23]", name))}
    blocks = tuple(
        sum(block.startswith(f"layer{i}.") and block.endswith("conv2") for block in found) for i in range(1, 5)
    )
    kind = Bottleneck if "layer1.0.conv3" in found else BasicBlock
    return next((depth for depth, architecture in ARCHITECTURES.items() if architecture == (kind, blocks)), None)


@MODELS.register_module()
class EANResNet(StagedBackbone):
    """ResNet (He et al., 2016; stride on the 3x3 convolution) with shared, sparsely connected attention.

    Parameters carry torchvision's names; a stage's shared module is ``layerN.attention``, a block's own one
    ``layerN.M.attention``. ``sharing="block"`` is the paper's Org-full, ``sharing="stage", scheme="full"`` its
    Share-full, and ``attention=None`` the plain ResNet, equal to torchvision's bit for bit.

    Args:
        depth: 18, 34, 50, 101 or 152.
        attention: Config of the attention, e.g. ``dict(type="SE", reduction=16)``, or ``None``.
        sharing: ``"stage"``: one module per stage; ``"block"``: one per connected block.
        scheme: What :meth:`ConnectionScheme.parse` takes; for a ResNet-50 ``"100-1011-010011-011"``.
        out_indices: Stages (0-based) whose outputs are returned.
        num_stages: The number of stages to build: 3 for a task that needs no ``layer4``, whose unused parameters would
            cost memory and break distributed training. Schemes keep the bits of all four, strides and dilations their
            values; pretrained weights of the whole network load.
        strides: Stride of each stage.
        dilations: Dilation of each stage's 3x3 convolutions.
        contract_dilation: Halve the dilation of a dilated stage's first block, as MMSegmentation does.
        deep_stem: Three 3x3 convolutions for the 7x7 one (ResNet-C), with MMSegmentation's names.
        stem_channels: Channels after the stem.
        in_channels: Channels of the input.
        conv_bias: Biased convolutions, as in the EAN authors' ImageNet code.
        norm_cfg: MMCV norm config, e.g. ``dict(type="SyncBN")``; batch norm by default.
        norm_eval: Keep batch norms in evaluation mode while training.
        frozen_stages: 0 freezes the stem, a number n above 0 the first n stages too; -1 freezes nothing.
        with_cp: Recompute activations in the backward pass to save memory.
        init_cfg: MMEngine initialisation; ``dict(type="Pretrained", checkpoint=PATH)`` loads any format that
            :mod:`ean_core.backbones.weights` reads and fails unless the whole backbone is covered.

    Raises:
        UserError: An unknown depth, attention or sharing, or a scheme that does not fit.
    """

    def __init__(
        self,
        depth: int = 50,
        *,
        attention: Mapping[str, Any] | None = None,
        sharing: str = "stage",
        scheme: str | ConnectionScheme = "full",
        out_indices: Sequence[int] = (3,),
        strides: Sequence[int] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
        contract_dilation: bool = False,
        deep_stem: bool = False,
        stem_channels: int = 64,
        in_channels: int = 3,
        conv_bias: bool = False,
        norm_cfg: Mapping[str, Any] | None = None,
        norm_eval: bool = False,
        frozen_stages: int = -1,
        with_cp: bool = False,
        num_stages: int = 4,
        init_cfg: Any = None,
    ) -> None:
        if depth not in ARCHITECTURES:
            raise UserError(f"EANResNet has no depth {depth}: choose from {', '.join(map(str, ARCHITECTURES))}")
        block, blocks = ARCHITECTURES[depth]
        super().__init__(
            blocks,
            attention=attention,
            sharing=sharing,
            scheme=scheme,
            out_indices=out_indices,
            num_stages=num_stages,
            norm_eval=norm_eval,
            frozen_stages=frozen_stages,
            with_cp=with_cp,
            init_cfg=init_cfg,
        )
        self.torchvision = f"resnet{depth}"
        if deep_stem:
            widths = (in_channels, stem_channels // 2, stem_channels // 2, stem_channels)
            layers: list[nn.Module] = []
            for i in range(3):
                stride = 2 if i == 0 else 1
                layers += [
                    nn.Conv2d(widths[i], widths[i + 1], 3, stride, 1, bias=conv_bias),
                    build_norm(norm_cfg, widths[i + 1]),
                    nn.ReLU(inplace=True),
                ]
            self.stem = nn.Sequential(*layers)
        else:
            self.conv1 = nn.Conv2d(in_channels, stem_channels, 7, 2, 3, bias=conv_bias)
            self.bn1 = build_norm(norm_cfg, stem_channels)
            self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.deep_stem = deep_stem
        self.add_stages(
            block,
            stem_channels,
            planes=(64, 128, 256, 512),
            strides=strides,
            dilations=dilations,
            contract_dilation=contract_dilation,
            norm_cfg=norm_cfg,
            conv_bias=conv_bias,
        )

    def stem_modules(self) -> list[nn.Module]:
        """The modules before the first stage, in order."""
        return [self.stem, self.maxpool] if self.deep_stem else [self.conv1, self.bn1, self.relu, self.maxpool]
