"""A stage for inference: blocks that work in place on one tensor."""

from __future__ import annotations

import torch
from torch import nn

from ean_core.attention import State
from ean_core.backbones.stage import Bottleneck, Stage, run_block
from ean_core.deploy.blocks import Stream, run_basic, run_bottleneck, run_portable


class FusedStage(Stage):
    """A :class:`~ean_core.backbones.stage.Stage` without batch norms, under the same names.

    Three ways lead to the same values. In eager mode bottlenecks run as matrix products that add up in place
    (:func:`~ean_core.deploy.blocks.run_bottleneck`), basic blocks by in-place passes. Under a compiler or an exporter,
    which know their own ways to fuse, and under autocast, which does not know in-place products, blocks are written
    with convolutions. Blocks whose norms could not be folded (group norm) run as they are.

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
        for block in self.blocks:
            if isinstance(block, Bottleneck):
                for conv in (block.conv1, block.conv3):
                    conv.weight.data = by_inputs(conv.weight.data)
        norms = ("bn1", "bn2", "bn3")
        self.folded = all(isinstance(getattr(b, n, nn.Identity()), nn.Identity) for b in self.blocks for n in norms)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C_in, H, W) -> (N, C, H', W'), channels-last."""
        gates = [gate for gate in self.gates if isinstance(gate, bool)]
        modules = [self.attention_of(b) if gate else None for b, gate in zip(self.blocks, self.gates, strict=True)]
        state: State = None
        if not self.folded or len(gates) < len(self.gates):
            for block, gate in zip(self.blocks, self.gates, strict=True):
                x, state = run_block(block, self.attention_of(block), gate, x, state)
            return x
        traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
        if traced or torch.is_autocast_enabled(x.device.type):
            for block, attention in zip(self.blocks, modules, strict=True):
                x, state = run_portable(block, attention, x, state)
            return x
        x = x.contiguous(memory_format=torch.channels_last)
        stream = Stream(x, None)
        for block, attention in zip(self.blocks, modules, strict=True):
            if isinstance(block, Bottleneck):
                stream, state = run_bottleneck(block, attention, stream, state, last=block is self.blocks[-1])
            else:
                x, state = run_basic(block, attention, x, state)
                stream = Stream(x, None)
        return stream.values


def by_inputs(weight: torch.Tensor) -> torch.Tensor:
    """The same weights (C_out, C_in, 1, 1), in memory as the matrix (C_in, C_out) that products prefer."""
    return weight.flatten(1).t().contiguous().t()[:, :, None, None]
