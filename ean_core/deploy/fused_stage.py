"""A stage for inference: bottlenecks by fewer passes over their tensors."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ean_core.attention import SGE, Attention, ChannelAttention, State
from ean_core.backbones.stage import Bottleneck, Stage, run_block
from ean_core.deploy import plain
from ean_core.deploy.cpu import operators
from ean_core.deploy.cpu.library import available
from ean_core.deploy.fused_bottleneck import add_perceptron, run_bottleneck


class FusedStage(Stage):
    """A :class:`~ean_core.backbones.stage.Stage` without batch norms, under the same names.

    Bottlenecks run by :func:`~ean_core.deploy.fused_bottleneck.run_bottleneck`, in float32 on a CPU by compiled loops
    that never have the branch in memory. Exporters, autograd and autocast see torch's own operations: an exported
    program must run without this package, and the loops have no gradient. What that function has no form for runs as
    it is: basic blocks, norms that could not be folded (group norm), gates that are tensors, unknown attention.

    Args:
        stage: A stage whose batch norms are folded; its modules are taken over.
    """

    def __init__(self, stage: Stage) -> None:
        nn.Module.__init__(self)
        self.num_blocks, self.gates, self.with_cp = stage.num_blocks, list(stage.gates), False
        for name, module in stage.named_children():
            self.add_module(name, module)
        if stage.attention is None:
            self.attention = None
        bottlenecks = self._bottlenecks()
        self.folded = all(isinstance(n, nn.Identity) for b in bottlenecks for n in (b.bn1, b.bn2, b.bn3))
        widths = [n for b in bottlenecks for c in (b.conv1, b.conv3) for n in (c.in_channels, c.out_channels)]
        self.even = bool(widths) and all(n % operators.LANES == 0 for n in widths)
        self._lay_out()
        self.register_load_state_dict_post_hook(_lay_out)
        for attention in [m for m in self.modules() if isinstance(m, Attention) and self.even]:
            add_perceptron(attention)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C_in, H, W) -> (N, C, H', W'), channels-last."""
        x = x.contiguous(memory_format=torch.channels_last)
        way = self.way(x)
        if way is operators and self.blocks[0].downsample is None:
            x = x.clone()  # the loops write into their input, and this one is not the stage's own
        state: State = None
        for block, gate in zip(self.blocks, self.gates, strict=True):
            attention = self.attention_of(block)
            # A tuple: torch 2.7 does not compile `isinstance` of a union.
            known = attention is None or gate is False or isinstance(attention, (SGE, ChannelAttention))
            if isinstance(block, Bottleneck) and self.folded and known and isinstance(gate, bool):
                x, state = run_bottleneck(block, attention, gate, x, state, way)
            else:
                x, state = run_block(block, attention, gate, x, state)
        return x

    def way(self, x: torch.Tensor) -> ModuleType:
        """What computes its blocks for this input: the compiled loops (``operators``), or torch (``plain``)."""
        if x.dtype != torch.float32 or x.device.type != "cpu" or not self.even:
            return plain
        watched = torch.jit.is_tracing() or torch.compiler.is_exporting() or torch.is_autocast_enabled("cpu")
        watched |= torch.is_grad_enabled() and any(t.requires_grad for t in (x, *self.parameters()))
        return operators if not watched and available() else plain

    def _bottlenecks(self) -> list[Bottleneck]:
        return [block for block in self.blocks if isinstance(block, Bottleneck)]

    def _lay_out(self) -> None:
        """Put the 1x1 convolutions' weights into memory as (C_in, C_out), as the loops read them, unless they lie so.

        ``to`` may choose another memory format, and ``load_state_dict(assign=True)`` brings tensors of its own.
        """
        for conv in [conv for block in self._bottlenecks() for conv in (block.conv1, block.conv3)]:
            conv.weight.data = conv.weight.data.flatten(1).t().contiguous().t().view_as(conv.weight)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> FusedStage:
        """What is behind ``to``."""
        super()._apply(fn, recurse)
        self._lay_out()
        return self


def _lay_out(stage: FusedStage, _: Any) -> None:
    """A hook: one that is a method would be copied with the stage that it belongs to."""
    stage._lay_out()
