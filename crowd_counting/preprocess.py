"""From a batch of uint8 images to what the network takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import ImgDataPreprocessor
from mmengine.registry import MODELS

from ean_core.errors import UserError


@MODELS.register_module()
class CrowdPreprocessor(ImgDataPreprocessor):
    """MMEngine's preprocessor, which normalises images and pads them at the right and the bottom, and their size.

    Padding is 0 after normalisation, the mean colour; nothing is resized. The model cuts off the cells of its density
    map that lie in the padding.

    Args:
        mean: Of each channel, RGB, in 0..255.
        std: Of each channel, in 0..255.
        multiple: Height and width are padded to a multiple of this, the backbone's largest stride.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], multiple: int = 8) -> None:
        if not isinstance(multiple, int) or multiple < 1:
            raise UserError(f"data_preprocessor.multiple must be a whole number from 1 on, got {multiple!r}")
        super().__init__(mean, std, pad_size_divisor=multiple, non_blocking=True)

    def forward(self, data: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        """``inputs`` uint8 (N, 3, H, W) normalised and padded, ``density`` and ``points`` if given, ``size`` (H, W)."""
        wanted = {key: data[key] for key in ("inputs", "density", "points") if data.get(key) is not None}
        ready = super().forward(wanted, training)
        del ready["data_samples"]  # an entry of None that MMEngine adds
        return {**ready, "size": tuple(data["inputs"].shape[-2:])}
