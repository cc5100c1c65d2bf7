"""A stage: residual blocks, the attention module they share, and the gates that connect them to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ean_core.attention import Attention, State, build_attention
from ean_core.backbones.norm import build_norm
from ean_core.plug.connect import Gate, connect


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (He et al., 2016), with torchvision's names."""

    expansion: ClassVar[int] = 1
    attention: Attention | None  # its own module, set by its stage for sharing="block"

    def __init__(
        self,
        inplanes: int,
        *,
        planes: int,
        stride: int = 1,
        dilation: int = 1,
        downsample: nn.Module | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        conv_bias: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, dilation, dilation, bias=conv_bias)
        self.bn1 = build_norm(norm_cfg, planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=conv_bias)
        self.bn2 = build_norm(norm_cfg, planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        """The branch up to and including its last normalisation."""
        return self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1 convolutions (He et al., 2016), with torchvision's names."""

    expansion: ClassVar[int] = 4
    attention: Attention | None  # its own module, set by its stage for sharing="block"

    def __init__(
        self,
        inplanes: int,
        *,
        planes: int,
        stride: int = 1,
        dilation: int = 1,
        downsample: nn.Module | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        conv_bias: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=conv_bias)
        self.bn1 = build_norm(norm_cfg, planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, dilation, dilation, bias=conv_bias)
        self.bn2 = build_norm(norm_cfg, planes)
        self.conv3 = nn.Conv2d(planes, planes * self.expansion, 1, bias=conv_bias)
        self.bn3 = build_norm(norm_cfg, planes * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        """The branch up to and including its last normalisation."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))


Block = BasicBlock | Bottleneck


class Stage(nn.Module):
    """Blocks under the names ``0``, ``1``, ... and, for ``sharing="stage"``, their one ``attention``.

    Eq. 4 of the EAN paper: a block computes ``relu(x + (a M(f) + (1 - a)) * f)`` for its branch ``f``, its gate ``a``
    and the mask ``M``; see :func:`ean_core.plug.connect`.

    Args:
        blocks: The residual blocks.
        gates: The connections, one a block.
        attention: The attention's config, or ``None``. Modules are built only where a block is connected: a
            parameter that is never used breaks distributed training.
        sharing: ``"stage"``: one module for all blocks. ``"block"``: a module in every connected block.
        channels: Channels of the blocks' output.
        with_cp: Recompute the blocks' activations in the backward pass instead of keeping them.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        *,
        gates: Sequence[bool],
        attention: Mapping[str, Any] | None,
        sharing: str,
        channels: int,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.num_blocks = len(blocks)
        self.gates: list[Gate] = list(gates)
        self.with_cp = with_cp
        self.attention: Attention | None = None
        for i, (block, gate) in enumerate(zip(blocks, gates, strict=True)):
            block.attention = None
            if attention is not None and sharing == "block" and gate:
                block.attention = build_attention(attention, channels)
            self.add_module(str(i), block)
        if attention is not None and sharing == "stage" and any(gates):
            self.attention = build_attention(attention, channels)

    @property
    def blocks(self) -> list[Block]:
        """The residual blocks in order."""
        return [self._modules[str(i)] for i in range(self.num_blocks)]  # type: ignore[misc]

    def attention_of(self, block: Block) -> Attention | None:
        """The module that ``block`` is or can be connected to."""
        return self.attention if self.attention is not None else block.attention

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C_in, H, W) -> (N, C, H', W'). The state of a stateful attention starts anew at every call."""
        state: State = None
        for block, gate in zip(self.blocks, self.gates, strict=True):
            args = (block, self.attention_of(block), gate, x, state)
            if self.with_cp and self.training and torch.is_grad_enabled():
                x, state = checkpoint(
                    run_block,
                    *args,
                    use_reentrant=False,
                    context_fn=partial(_checkpoint_contexts, args[:2]),
                )
            else:
                x, state = run_block(*args)
        return x


def run_block(
    block: Block, attention: Attention | None, gate: Gate, x: torch.Tensor, state: State
) -> tuple[torch.Tensor, State]:
    """One residual block with its gate: (N, C_in, H, W) and the state before it, to the same after it."""
    identity = x if block.downsample is None else block.downsample(x)
    branch, state = connect(attention, gate, block.residual(x), state)
    branch += identity
    return block.relu(branch), state


@dataclass(frozen=True, eq=False)
class BlockStep:
    """A block as a :class:`~ean_core.plug.pluggable.Step`, which describes the attributes not named here.

    Attributes:
        block: The block.
    """

    stage: int
    block: Block
    attention: Attention | None
    gate: Gate

    def split(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The block's input -> what is added, and the branch."""
        return x if self.block.downsample is None else self.block.downsample(x), self.block.residual(x)

    def join(self, identity: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
        """What is added and the recalibrated branch -> the block's output."""
        return self.block.relu(branch + identity)


def _checkpoint_contexts(
    parts: Sequence[nn.Module | None],
) -> tuple[AbstractContextManager, AbstractContextManager]:
    """Contexts of a checkpointed block's two computations: only the first updates the running statistics."""
    return nullcontext(), _still(parts)


@contextmanager
def _still(parts: Sequence[nn.Module | None]) -> Iterator[None]:
    """Keep the running statistics as they are while a checkpointed block and its attention are computed a second time.

    The second computation updates copies: it has to save as many tensors as the first one, so it cannot do without.
    """
    modules = {m: None for part in parts if part is not None for m in part.modules()}  # its own attention only once
    norms = [m for m in modules if isinstance(m, _BatchNorm) and m.training]
    kept = [(norm, dict(norm.named_buffers(recurse=False))) for norm in norms]
    for norm, buffers in kept:
        for name, buffer in buffers.items():
            setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, buffers in kept:
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)
