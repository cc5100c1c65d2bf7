"""What every attention module is: a re-weighting of a residual branch that may carry a state along the stage."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, ClassVar

import torch
from mmengine.registry import Registry
from torch import nn

from ean_core.errors import UserError

State = tuple[torch.Tensor, ...] | None
"""What a module hands to the next connected block of its stage: ``None`` before the first one."""

ATTENTION = Registry("attention", scope="ean_core", locations=["ean_core.attention"])
"""Attention modules by name; a module is built as ``cls(channels=C, **options)``."""


class Attention(nn.Module):
    """Base of the attention modules.

    ``forward(x, state) -> (x', state')`` with ``x`` and ``x'`` of shape (N, C, H, W). Most modules weigh:
    ``x' = M(x) * x`` for a mask ``M`` in (0, 1), in BAM in (1, 2). A2 and GC add: ``x' = x + m(x)``; where Eq. 4 of the
    EAN paper has ``M(x) * x``, such an ``x'`` stands for it. A stateless module returns the state that it was given. A
    stateful one takes ``None`` as the start of a stage, keeps nothing on itself, and returns its new state, so nothing
    leaks between stages or calls.
    """

    stateful: ClassVar[bool] = False

    def forward(self, x: torch.Tensor, state: State = None) -> tuple[torch.Tensor, State]:
        """Recalibrate ``x`` (N, C, H, W)."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(x, state)")


class ChannelAttention(Attention):
    """Base of the modules whose mask is one weight a channel, a function of the channels' means and of the state.

    They say it in :meth:`mask`; :func:`ean_core.deploy.fuse` relies on there being nothing else.
    """

    def mask(self, y: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """The means ``y`` (N, C) and the state before -> the mask (N, C) and the state after."""
        raise NotImplementedError(f"{type(self).__name__} must define mask(y, state)")

    def forward(self, x: torch.Tensor, state: State = None) -> tuple[torch.Tensor, State]:
        """Recalibrate ``x`` (N, C, H, W)."""
        mask, state = self.mask(x.mean((2, 3)), state)
        return x * mask[:, :, None, None], state


class Foreign(Attention):
    """A module of another library or of one's own, without a state: from (N, C, H, W) to the same shape.

    Args:
        module: The module.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor, state: State = None) -> tuple[torch.Tensor, State]:
        """Recalibrate ``x`` (N, C, H, W)."""
        y = self.module(x)
        if not isinstance(y, torch.Tensor) or y.shape != x.shape:
            got = tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__
            raise UserError(f"{type(self.module).__name__} makes {got} of {tuple(x.shape)}: attention keeps the shape")
        return y, state


def build_attention(config: Mapping[str, Any], channels: int) -> Attention:
    """Build a module from its dict, e.g. ``build_attention(dict(type="SE", reduction=16), channels=256)``.

    Args:
        config: ``type`` and the module's options. The type is a registered name, or ``"module.Class"`` of one's own: an
            :class:`Attention`, or any ``nn.Module`` that keeps the shape (N, C, H, W) of its input and takes its
            channels as the first argument, such as ``"timm.layers.EcaModule"``.
        channels: Number of channels ``C`` of the branch that it re-weights.

    Raises:
        UserError: Unknown type or option, or options that do not fit ``channels``.
    """
    options = dict(config)
    name = options.pop("type", None)
    cls = ATTENTION.get(name) if isinstance(name, str) else None
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        known = ", ".join(sorted(ATTENTION.module_dict))
        package = name.split(".")[0] if isinstance(name, str) and "." in name else None
        there = package is None or package in sys.modules or find_spec(package) is not None
        missing = "" if there else f"; there is no package '{package}' here"
        raise UserError(f"unknown attention {name!r}: known are {known}, and your own as 'module.Class'{missing}")
    wrong: tuple[type[Exception], ...] = (TypeError,)
    try:
        if issubclass(cls, Attention):
            return cls(channels=channels, **options)
        wrong = (TypeError, ValueError, RuntimeError, AssertionError)
        return Foreign(cls(channels, **options))
    except wrong as error:
        raise UserError(f"attention {name}: {error}") from error
