"""Prediction of counts: the result, and its picture and row in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from mmengine.config import Config
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from crowd_counting.density_files import to_npy
from crowd_counting.localisation import peaks
from ean_core.application import View, require_finite
from ean_core.inference.drawing import reduced
from ean_core.inference.region import Polygon, parts_inside
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
        region: The corners of the polygon that was asked for, (x, y) in pixels of that image, if one was.
    """

    count: float
    _: KW_ONLY
    density: NDArray[np.float32]
    stride: int
    size: tuple[int, int]
    region: Polygon | None = None

    @property
    def in_region(self) -> float:
        """The people in the region; a cell counts by the part of it that lies inside. All, where there is none."""
        if self.region is None:
            return self.count
        rows, columns = self.density.shape
        parts = parts_inside(self.region, (rows, columns), self.stride, self.size)
        return float((self.density * parts).sum(dtype=np.float64))

    @property
    def points(self) -> NDArray[np.float64]:
        """Where the people are, (n, 2), x and y in pixels: :func:`crowd_counting.localisation.peaks`."""
        return peaks(self.density, self.stride)


def predict(model: nn.Module, cfg: Config, images: Sequence[NDArray[np.uint8]]) -> list[CrowdCount]:
    """Count in RGB images (H, W, 3), each at its own size, or with its longer side reduced to ``cfg.prediction.size``.

    An image with more pixels than a tile (``cfg.tiling``, by default 1024 each way) goes through the network in
    overlapping tiles, so that memory does not grow with it; with ``cfg.prediction.whole`` in one piece. ``cfg.region``
    is a polygon to count in besides, in pixels of the images as they are given.
    """
    asked = cfg.get("prediction") or {}
    tiling: dict[str, int] = {**TILING, **(cfg.get("tiling") or {}), "batch": asked.get("batch", 1)}
    results = []
    for given in images:
        image = reduced(given, asked.get("size"))
        if asked.get("whole"):
            tiling["tile"] = max(image.shape[:2])  # one tile
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
        cells = model.predict(pixels, tiling, _tell)[0, 0]  # type: ignore[operator]
        require_finite(cells)
        density = cells.cpu().numpy()
        size = (image.shape[0], image.shape[1])
        count = float(density.sum(dtype=np.float64))
        region = _region(cfg, (size[1] / given.shape[1], size[0] / given.shape[0]))
        results.append(CrowdCount(count, density=density, stride=model.stride, size=size, region=region))  # type: ignore[arg-type]
    return results


def _region(cfg: Config, scale: tuple[float, float]) -> Polygon | None:
    corners = cfg.get("region")
    return None if corners is None else tuple((scale[0] * float(x), scale[1] * float(y)) for x, y in corners)


def _tell(tiles: int, total: int) -> None:
    report_part(f"tile {tiles} of {total}")
    stop_if_asked()


def row(result: CrowdCount) -> dict[str, object]:
    """The count, and that in the region if there is one."""
    region = {} if result.region is None else {"in_region": round(result.in_region, 2)}
    return {"count": round(result.count, 2), **region}


def view(image: NDArray[np.uint8], result: CrowdCount) -> View:
    """The count, and the density's colours as a layer; the file has the people in each cell."""
    from crowd_counting.visualize import layer  # matplotlib's colours

    colours, legend = layer(result.density, result.stride, result.size)
    return View(
        f"{result.count:.1f} people",
        legend=legend,
        layer=colours,
        cells=result.density,
        cell=result.stride,
        unit="people",
        files={"density.npy": to_npy(result.density)},
    )


def draw(image: NDArray[np.uint8], result: CrowdCount) -> Image.Image:
    """The density over the image, with the count and a colour bar; a region's outline, and the people in it."""
    from crowd_counting.visualize import MARGIN, PANEL, TITLE, picture_of  # matplotlib's colours: for pictures alone

    picture = picture_of(reduced(image, max(result.size)), result.density, result.stride)
    if result.region is not None:
        factor = PANEL / max(result.size)
        height, width = (round(factor * side) for side in result.size)
        panel = picture.crop((MARGIN, TITLE, MARGIN + width, TITLE + height))  # the region may reach beyond the image
        _outline(panel, [(factor * x, factor * y) for x, y in result.region], f"{result.in_region:.1f} inside")
        picture.paste(panel, (MARGIN, TITLE))
    return picture


def _outline(picture: Image.Image, corners: list[tuple[float, float]], text: str) -> None:
    """A polygon as a white line with black edges, and a text in the picture's upper left corner."""
    pen = ImageDraw.Draw(picture)
    for colour, width in (("black", 5), ("white", 3)):
        pen.line([*corners, *corners[:2]], colour, width, joint="curve")
    pen.text((8, 6), text, "white", ImageFont.load_default(20), stroke_width=2, stroke_fill="black")
