"""Augmentation of an image and its points; the density map is made afterwards, so nothing of it is ever resized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageEnhance import Brightness, Color, Contrast

from crowd_counting.annotations import clamp
from ean_core.errors import UserError

Pixels = NDArray[np.uint8]


class Augmented(NamedTuple):
    """What :class:`Augmentation` returns.

    Attributes:
        image: uint8 RGB, (H, W, 3).
        points: The people still in the picture, float32 (N, 2), 0 <= x < W and 0 <= y < H.
        kept: Their indices among the points given.
        factor: By how much the picture was enlarged.
    """

    image: Pixels
    points: NDArray[np.float32]
    kept: NDArray[np.int64]
    factor: float


@dataclass(frozen=True)
class Augmentation:
    """Scale, crop, flip and colour jitter, drawn from torch's generator.

    Torch seeds it in every data worker from the epoch's seed, so that a resumed run repeats (`ReseedHook`).

    Args:
        crop: Height and width of the result in pixels, or one number for both; None keeps the whole image, and then
            images of a batch must be of one size. An image smaller than the crop is enlarged until it covers it:
            padding would teach the network that a part of the picture has no people.
        scale: Smallest and largest factor; drawn uniformly in its logarithm, so that halving is as likely as doubling.
        flip: Probability of a mirror image, left to right.
        jitter: Brightness, contrast and saturation are each multiplied by a factor in [1 - jitter, 1 + jitter].

    Raises:
        UserError: An option is out of range.
    """

    crop: int | tuple[int, int] | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.5
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < 1:
            raise UserError(f"crop must be at least 1 pixel each way, got {self.crop}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise UserError(f"scale must be a range of positive factors such as (0.8, 1.2), got {self.scale}")
        if not (0 <= self.flip <= 1 and 0 <= self.jitter < 1):
            raise UserError(f"flip must be in [0, 1] and jitter in [0, 1), got {self.flip} and {self.jitter}")

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the result; None for whole images."""
        if self.crop is None:
            return None
        height, width = (self.crop, self.crop) if isinstance(self.crop, int) else self.crop
        return height, width

    def __call__(self, image: Pixels, points: NDArray[np.float32]) -> Augmented:
        """Augment an image (H, W, 3) and its points (N, 2), which lie in 0 <= x < W and 0 <= y < H."""
        draw = torch.rand(7, dtype=torch.float64).tolist()
        height, width = image.shape[:2]
        factor = self.scale[0] * (self.scale[1] / self.scale[0]) ** draw[0]
        if self.size is None:
            target = (max(1, round(height * factor)), max(1, round(width * factor)))
            region = (height, width)
        else:
            target = self.size
            factor = max(factor, target[0] / height, target[1] / width)
            region = (_span(target[0], factor, height), _span(target[1], factor, width))
        # The part that becomes the crop is cut out first and scaled then: less to scale, with the same result.
        top = int(draw[1] * (height - region[0] + 1))
        left = int(draw[2] * (width - region[1] + 1))
        image = resize(image[top : top + region[0], left : left + region[1]], target)
        moved = points - np.array([left, top], np.float32)
        kept = np.flatnonzero(np.all((moved >= 0) & (moved < (region[1], region[0])), axis=1))
        ratio = np.array([target[1] / region[1], target[0] / region[0]])
        moved = clamp((moved[kept] * ratio).astype(np.float32), target[1], target[0])
        if draw[3] < self.flip:
            image, moved = mirror(image, moved)
        if self.jitter:
            image = _jitter(np.ascontiguousarray(image), [1 + self.jitter * (2 * value - 1) for value in draw[4:]])
        return Augmented(np.ascontiguousarray(image), moved, kept, float(np.sqrt(ratio.prod())))


def resize(image: Pixels, size: tuple[int, int]) -> Pixels:
    """An image (H, W, 3) at another height and width: averaged when it shrinks, bilinear when it grows."""
    if image.shape[:2] == size:
        return image
    shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))


def mirror(image: Pixels, points: NDArray[np.float32]) -> tuple[Pixels, NDArray[np.float32]]:
    """Image and points, left to right; a point goes to the mirror image of its pixel."""
    width = image.shape[1]
    points = points.copy()
    # Pixel p is p <= x < p + 1, and its mirror image is half-open at the other end: hence the least step to the left.
    points[:, 0] = np.nextafter(width - points[:, 0], np.float32(0))
    return image[:, ::-1], clamp(points, *image.shape[1::-1])


def _span(target: int, factor: float, available: int) -> int:
    """How many pixels of the image become ``target`` pixels of the crop."""
    return min(available, max(1, round(target / factor)))


def _jitter(image: Pixels, factors: list[float]) -> Pixels:
    picture = Image.fromarray(image)  # Pillow, because torch starts threads, of which data workers have too many
    for enhance, factor in zip((Brightness, Contrast, Color), factors, strict=True):
        picture = enhance(picture).enhance(factor)
    return np.array(picture)
