"""The way into the exact rewrites of a trained model for inference."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ean_core.backbones.base import StagedBackbone
from ean_core.backbones.stage import Stage
from ean_core.deploy.fold import can_fold, fold
from ean_core.deploy.fused_stage import FusedStage
from ean_core.errors import UserError
from ean_core.plug import Plugs


def fuse(model: nn.Module, example: torch.Tensor | None = None) -> nn.Module:
    """An inference-only copy of ``model`` that computes the same function up to rounding, in less time and memory.

    Every batch norm goes into the convolution before it: ``BN(Wx + b) = (s W) x + s (b - mean) + beta`` with
    ``s = gamma / sqrt(var + eps)``. The stages of our backbones become
    :class:`~ean_core.deploy.fused_stage.FusedStage`, and tensors are kept channels-last, which convolutions prefer.

    Args:
        model: Anything with a backbone of ours or plugged networks in it, at whatever depth. It is not changed. In
            plugged networks norms are folded by what a forward pass does (:func:`~ean_core.deploy.fold.fold`);
            elsewhere a norm is taken to follow the convolution that is defined right before it.
        example: An input of the plugged networks; by default zeros of the size with which their points were found.

    Returns:
        A copy in evaluation mode whose parameters need no gradient. ``set_scheme`` still works on its backbone.

    Raises:
        UserError: The points of a plugged network were not found by an example, and none is given.
    """
    copied = copy.deepcopy(model)
    copied.eval()  # which MMSegmentation's backbones do not return
    fused = _fold_norms(copied, example).requires_grad_(False)
    fused.to(memory_format=torch.channels_last)
    hooked = {id(part) for module in fused.modules() if isinstance(module, Plugs) for part in module.network.modules()}
    backbones = [module for module in fused.modules() if isinstance(module, StagedBackbone)]
    for backbone in (module for module in backbones if id(module) not in hooked):  # a fused stage calls no hooks
        for name, stage in list(backbone.named_children()):
            if isinstance(stage, Stage):
                setattr(backbone, name, FusedStage(stage))
    return fused


def _fold_norms(model: nn.Module, example: torch.Tensor | None) -> nn.Module:
    """By what a forward pass does in plugged networks, by the order of the modules elsewhere; in place."""
    handles = [module for module in model.modules() if isinstance(module, Plugs)]
    networks = [handle.network for handle in handles]
    _fold_pairs(model, networks)
    for plugs in handles:
        given = example
        if given is None:
            if plugs.points.example is None:
                raise UserError("fuse(model, example) needs an example: the network's points were found without one")
            like = next(plugs.network.parameters())
            given = torch.zeros(plugs.points.example, device=like.device, dtype=like.dtype)
        fold(plugs.network, given, plugs)
        plugs.attach()
    return model


def _fold_pairs(module: nn.Module, leave: Sequence[nn.Module]) -> None:
    """A convolution and the norm next to it, as modules of torchvision's, MM's and our networks have them."""
    if module in leave:
        return
    before: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if before is not None and can_fold(before[1], child):
            module.add_module(before[0], fuse_conv_bn_eval(cast(Any, before[1]), cast(Any, child)))
            module.add_module(name, nn.Identity())
        else:
            _fold_pairs(child, leave)
        before = name, child
