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
        multi_grid: Dilation of each block of the last stage (DeepLabv3), which ``contract_dilation`` leaves alone then.
        deep_stem: Three 3x3 convolutions for the 7x7 one (ResNet-C), with MMSegmentation's names.
        avg_down: Shortcuts are pooled before their convolution (ResNet-D), with MMSegmentation's names.
        stem_channels: Channels after the stem.
        base_channels: Planes of the first stage, doubled in every further one.
        in_channels: Channels of the input.
        conv_bias: Biased convolutions, as in the EAN authors' ImageNet code.
        norm_cfg: MMCV norm config, e.g. ``dict(type="SyncBN")``; batch norm by default.
        norm_eval: Keep batch norms in evaluation mode while training.
        frozen_stages: 0 freezes the stem, a number n above 0 the first n stages too; -1 freezes nothing.
        with_cp: Recompute activations in the backward pass to save memory.
        zero_init_residual: Let the weights of every block's last norm begin at 0, so that blocks begin as identities.
            MMSegmentation does so by default; torchvision and this class do not.
        init_cfg: MMEngine initialisation; ``dict(type="Pretrained", checkpoint=PATH)`` loads any format that
            :mod:`ean_core.backbones.weights` reads and fails unless the whole backbone is covered.
        pretrained: A file or address of weights, another word for the same in MMSegmentation's configs.
        style: Taken from MMSegmentation's configs: ``"pytorch"``, the stride on the 3x3 convolution.
        conv_cfg: As ``style``: ``None`` or ``dict(type="Conv2d")``.
        dcn: As ``style``: ``None``.
        stage_with_dcn: As ``style``: without ``dcn`` it says nothing.
        plugins: As ``style``: ``None``.

    Raises:
        UserError: An unknown depth, attention or sharing, a scheme that does not fit, or a network that this class
            does not build.
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
        multi_grid: Sequence[int] | None = None,
        deep_stem: bool = False,
        avg_down: bool = False,
        stem_channels: int = 64,
        base_channels: int = 64,
        in_channels: int = 3,
        conv_bias: bool = False,
        norm_cfg: Mapping[str, Any] | None = None,
        norm_eval: bool = False,
        frozen_stages: int = -1,
        with_cp: bool = False,
        num_stages: int = 4,
        zero_init_residual: bool = False,
        init_cfg: Any = None,
        pretrained: str | None = None,
        style: str = "pytorch",
        conv_cfg: Mapping[str, Any] | None = None,
        dcn: Mapping[str, Any] | None = None,
        stage_with_dcn: Sequence[bool] = (),
        plugins: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        if depth not in ARCHITECTURES:
            raise UserError(f"EANResNet has no depth {depth}: choose from {', '.join(map(str, ARCHITECTURES))}")
        _refuse_other_networks(style, conv_cfg, dcn, plugins)
        if pretrained is not None:
            if init_cfg is not None:
                raise UserError("EANResNet: pretrained and init_cfg both say what to begin with: name one of them")
            init_cfg = {"type": "Pretrained", "checkpoint": pretrained}
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
        self.zero_init_residual = zero_init_residual
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
            planes=[base_channels * 2**i for i in range(4)],
            strides=strides,
            dilations=dilations,
            contract_dilation=contract_dilation,
            multi_grid=multi_grid,
            avg_down=avg_down,
            norm_cfg=norm_cfg,
            conv_bias=conv_bias,
        )

    def init_weights(self) -> None:
        """Draw the initial weights, then load pretrained ones when a checkpoint is named."""
        first = not self.is_init
        super().init_weights()
        if self.zero_init_residual and self.pretrained is None and first:
            for stage in self.stages:
                for block in stage.blocks:
                    last = block.bn3 if isinstance(block, Bottleneck) else block.bn2
                    nn.init.zeros_(last.get_parameter("weight"))

    def stem_modules(self) -> list[nn.Module]:
        """The modules before the first stage, in order."""
        return [self.stem, self.maxpool] if self.deep_stem else [self.conv1, self.bn1, self.relu, self.maxpool]


@MODELS.register_module()
class EANResNetV1c(EANResNet):
    """:class:`EANResNet` with the deep stem, which MMSegmentation's configs call ``ResNetV1c``.

    Args:
        depth: 18, 34, 50, 101 or 152.
        options: Of :class:`EANResNet`.
    """

    def __init__(self, depth: int = 50, **options: Any) -> None:
        super().__init__(depth, **{"deep_stem": True, **options})


def _refuse_other_networks(
    style: str,
    conv_cfg: Mapping[str, Any] | None,
    dcn: Mapping[str, Any] | None,
    plugins: Sequence[Mapping[str, Any]] | None,
) -> None:
    """Say why a network of MMSegmentation's ``ResNet`` is none of ours.

    Raises:
        UserError: The first option that describes another network.
    """
    if style != "pytorch":
        raise UserError(
            f"EANResNet has no style {style!r}: its stride lies on the 3x3 convolution, which is style='pytorch'; "
            "weights of the other style would load and compute something else"
        )
    if conv_cfg is not None and dict(conv_cfg) not in ({"type": "Conv2d"}, {"type": "Conv"}):
        raise UserError(f"EANResNet builds plain convolutions, not conv_cfg={dict(conv_cfg)}: leave conv_cfg out")
    if dcn is not None:
        raise UserError("EANResNet has no deformable convolutions: leave dcn and stage_with_dcn out")
    if plugins:
        raise UserError(
            "EANResNet takes no plugins: its attention and scheme say what is plugged and where; leave plugins out, or "
            "keep MMSegmentation's ResNet with the plugin 'ean_core.attention.Plugin'"
        )
