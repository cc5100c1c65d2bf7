"""Reading images as the rest of the package does, and augmentation that MMSegmentation has no transform for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform, LoadImageFromFile, Resize
from mmengine.registry import TRANSFORMS
from mmseg.registry import TRANSFORMS as MMSEG_TRANSFORMS

from ean_core.errors import UserError, shortened
from ean_core.images import read_header, read_image, upright

OUR_READER = "ean_core"


@MMSEG_TRANSFORMS.register_module(name="LoadImageFromFile")
class LoadImage(LoadImageFromFile):
    """MMCV's loader, with one more way to decode: ``imdecode_backend="ean_core"``, the reader of this package.

    It has MMCV's name because MMSegmentation's inferencer looks for a step of exactly that name in the test pipeline.
    With any other backend it is MMCV's loader, so configs of others read as before.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Read ``img_path`` as ``img``, BGR (H, W, 3), with its ``img_shape`` and ``ori_shape``.

        Raises:
            FileNotFoundError, UserError: There is no such file, or it cannot be decoded.
        """
        if self.imdecode_backend != OUR_READER:
            return super().transform(results)
        image = np.ascontiguousarray(read_image(results["img_path"])[..., ::-1])
        results["img"] = image.astype(np.float32) if self.to_float32 else image
        results["img_shape"] = results["ori_shape"] = image.shape[:2]
        return results


@TRANSFORMS.register_module()
class TurnMask(BaseTransform):
    """Turn a mask that was drawn on the pixels as stored, as the image's EXIF tag turns the image."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Turn ``gt_seg_map`` (H, W), where there is one."""
        if "gt_seg_map" in results:
            turned = upright(results["gt_seg_map"], read_header(results["img_path"]).orientation)
            results["gt_seg_map"] = np.ascontiguousarray(turned)
        return results


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
