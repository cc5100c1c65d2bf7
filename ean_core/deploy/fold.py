"""Batch norms into the convolutions before them, found by what a forward pass does and not by where modules stand."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ean_core.plug import Plugs
from ean_core.plug.hooks import PointHook
from ean_core.plug.trace import trace


def fold(network: nn.Module, example: torch.Tensor, keep: Plugs | None = None) -> None:
    """Fold every batch norm whose only input is a convolution that nothing else reads; in place.

    Args:
        network: In evaluation mode.
        example: An input.
        keep: A convolution that is one of these points keeps its norm, which comes after the attention.
    """
    found = trace(network, example)
    operations = {(value.call, value.operation, value.inputs) for value in found.values}  # one may give several tensors
    readers = Counter(i for _, _, inputs in operations for i in inputs)
    times = Counter(call.name for call in found.calls)
    callers = {call.number: call for call in found.calls}
    points = {point.name for point in keep.points} if keep is not None else set()
    shared = Counter(id(module) for _, module in network.named_modules(remove_duplicate=False))
    for value in found.values:
        if "batch_norm" not in value.operation or value.call < 0:
            continue
        before = found.values[value.inputs[0]]
        if before.operation != "convolution" or readers[value.inputs[0]] != 1:
            continue
        names = callers[before.call].name, callers[value.call].name
        conv, norm = (cast(Any, network.get_submodule(name)) for name in names)
        once = all(times[name] == 1 and shared[id(network.get_submodule(name))] == 1 for name in names)
        instead = _without_norm(norm)
        if once and can_fold(conv, norm, type(norm)) and instead is not None and names[0] not in points:
            network.set_submodule(names[0], fuse_conv_bn_eval(conv, norm))
            network.set_submodule(names[1], instead)


def can_fold(conv: nn.Module, norm: nn.Module, kind: type[nn.Module] = nn.BatchNorm2d) -> bool:
    """Whether a norm could go into a convolution: both are as torch has them, and nobody's hook sits in between.

    Args:
        conv: The convolution.
        norm: The norm.
        kind: What it has to be besides a batch norm with statistics: exactly this class, or synchronised.
    """
    known = type(conv) is nn.Conv2d and isinstance(norm, _BatchNorm) and type(norm) in (kind, nn.SyncBatchNorm)
    if not known or norm.running_mean is None or conv._parameters.get("weight") is None:  # pruned, weight-normed
        return False
    hooks = [*conv._forward_hooks.values(), *norm._forward_pre_hooks.values(), *norm._forward_hooks.values()]
    return conv.out_channels == norm.num_features and all(isinstance(hook, PointHook) for hook in hooks)


def _without_norm(module: nn.Module) -> nn.Module | None:
    """What is left of a batch norm that has been folded: nothing, or the activation that timm's have in them."""
    if type(module) in (nn.BatchNorm2d, nn.SyncBatchNorm):
        return nn.Identity()
    children = dict(module.named_children())
    return nn.Sequential(children["drop"], children["act"]) if set(children) == {"drop", "act"} else None
