"""Prediction of counts: the result, and its picture and row in a table."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmengine.config import Config
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from ean_core.application import View, require_finite
from ean_core.inference.drawing import reduced
from ean_core.stopping import stop_if_asked
from ean_core.terminal import report_part

TILING = {"tile": 1024, "overlap": 192}


@dataclass(frozen=True)
class CrowdCount:
    """The people in one image.

    Attributes:
        count: Their number: the sum of ``density``, not rounded.
        density: People in each cell, float32 (ceil(H / stride), ceil(W / stride)).
        stride: Pixels a cell, each way.
        size: H and W in pixels of the image, as the network saw it.
    """

    count: float
    density: NDArray[np.float32]
    stride: int
    size: tuple[int, int]


def predict(model: nn.Module, cfg: Config, images: Sequence[NDArray[np.uint8]]) -> list[CrowdCount]:
    """Count in RGB images (H, W, 3), each at its own size, or with its longer side reduced to ``cfg.prediction.size``.

    An image with more pixels than a tile (``cfg.tiling``, by default 1024 each way) goes through the network in
    overlapping tiles, so that memory does not grow with it; with ``cfg.prediction.whole`` in one piece.
    """
    asked = cfg.get("prediction") or {}
    tiling: dict[str, int] = {**TILING, **(cfg.get("tiling") or {}), "batch": asked.get("batch", 1)}
    results = []
    for image in images:
        image = reduced(image, asked.get("size"))
        if asked.get("whole"):
            tiling["tile"] = max(image.shape[:2])  # one tile
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
        cells = model.predict(pixels, tiling, _tell)[0, 0]  # type: ignore[operator]
        require_finite(cells)
        density = cells.cpu().numpy()
        size = (image.shape[0], image.shape[1])
        results.append(CrowdCount(float(density.sum(dtype=np.float64)), density, model.stride, size))  # type: ignore[arg-type]
    return results


def _tell(tiles: int, total: int) -> None:
    report_part(f"tile {tiles} of {total}")
    stop_if_asked()


def row(result: CrowdCount) -> dict[str, object]:
    """The count."""
    return {"count": round(result.count, 2)}


def view(image: NDArray[np.uint8], result: CrowdCount) -> View:
    """The count, and the density's colours as a layer; the file has the people in each cell."""
    from crowd_counting.visualize import layer  # matplotlib's colours

    colours, legend = layer(result.density, result.stride, result.size)
    file = io.BytesIO()
    np.save(file, result.density)
    return View(
        f"{result.count:.1f} people",
        legend=legend,
        layer=colours,
        cells=result.density,
        cell=result.stride,
        unit="people",
        files={"density.npy": file.getvalue()},
    )


def draw(image: NDArray[np.uint8], result: CrowdCount) -> Image.Image:
    """The density over the image, with the count and a colour bar."""
    from crowd_counting.visualize import picture_of  # matplotlib's colours: nothing but a picture needs them

    return picture_of(reduced(image, max(result.size)), result.density, result.stride)
