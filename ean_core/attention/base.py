"""What every attention module is: a re-weighting of a residual branch that may carry a state along the stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from mmengine.registry import Registry
from torch import nn

from ean_core.errors import UserError

State = tuple[torch.Tensor, ...] | None
"""What a module hands to the next connected block of its stage: ``None`` before the first one."""

ATTENTION = Registry("attention", scope="ean_core")
"""Attention modules by name; a module is built as ``cls(channels=C, **options)``."""


class Attention(nn.Module):
    """Base of the attention modules.

    ``forward(x, state) -> (x', state')`` with ``x`` and ``x'`` of shape (N, C, H, W): ``x' = M(x) * x`` for a mask
    ``M`` in (0, 1). A stateless module returns the state that it was given. A stateful one takes ``None`` as the
    start of a stage, keeps nothing on itself, and returns its new state, so nothing leaks between stages or calls.
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


def build_attention(config: Mapping[str, Any], channels: int) -> Attention:
    """Build a module from its dict, e.g. ``build_attention(dict(type="SE", reduction=16), channels=256)``.

    Args:
        config: ``type`` (a registered name, or ``"module.Class"`` of one's own) and the module's options.
        channels: Number of channels ``C`` of the branch that it re-weights.

    Raises:
        UserError: Unknown type or option, or options that do not fit ``channels``.
    """
    options = dict(config)
    name = options.pop("type", None)
    cls = ATTENTION.get(name) if isinstance(name, str) else None
    if not (isinstance(cls, type) and issubclass(cls, Attention)):
        known = ", ".join(sorted(ATTENTION.module_dict))
        raise UserError(f"unknown attention {name!r}: known are {known}, and your own as 'module.Class'")
    try:
        return cls(channels=channels, **options)
    except TypeError as error:
        raise UserError(f"attention {name}: {error}") from error
