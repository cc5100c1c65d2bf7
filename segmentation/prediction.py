"""Prediction of segmentations: the result, and its picture and row in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ean_core.application import Share, View, class_names, require_finite
from ean_core.errors import UserError
from ean_core.inference.drawing import fit, reduced, shorten, to_png
from segmentation.visualize import overlay
from segmentation.voc import palette as voc_palette

MAX_SIDE = 2048  # longer images are scaled down for the network: its memory grows with the pixels
LEGEND, LINE, MARGIN = 300, 22, 12  # its largest width, height of an entry, white around


@dataclass(frozen=True)
class SegmentationResult:
    """A class for every pixel of one image.

    Attributes:
        labels: uint8 (H, W), or uint16 where there are more than 256 classes; in the image's own size.
        classes: The K class names; numbers as text where the checkpoint knows none.
        palette: K RGB colours.
    """

    labels: NDArray[np.uint8 | np.uint16]
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image in pixels."""
        height, width = self.labels.shape
        return height, width

    @property
    def shares(self) -> NDArray[np.float64]:
        """The part of the image's pixels that each class takes, (K,); they sum to 1."""
        return np.bincount(self.labels.ravel(), minlength=len(self.classes)) / self.labels.size

    def present(self) -> list[int]:
        """The classes that occur, the largest first."""
        shares = self.shares
        return [int(k) for k in np.argsort(-shares, kind="stable") if shares[k] > 0]


def predict(model: BaseModel, cfg: Config, images: Sequence[NDArray[np.uint8]]) -> list[SegmentationResult]:
    """Segment RGB images (H, W, 3), as a test does: at their own size, by ``cfg.model.test_cfg``.

    An image with a side above 2048 pixels, or above ``cfg.prediction.size``, is scaled down for the network, and its
    labels up to the nearest; with ``cfg.prediction.whole`` none is because of its 2048 pixels. Neighbours of one size
    go through the network together.
    """
    asked = cfg.get("prediction") or {}
    longest = asked.get("size") or (None if asked.get("whole") else MAX_SIDE)
    results: list[SegmentationResult] = []
    start = 0
    while start < len(images):
        stop = start + 1
        while stop < len(images) and images[stop].shape == images[start].shape:
            stop += 1
        results += _predict_batch(model, images[start:stop], longest)
        start = stop
    return results


def _predict_batch(
    model: BaseModel, images: Sequence[NDArray[np.uint8]], longest: int | None
) -> list[SegmentationResult]:
    from mmseg.structures import SegDataSample  # slow to import, and there once a model is

    height, width = images[0].shape[:2]
    seen = [reduced(image, longest) for image in images]
    # MMSegmentation's preprocessor starts from OpenCV's channel order: (3, H, W), BGR
    inputs = [torch.from_numpy(np.ascontiguousarray(i[:, :, ::-1].transpose(2, 0, 1))) for i in seen]
    meta = {"ori_shape": seen[0].shape[:2], "img_shape": seen[0].shape[:2]}
    samples = model.test_step({"inputs": inputs, "data_samples": [SegDataSample(metainfo=meta) for _ in seen]})
    results = []
    for sample in samples:
        logits, labels = sample.seg_logits.data, sample.pred_sem_seg.data[0].cpu().numpy()
        require_finite(logits)
        count = max(2, len(logits))
        labels = labels.astype(np.uint8 if count <= 256 else np.uint16)
        if labels.shape != (height, width):
            labels = np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))
        names = class_names(model, count)
        colours = model.dataset_meta.get("palette") or [voc_palette(256)[k % 256] for k in range(count)]
        if len(colours) != count:
            raise UserError(f"the checkpoint has {len(colours)} colours, and its network {count} classes")
        results.append(SegmentationResult(labels, names, tuple((c[0], c[1], c[2]) for c in colours)))
    return results


def row(result: SegmentationResult) -> dict[str, object]:
    """The share of every class, in percent of the image, under ``"<class> %"``."""
    return {
        f"{name} %": round(100 * float(share), 4) for name, share in zip(result.classes, result.shares, strict=True)
    }


def view(image: NDArray[np.uint8], result: SegmentationResult) -> View:
    """The classes' colours as a layer, which is empty where a class is black (VOC's background); what occurs.

    The file has a class number a pixel.
    """
    shares, present = result.shares, result.present()
    colours = np.zeros((len(result.palette), 4), np.uint8)
    colours[:, :3] = result.palette
    colours[:, 3] = 255 * colours[:, :3].any(1)
    first = next((k for k in present if colours[k, 3]), present[0])
    return View(
        f"{result.classes[first]}, {100 * shares[first]:.1f} % of the pixels",
        legend=[Share(result.classes[k], float(shares[k]), result.palette[k]) for k in present],
        layer=colours[result.labels],
        files={"labels.png": to_png(Image.fromarray(result.labels))},
    )


def draw(image: NDArray[np.uint8], result: SegmentationResult) -> Image.Image:
    """The classes' colours over the image, and a legend with the share of each class that occurs.

    A class whose colour is black (VOC's background) leaves the image as it is; its legend entry is an empty square.
    """
    picture = fit(Image.fromarray(overlay(image, result.labels, result.palette)))
    font = ImageFont.load_default(15)
    percent = int(font.getlength("100.0 %"))
    name_width = min(LEGEND, max(int(font.getlength(name)) + 1 for name in result.classes))
    lines = max(4, picture.height // LINE)
    canvas = Image.new(
        "RGB",
        (picture.width + 20 + name_width + percent + 4 * MARGIN, max(picture.height, lines * LINE) + 2 * MARGIN),
        "white",
    )
    canvas.paste(picture, (MARGIN, MARGIN))
    pen = ImageDraw.Draw(canvas)
    left, right = picture.width + 2 * MARGIN, canvas.width - MARGIN
    shares, present = result.shares, result.present()
    shown = present if len(present) <= lines else present[: lines - 1]
    entries = [(result.palette[k], result.classes[k], shares[k]) for k in shown]
    rest = present[len(shown) :]
    if rest:
        entries.append(((255, 255, 255), f"{len(rest)} more", shares[rest].sum()))
    for i, (colour, name, share) in enumerate(entries):
        y = MARGIN + i * LINE
        pen.rectangle((left, y + 2, left + 14, y + 16), colour if any(colour) else "white", "black")
        pen.text((left + 22, y), shorten(name, name_width, font), "black", font)
        pen.text((right, y), f"{100 * share:.1f} %" if share >= 0.0005 else "< 0.1 %", "black", font, anchor="ra")
    return canvas
