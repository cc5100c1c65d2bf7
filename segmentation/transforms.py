"""Augmentation that MMSegmentation has no transform for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform, Resize
from mmengine.registry import TRANSFORMS

from ean_core.errors import UserError, shortened


@TRANSFORMS.register_module()
class RandomScale(BaseTransform):
    """Resize image and mask by a factor drawn uniformly from ``ratio``, relative to the image's own size.

    MMSegmentation's ``RandomResize`` scales to a fixed size first; the PSPNet protocol, and data whose images are not
    as large as VOC's, need the factor alone.

    Args:
        ratio: Smallest and largest factor.

    Raises:
        UserError: They are no two factors in this order.
    """

    def __init__(self, ratio: tuple[float, float] = (0.5, 2.0)) -> None:
        two = isinstance(ratio, list | tuple) and len(ratio) == 2 and all(isinstance(r, int | float) for r in ratio)
        if not two or not 0 < ratio[0] <= ratio[1] < math.inf:
            raise UserError(f"RandomScale: ratio is the smallest and the largest factor, got {shortened(ratio)}")
        self.ratio = ratio

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize ``img`` (H, W, 3) bilinearly and ``gt_seg_map`` (H, W) to the nearest label."""
        factor = float(np.random.uniform(*self.ratio))
        return Resize(scale_factor=factor)(results)
