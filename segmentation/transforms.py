"""Augmentation that MMSegmentation has no transform for."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform, Resize
from mmengine.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomScale(BaseTransform):
    """Resize image and mask by a factor drawn uniformly from ``ratio``, relative to the image's own size.

    MMSegmentation's ``RandomResize`` scales to a fixed size first; the PSPNet protocol, and data whose images are not
    as large as VOC's, need the factor alone.

    Args:
        ratio: Smallest and largest factor.
    """

    def __init__(self, ratio: tuple[float, float] = (0.5, 2.0)) -> None:
        self.ratio = ratio

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize ``img`` (H, W, 3) bilinearly and ``gt_seg_map`` (H, W) to the nearest label."""
        factor = float(np.random.uniform(*self.ratio))
        return Resize(scale_factor=factor)(results)
