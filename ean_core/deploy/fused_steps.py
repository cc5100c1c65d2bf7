"""The blocks of a fused network in two steps, so that a walk along many schemes has the compiled loops as well."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch.nn import functional as F

from ean_core.attention import SGE, ChannelAttention, State
from ean_core.backbones.base import StagedBackbone
from ean_core.backbones.stage import BlockStep, Bottleneck
from ean_core.deploy import plain
from ean_core.deploy.cpu import operators
from ean_core.deploy.fused_bottleneck import Branch, channel_mask, channels_last
from ean_core.deploy.fused_stage import FusedStage
from ean_core.plug.pluggable import Pluggable, Step


def fused_steps(network: Pluggable) -> list[Step] | None:
    """The steps of a fused network of ours for :class:`ean_core.plug.walk.Walk`; ``None`` for others."""
    if not isinstance(network, StagedBackbone):
        return None
    stages = list(network.stages)
    return [_step(step, stages[step.stage]) for step in network.connections()]


def _step(step: BlockStep, stage: torch.nn.Module) -> Step:
    folded = isinstance(stage, FusedStage) and stage.folded and isinstance(step.block, Bottleneck)
    return FusedStep(step, stage) if folded and isinstance(stage, FusedStage) else step


@dataclass(frozen=True, eq=False)
class FusedStep:
    """What :func:`~ean_core.deploy.fused_bottleneck.run_bottleneck` computes, as a ``Step``.

    Attributes:
        step: The block.
        owner: Its stage.
    """

    step: BlockStep
    owner: FusedStage

    @property
    def stage(self) -> int:
        """The index of its stage, from 0."""
        return self.step.stage

    @property
    def gate(self) -> bool | torch.Tensor:
        """Its connection."""
        return self.step.gate

    @property
    def attention(self) -> Any:
        """What recalibrates the branch, if there is something."""
        return None if self.step.attention is None else self._recalibrate

    def split(self, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """The block's input -> what is added, and the :class:`Branch` before its last convolution."""
        block: Any = self.step.block
        x = channels_last(x)
        u = channels_last(block.conv2(self._way(x).project(x, block.conv1.weight, block.conv1.bias)))
        return x if block.downsample is None else channels_last(block.downsample(x)), Branch(u.relu_())

    def join(self, identity: torch.Tensor, branch: Any) -> torch.Tensor:
        """What is added and the branch -> the block's output. The arguments are not changed."""
        if isinstance(branch, torch.Tensor):
            return (branch + identity).relu_()
        conv, way = self._expansion, self._way(identity)
        if way is plain:
            return plain.expand(identity, branch.u, conv.weight, conv.bias, branch.mask)
        out = torch.empty_like(identity)  # the operator of this name writes into its argument
        operators.run_expand(out, identity, branch.u, conv.weight, conv.bias, branch.mask)
        return out

    def _recalibrate(self, branch: Branch, state: State) -> tuple[Branch | torch.Tensor, State]:
        """The branch with its mask, or the recalibrated branch itself where only that is known.

        ``u`` has its ReLU already: a second one, in place, changes nothing.
        """
        attention, conv, way = self.step.attention, self._expansion, self._way(branch.u)
        if isinstance(attention, SGE):
            return Branch(branch.u, way.similarity_(branch.u, conv.weight, conv.bias, attention)), state
        if isinstance(attention, ChannelAttention):
            mask, state = channel_mask(attention, way.squeeze_(branch.u, conv.weight, conv.bias), state, way)
            return Branch(branch.u, mask), state
        recalibrated: tuple[torch.Tensor, State] = attention(F.conv2d(branch.u, conv.weight, conv.bias), state)  # type: ignore[misc]
        return recalibrated

    @property
    def _expansion(self) -> Any:
        return self.step.block.conv3

    def _way(self, x: torch.Tensor) -> ModuleType:
        return self.owner.way(x)
