"""Normalisation layers from an MMCV ``norm_cfg``, without the warnings that importing MMCV prints."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from torch import nn


def build_norm(norm_cfg: Mapping[str, Any] | None, channels: int) -> nn.Module:
    """The layer of an MMCV ``norm_cfg`` such as ``dict(type="SyncBN")``; batch norm when ``None``."""
    return _builder()(dict(norm_cfg or {"type": "BN"}), channels)[1]


@cache
def _builder() -> Callable[..., tuple[str, nn.Module]]:
    with warnings.catch_warnings():
        # Without compiled ops MMCV warns about layers that nothing here uses.
        warnings.simplefilter("ignore")
        # Not above: MMCV imports its image part, for which "import ean_core" need not wait.
        from mmcv.cnn import build_norm_layer
    return build_norm_layer
