"""Our attention modules in other networks: as a ``plugins`` entry of an MM ResNet, or in a plain torch model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ean_core.attention.base import build_attention
from ean_core.errors import UserError


class Plugin(nn.Module):
    """A stateless attention module with the signature of an ordinary layer: (N, C, H, W) -> (N, C, H, W).

    In a config of MMSegmentation, MMDetection or MMPretrain whose ResNet takes ``plugins``::

        plugins=[dict(cfg=dict(type="ean_core.attention.Plugin", attention=dict(type="SE")), position="after_conv3")]

    There every block owns its module, as with ``EANResNet(sharing="block")``.

    Args:
        in_channels: ``C``; the name by which MMCV's ``build_plugin_layer`` passes it.
        attention: Config of the module, e.g. ``dict(type="SE", reduction=16)``.

    Raises:
        UserError: An unknown module, options that do not fit, or a module with a state, which plugins cannot pass on
            from block to block.
    """

    _abbr_ = "attention"  # MMCV names the layer after it

    def __init__(self, in_channels: int, attention: Mapping[str, Any]) -> None:
        super().__init__()
        self.module = build_attention(attention, in_channels)
        if self.module.stateful:
            raise UserError(
                f"attention {attention['type']} hands a state from block to block, which a plugin cannot: "
                "use type='ean_core.EANResNet' as the backbone"
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Recalibrate ``x`` (N, C, H, W)."""
        return self.module(x)[0]
