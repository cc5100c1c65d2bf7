"""What the backbones have in common: running the stages, the connection scheme, freezing, initial weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ean_core.backbones.norm import build_norm
from ean_core.backbones.stage import Block, BlockStep, Stage
from ean_core.backbones.weights import load_pretrained
from ean_core.errors import UserError
from ean_core.plug.pluggable import read_gates
from ean_core.scheme import ConnectionScheme

DEFAULT_INIT = [
    {"type": "Kaiming", "layer": "Conv2d"},
    {"type": "Constant", "val": 1, "layer": ["_BatchNorm", "GroupNorm"]},
]


class StagedBackbone(BaseModule):
    """A stem, then stages ``layer1``, ``layer2``, ... whose blocks are connected to attention by a scheme.

    Subclasses build their stem, say in :meth:`stem_modules` what it consists of, and call :meth:`add_stages`. What they
    hand on to this constructor and do not name here is described in :class:`~ean_core.backbones.EANResNet`.

    Args:
        blocks: Number of blocks of each stage.
        out_indices: The last stage built when ``None``.
        num_stages: The number of stages to build, counted from the first; all when ``None``.

    Attributes:
        blocks: Number of blocks of each stage, of stages that are not built too: a scheme has bits for all of them.
        num_stages: The number of stages that are built.
        scheme: The current scheme, or ``None`` while gates are tensors.
        out_channels: Channels of each stage's output.
        torchvision: The name of torchvision's network with the same weights, if there is one.
        image_size: Height and width of the images that the network is made for.
    """

    torchvision: str | None = None
    image_size: int = 224

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        attention: Mapping[str, Any] | None = None,
        sharing: str = "stage",
        scheme: str | ConnectionScheme = "full",
        out_indices: Sequence[int] | None = None,
        num_stages: int | None = None,
        norm_eval: bool = False,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: Any = None,
    ) -> None:
        pretrained = isinstance(init_cfg, Mapping) and init_cfg.get("type") == "Pretrained"
        super().__init__(DEFAULT_INIT if init_cfg is None or pretrained else init_cfg)
        if sharing not in ("stage", "block"):
            raise UserError(f"sharing must be 'stage' (one attention a stage) or 'block', got {sharing!r}")
        self.num_stages = len(blocks) if num_stages is None else num_stages
        if not 1 <= self.num_stages <= len(blocks):
            raise UserError(f"num_stages must lie in 1..{len(blocks)}, got {num_stages}")
        out_indices = (self.num_stages - 1,) if out_indices is None else out_indices
        if not out_indices or any(not 0 <= i < self.num_stages for i in out_indices):
            raise UserError(f"out_indices {tuple(out_indices)} must be one or more of 0..{self.num_stages - 1}")
        if not -1 <= frozen_stages <= len(blocks):
            raise UserError(f"frozen_stages must lie in -1..{len(blocks)}, got {frozen_stages}")
        self.blocks = tuple(blocks)
        self.scheme: ConnectionScheme | None = ConnectionScheme.parse(scheme, blocks)
        if attention is None:
            self.scheme = ConnectionScheme.none(blocks)
        self.attention = dict(attention) if attention is not None else None
        self.sharing = sharing
        self.out_indices = tuple(out_indices)
        self.out_channels: list[int] = []
        self.norm_eval = norm_eval
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp
        self.pretrained: str | None = init_cfg["checkpoint"] if pretrained else None
        self.pretrained_prefix: str | None = init_cfg.get("prefix") if pretrained else None

    def add_stages(
        self,
        block: type[Block],
        inplanes: int,
        *,
        planes: Sequence[int],
        strides: Sequence[int],
        dilations: Sequence[int] | None = None,
        contract_dilation: bool = False,
        multi_grid: Sequence[int] | None = None,
        avg_down: bool = False,
        norm_cfg: Mapping[str, Any] | None = None,
        conv_bias: bool = False,
    ) -> None:
        """Build the stages; the last thing that a subclass does.

        Args:
            block: The class of the residual blocks.
            inplanes: Channels after the stem.
            planes: Of each stage; its blocks have ``planes * block.expansion`` channels.
            strides: Stride of each stage, or of each that is built.
            dilations: Dilation of each stage's 3x3 convolutions, or of each that is built; 1 by default.
            contract_dilation: Halve the dilation of a dilated stage's first block.
            multi_grid: Dilation of each block of the last stage that is built, instead of the others.
            avg_down: Where a shortcut has a convolution, its stride is an average pooling's before it (ResNet-D).
            norm_cfg: MMCV norm config.
            conv_bias: Biased convolutions.

        Raises:
            UserError: There is not one stride and one dilation per stage, or not one value of ``multi_grid`` per block.
        """
        dilations = (1,) * len(self.blocks) if dilations is None else dilations
        options: dict[str, Any] = {"norm_cfg": norm_cfg, "conv_bias": conv_bias}
        if not all(len(values) in (len(self.blocks), self.num_stages) for values in (strides, dilations)):
            raise UserError(f"strides {tuple(strides)} and dilations {tuple(dilations)} need one value a stage")
        last = self.num_stages - 1
        if multi_grid is not None and len(multi_grid) < self.blocks[last]:
            raise UserError(
                f"multi_grid {tuple(multi_grid)} needs one dilation for each of the {self.blocks[last]} blocks of the "
                "last stage"
            )
        scheme = ConnectionScheme.parse(self.scheme or "none", self.blocks)
        for i, gates in enumerate(scheme.stages[: self.num_stages]):
            channels = planes[i] * block.expansion
            downsample = None
            if strides[i] != 1 or inplanes != channels:
                stride = strides[i]
                # As MMSegmentation has it, which pools at stride 1 too: the names of the tensors depend on it.
                pool = [nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)] if avg_down else []
                conv = nn.Conv2d(inplanes, channels, 1, 1 if avg_down else stride, bias=conv_bias)
                downsample = nn.Sequential(*pool, conv, build_norm(norm_cfg, channels))
            grid = [dilations[i]] * self.blocks[i]
            if multi_grid is not None and i == last:
                grid = list(multi_grid)
            elif contract_dilation and dilations[i] > 1:
                grid[0] = dilations[i] // 2
            blocks = [
                block(inplanes, planes=planes[i], stride=strides[i], dilation=grid[0], downsample=downsample, **options)
            ]
            for j in range(1, self.blocks[i]):
                blocks.append(block(channels, planes=planes[i], dilation=grid[j], **options))
            stage = Stage(
                blocks,
                gates=gates,
                attention=self.attention,
                sharing=self.sharing,
                channels=channels,
                with_cp=self.with_cp,
            )
            self.add_module(f"layer{i + 1}", stage)
            self.out_channels.append(channels)
            inplanes = channels
        self.train()  # frozen parameters must be known before an optimizer or DDP looks at them

    @property
    def stages(self) -> list[Stage]:
        """The stages in order."""
        return [getattr(self, f"layer{i + 1}") for i in range(self.num_stages)]

    @property
    def left_out(self) -> tuple[str, ...]:
        """What the names of the parameters would begin with in the stages that are not built."""
        return tuple(f"layer{i + 1}." for i in range(self.num_stages, len(self.blocks)))

    def stem_modules(self) -> list[nn.Module]:
        """The modules before the first stage, in order."""
        raise NotImplementedError

    def begin(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> the input of the first stage."""
        for module in self.stem_modules():
            x = module(x)
        return x

    @property
    def network(self) -> nn.Module:
        """The backbone itself."""
        return self

    def connections(self) -> list[BlockStep]:
        """The blocks of the stages that are built, in order."""
        return [
            BlockStep(i, block, stage.attention_of(block), gate)
            for i, stage in enumerate(self.stages)
            for block, gate in zip(stage.blocks, stage.gates, strict=True)
        ]

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(N, 3, H, W) -> the outputs of the stages in ``out_indices``."""
        x = self.begin(x)
        outs = []
        for i, stage in enumerate(self.stages):
            if i > max(self.out_indices):
                break
            x = stage(x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def set_scheme(self, scheme: str | ConnectionScheme | torch.Tensor) -> None:
        """Connect other blocks, as a supernet does in every iteration.

        A supernet is a backbone that was built with ``scheme="full"``, so that every module exists.

        Args:
            scheme: A scheme (or its text): gates become Booleans, and a disconnected block runs no attention. Or a
                float tensor of gates in [0, 1], shape (number of blocks,), through which gradients flow.

        Raises:
            UserError: The scheme does not fit the blocks, or it connects one for which no attention was built.
        """
        parsed, gates = read_gates(scheme, self.blocks)
        for point, gate in zip(self.connections(), gates, strict=False):  # stages that are not built have gates too
            if gate is not False and point.attention is None:
                raise UserError(
                    f"stage {point.stage + 1} has a block to connect but no attention: build the backbone with an "
                    "attention and scheme='full' to change its scheme later"
                )
        for i, stage in enumerate(self.stages):
            stage.gates = gates[sum(self.blocks[:i]) : sum(self.blocks[: i + 1])]
        self.scheme = parsed

    def init_weights(self) -> None:
        """Draw the initial weights, then load pretrained ones when ``init_cfg`` names a checkpoint."""
        super().init_weights()
        if self.pretrained is not None:
            load_pretrained(self, self.pretrained, self.pretrained_prefix)

    def train(self, mode: bool = True) -> StagedBackbone:
        """Set the mode, keeping frozen stages (and with ``norm_eval`` every batch norm) in evaluation mode."""
        super().train(mode)
        frozen = self.stem_modules() if self.frozen_stages >= 0 else []
        for module in [*frozen, *self.stages[: max(self.frozen_stages, 0)]]:
            module.eval()
            module.requires_grad_(False)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self
