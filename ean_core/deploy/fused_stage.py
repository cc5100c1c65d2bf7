"""A stage for inference: bottlenecks by fewer passes over their tensors."""

from __future__ import annotations

from types import ModuleType

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
        bottlenecks = [block for block in self.blocks if isinstance(block, Bottleneck)]
        convolutions = [conv for block in bottlenecks for conv in (block.conv1, block.conv3)]
        self.folded = all(isinstance(n, nn.Identity) for b in bottlenecks for n in (b.bn1, b.bn2, b.bn3))
        self.even = all(n % operators.LANES == 0 for c in convolutions for n in (c.in_channels, c.out_channels))
        for conv in convolutions:  # in memory as (C_in, C_out)
            conv.weight.data = conv.weight.data.flatten(1).t().contiguous().t().view_as(conv.weight)
        for attention in [m for m in self.modules() if isinstance(m, Attention) and self.even]:
            add_perceptron(attention)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C_in, H, W) -> (N, C, H', W'), channels-last."""
        x = x.contiguous(memory_format=torch.channels_last)
        way = self._way(x)
        if way is operators and self.blocks[0].downsample is None:
            x = x.clone()  # the loops write into their input, and this one is not the stage's own
        state: State = None
        for block, gate in zip(self.blocks, self.gates, strict=True):
            attention = self.attention_of(block)
            known = attention is None or gate is False or isinstance(attention, SGE | ChannelAttention)
            if isinstance(block, Bottleneck) and self.folded and known and isinstance(gate, bool):
                x, state = run_bottleneck(block, attention, gate, x, state, way)
            else:
                x, state = run_block(block, attention, gate, x, state)
        return x

    def _way(self, x: torch.Tensor) -> ModuleType:
        watched = torch.jit.is_tracing() or torch.compiler.is_exporting() or torch.is_autocast_enabled(x.device.type)
        watched |= torch.is_grad_enabled() and any(t.requires_grad for t in (x, *self.parameters()))
        suits = x.dtype == torch.float32 and x.device.type == "cpu" and self.even
        return operators if suits and not watched and available() else plain
