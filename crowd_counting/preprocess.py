"""From a batch of uint8 images to what the network takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS
from torch.nn import functional as F


@MODELS.register_module()
class CrowdPreprocessor(BaseDataPreprocessor):
    """Move a batch to the device, normalise its images, and pad them at the right and the bottom.

    Padding is 0 after normalisation, the mean colour; nothing is resized. The model cuts off the cells of its density
    map that lie in the padding.

    Args:
        mean: Of each channel, RGB, in 0..255.
        std: Of each channel, in 0..255.
        multiple: Height and width are padded to a multiple of this, the backbone's largest stride.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], multiple: int = 8) -> None:
        super().__init__(non_blocking=True)
        if multiple < 1:
            raise ValueError(f"data_preprocessor.multiple must be at least 1, got {multiple}")
        self.multiple = multiple
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (N, 3, H, W) on any device -> float32 on this one, H and W rounded up to the multiple."""
        height, width = images.shape[-2:]
        x = images.to(self.mean.device, torch.float32, non_blocking=True).sub_(self.mean).div_(self.std)
        return F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple))

    def forward(self, data: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        """``inputs`` (N, 3, H, W) as :meth:`prepare` does, ``density`` to the device, and ``size``, (H, W)."""
        ready = {"inputs": self.prepare(data["inputs"]), "size": tuple(data["inputs"].shape[-2:])}
        if data.get("density") is not None:
            ready["density"] = data["density"].to(self.mean.device, non_blocking=True)
        return ready
