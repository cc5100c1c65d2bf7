"""Exact rewrites of a trained model for inference."""

from __future__ import annotations

import copy

from mmcv.cnn.utils import fuse_conv_bn
from torch import nn


def fuse(model: nn.Module) -> nn.Module:
    """An inference-only copy of ``model`` with every batch norm folded into the convolution before it.

    ``BN(Wx + b) = (s W) x + s (b - mean) + beta`` with ``s = gamma / sqrt(var + eps)``: the same function up to
    rounding, without a pass over each activation. The argument is not changed.
    """
    return fuse_conv_bn(copy.deepcopy(model).eval())
