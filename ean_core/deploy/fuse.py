"""The way into the exact rewrites of a trained model for inference."""

from __future__ import annotations

import copy

import torch
from mmcv.cnn.utils import fuse_conv_bn
from torch import nn

from ean_core.backbones.base import StagedBackbone
from ean_core.backbones.stage import Stage
from ean_core.deploy.fused_stage import FusedStage


def fuse(model: nn.Module) -> nn.Module:
    """An inference-only copy of ``model`` that computes the same function up to rounding, in less time and memory.

    Every batch norm goes into the convolution before it: ``BN(Wx + b) = (s W) x + s (b - mean) + beta`` with
    ``s = gamma / sqrt(var + eps)``. The stages of our backbones become
    :class:`~ean_core.deploy.fused_stage.FusedStage`, and tensors are kept channels-last, which convolutions prefer.

    Args:
        model: Anything with a backbone of ours in it, at whatever depth; other models have their batch norms folded.
            It is not changed.

    Returns:
        A copy in evaluation mode whose parameters need no gradient. ``set_scheme`` still works on its backbone.
    """
    fused = fuse_conv_bn(copy.deepcopy(model).eval()).requires_grad_(False)
    fused.to(memory_format=torch.channels_last)
    for backbone in [module for module in fused.modules() if isinstance(module, StagedBackbone)]:
        for name, stage in list(backbone.named_children()):
            if isinstance(stage, Stage):
                setattr(backbone, name, FusedStage(stage))
    return fused
