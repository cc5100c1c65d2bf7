"""The way into the exact rewrites of a trained model for inference."""

from __future__ import annotations

import copy

import torch
from mmcv.cnn.utils import fuse_conv_bn
from torch import nn

from ean_core.backbones.base import StagedBackbone
from ean_core.backbones.stage import Stage
from ean_core.deploy.fold import fold
from ean_core.deploy.fused_stage import FusedStage
from ean_core.errors import UserError
from ean_core.plug import find_plugged


def fuse(model: nn.Module, example: torch.Tensor | None = None) -> nn.Module:
    """An inference-only copy of ``model`` that computes the same function up to rounding, in less time and memory.

    Every batch norm goes into the convolution before it: ``BN(Wx + b) = (s W) x + s (b - mean) + beta`` with
    ``s = gamma / sqrt(var + eps)``. The stages of our backbones become
    :class:`~ean_core.deploy.fused_stage.FusedStage`, and tensors are kept channels-last, which convolutions prefer.

    Args:
        model: Anything with a backbone of ours in it, at whatever depth; other models have their batch norms folded.
            It is not changed.
        example: An input of the plugged network in it, if there is one: its norms are folded by what a forward pass
            does (:func:`~ean_core.deploy.fold.fold`). By default zeros of the size with which its points were found.

    Returns:
        A copy in evaluation mode whose parameters need no gradient. ``set_scheme`` still works on its backbone.

    Raises:
        UserError: The points of a plugged network were not found by an example, and none is given.
    """
    copied = copy.deepcopy(model)
    copied.eval()  # which MMSegmentation's backbones do not return
    fused = _fold_norms(copied, example).requires_grad_(False)
    fused.to(memory_format=torch.channels_last)
    for backbone in [module for module in fused.modules() if isinstance(module, StagedBackbone)]:
        for name, stage in list(backbone.named_children()):
            if isinstance(stage, Stage):
                setattr(backbone, name, FusedStage(stage))
    return fused


def _fold_norms(model: nn.Module, example: torch.Tensor | None) -> nn.Module:
    plugs = find_plugged(model)
    if plugs is None:
        return fuse_conv_bn(model)
    network = plugs.network
    if example is None:
        if plugs.points.example is None:
            raise UserError("fuse(model, example) needs an example: the network's points were found without one")
        like = next(network.parameters())
        example = torch.zeros(plugs.points.example, device=like.device, dtype=like.dtype)
    name = next(name for name, module in model.named_modules() if module is network)
    if name:  # the rest of the model is of MM's conv modules, whose norms follow their convolutions
        model.set_submodule(name, nn.Identity())
        model = fuse_conv_bn(model)
        model.set_submodule(name, network)
    fold(network, example, plugs)
    plugs.attach()
    return model
