"""A stage for inference: blocks that work in place on one tensor."""

from __future__ import annotations

import torch
from torch import nn

from ean_core.attention import SE, State
from ean_core.backbones.stage import Bottleneck, Stage, run_block
from ean_core.deploy.cpu import kernels
from ean_core.deploy.fused_blocks import run_bottleneck, run_torch


class FusedStage(Stage):
    """A :class:`~ean_core.backbones.stage.Stage` without batch norms, under the same names.

    Two ways lead to the same values. In float32 on a CPU, bottlenecks run by compiled loops that never have the branch
    in memory (:func:`~ean_core.deploy.fused_blocks.run_bottleneck`). Elsewhere blocks run by torch's operations
    (:func:`~ean_core.deploy.fused_blocks.run_torch`): in place, except under a compiler, an exporter, autocast or
    autograd. Blocks whose norms could not be folded (group norm) run as they are.

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
        for module in self.modules():
            if isinstance(module, Bottleneck):
                for conv in (module.conv1, module.conv3):
                    conv.weight.data = by_inputs(conv.weight.data)
            elif isinstance(module, SE):
                module.fc2.weight.data = by_inputs(module.fc2.weight.data)
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
        watched = torch.compiler.is_compiling() or torch.jit.is_tracing()
        watched |= torch.is_grad_enabled() and any(t.requires_grad for t in (x, *self.parameters()))
        in_place = not watched and not torch.is_autocast_enabled(x.device.type)
        fast = in_place and self._suits(x) and kernels.library() is not None
        x = x.contiguous(memory_format=torch.channels_last)
        for i, (block, attention) in enumerate(zip(self.blocks, modules, strict=True)):
            if fast and isinstance(block, Bottleneck):
                x, state = run_bottleneck(block, attention, x, state, owned=i > 0)
            else:
                x, state = run_torch(block, attention, x, state, in_place)
        return x

    def _suits(self, x: torch.Tensor) -> bool:
        """Whether the compiled loops can do this; subclasses of tensors may have no data."""
        inner = [block.conv3.in_channels for block in self.blocks if isinstance(block, Bottleneck)]
        plain = type(x) is torch.Tensor and x.dtype == torch.float32 and x.device.type == "cpu"
        return plain and x.numel() > 0 and all(k % kernels.LANES == 0 for k in inner)


def by_inputs(weight: torch.Tensor) -> torch.Tensor:
    """The same weights, (C_out, C_in) or (C_out, C_in, 1, 1), in memory as the matrix (C_in, C_out)."""
    return weight.flatten(1).t().contiguous().t().view_as(weight)
