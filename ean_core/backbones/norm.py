"""Normalisation layers from an MMCV ``norm_cfg``, without the warnings that importing MMCV prints."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn

with warnings.catch_warnings():
    # Without compiled ops MMCV warns about layers that nothing here uses.
    warnings.simplefilter("ignore")
    from mmcv.cnn import build_norm_layer


def build_norm(norm_cfg: Mapping[str, Any] | None, channels: int) -> nn.Module:
    """The layer of an MMCV ``norm_cfg`` such as ``dict(type="SyncBN")``; batch norm when ``None``."""
    return build_norm_layer(dict(norm_cfg or {"type": "BN"}), channels)[1]
