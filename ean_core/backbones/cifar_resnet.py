"""EANCifarResNet: a three-stage ResNet for small images, e.g. the paper's ResNet-164 on CIFAR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.registry import MODELS
from torch import nn

from ean_core.backbones.base import StagedBackbone
from ean_core.backbones.norm import build_norm
from ean_core.backbones.stage import BasicBlock, Block, Bottleneck
from ean_core.errors import UserError
from ean_core.scheme import ConnectionScheme

BLOCKS: dict[str, tuple[type[Block], int]] = {
    "bottleneck": (Bottleneck, 9),
    "basic": (BasicBlock, 6),
}  # layers that one block in each stage adds


@MODELS.register_module()
class EANCifarResNet(StagedBackbone):
    """CIFAR ResNet (He et al., 2016; post-activation) with shared, sparsely connected attention.

    A 3x3 stem, then three stages of 16, 32 and 64 planes (64, 128 and 256 channels with bottlenecks). The depth is
    ``9 n + 2`` with bottlenecks (29, 56, 110, 164, ...) or ``6 n + 2`` with basic blocks (20, 32, 44, 56, 110, ...),
    ``n`` blocks per stage.

    Args:
        depth: Number of layers; 164 in the paper.
        block: ``"bottleneck"`` or ``"basic"``.
        attention: As in :class:`EANResNet`, which describes this and the arguments not named here.
        sharing: ``"stage"`` or ``"block"``.
        scheme: For a ResNet-164, 18 bits per stage.
        out_indices: Stages (0-based) whose outputs are returned.
        strides: Stride of each stage.
        dilations: Dilation of each stage's 3x3 convolutions.
        in_channels: Channels of the input.
        conv_bias: Biased convolutions.
        norm_cfg: MMCV norm config.
        norm_eval: Keep batch norms in evaluation mode while training.
        frozen_stages: 0 freezes the stem, a number n above 0 the first n stages too; -1 freezes nothing.
        with_cp: Recompute activations in the backward pass.
        init_cfg: MMEngine initialisation, or pretrained weights.

    Raises:
        UserError: A depth that the block type cannot make, an unknown block, attention or sharing, or a scheme that
            does not fit.
    """

    image_size = 32

    def __init__(
        self,
        depth: int = 164,
        *,
        block: str = "bottleneck",
        attention: Mapping[str, Any] | None = None,
        sharing: str = "stage",
        scheme: str | ConnectionScheme = "full",
        out_indices: Sequence[int] = (2,),
        strides: Sequence[int] = (1, 2, 2),
        dilations: Sequence[int] = (1, 1, 1),
        in_channels: int = 3,
        conv_bias: bool = False,
        norm_cfg: Mapping[str, Any] | None = None,
        norm_eval: bool = False,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: Any = None,
    ) -> None:
        if block not in BLOCKS:
            raise UserError(f"EANCifarResNet has no block {block!r}: choose from {', '.join(BLOCKS)}")
        block_type, layers = BLOCKS[block]
        if depth <= 2 or (depth - 2) % layers:
            raise UserError(f"EANCifarResNet with {block} blocks needs a depth of {layers}n + 2, got {depth}")
        blocks = ((depth - 2) // layers,) * 3
        super().__init__(
            blocks,
            attention=attention,
            sharing=sharing,
            scheme=scheme,
            out_indices=out_indices,
            norm_eval=norm_eval,
            frozen_stages=frozen_stages,
            with_cp=with_cp,
            init_cfg=init_cfg,
        )
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=conv_bias)
        self.bn1 = build_norm(norm_cfg, 16)
        self.relu = nn.ReLU(inplace=True)
        self.add_stages(
            block_type,
            16,
            planes=(16, 32, 64),
            strides=strides,
            dilations=dilations,
            norm_cfg=norm_cfg,
            conv_bias=conv_bias,
        )

    def stem_modules(self) -> list[nn.Module]:
        """The modules before the first stage, in order."""
        return [self.conv1, self.bn1, self.relu]
