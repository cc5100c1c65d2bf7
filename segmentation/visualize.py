"""Input, ground truth and prediction side by side, with a legend: what users look at after a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ean_core.figures import save_figure
from ean_core.files import write_csv
from ean_core.images import read_image
from ean_core.inference.drawing import picture_name, save_png, stack
from segmentation.per_image import COLUMNS, ImageMetric
from segmentation.voc import IGNORE

HEIGHT = 240  # small panels are enlarged to at least this many pixels, but to no more than twice as many in width
MARGIN = 8

Picture = NDArray[np.uint8]


def overlay(
    image: Picture, labels: NDArray[np.integer], palette: Sequence[Sequence[int]], opacity: float = 0.6
) -> Picture:
    """Blend class colours over an image.

    Args:
        image: RGB, (H, W, 3).
        labels: Class indices (H, W); the background (0) and ignored pixels (255) stay as they are where the palette's
            first colour is black, as in VOC.
        palette: One RGB colour a class.
        opacity: Weight of the colour.

    Returns:
        RGB, (H, W, 3).
    """
    colours = np.zeros((max(256, len(palette)), 3), np.float32)
    colours[: len(palette)] = palette
    shown = (labels != IGNORE) & (colours[labels].any(-1))
    mixed = (1 - opacity) * image + opacity * colours[labels]
    return np.where(shown[..., None], mixed, image).round().astype(np.uint8)


def side_by_side(
    image: Picture,
    truth: Picture | None,
    prediction: Picture,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
) -> Image.Image:
    """One row of panels (input, ground truth if known, prediction) above a legend of the classes that occur."""
    panels = {"input": image}
    if truth is not None:
        panels["ground truth"] = overlay(image, truth, palette)
    panels["prediction"] = overlay(image, prediction, palette)
    factor = max(1, min(-(-HEIGHT // image.shape[0]), 2 * HEIGHT // image.shape[1]))
    height, width = image.shape[0] * factor, image.shape[1] * factor
    font = ImageFont.load_default(14)
    column = max(width, *(int(font.getlength(title)) + 1 for title in panels)) + MARGIN
    present = set(np.unique(prediction)) | (set(np.unique(truth)) if truth is not None else set())
    entries = [k for k in range(len(classes)) if k in present and any(palette[k])]
    names = [classes[k] for k in entries]
    total = max([len(panels) * column, *(_length(name, font) for name in names)]) + MARGIN
    places, legend_height = _flow(names, font, total)
    top = 24
    canvas = Image.new("RGB", (total, top + height + MARGIN + legend_height), "white")
    draw = ImageDraw.Draw(canvas)
    for i, (title, panel) in enumerate(panels.items()):
        x = MARGIN + i * column
        draw.text((x, 4), title, "black", font)
        canvas.paste(Image.fromarray(panel).resize((width, height), Image.Resampling.NEAREST), (x, top))
    for k, (x, y) in zip(entries, places, strict=True):
        y += top + height + MARGIN
        draw.rectangle((x, y + 2, x + 12, y + 14), tuple(palette[k]), "black")
        draw.text((x + 18, y), classes[k], "black", font)
    return canvas


def _flow(names: Sequence[str], font: Any, width: int) -> tuple[list[tuple[int, int]], int]:
    """Places of the legend's entries in lines of ``width`` pixels, and the height that they take."""
    places, x, y = [], MARGIN, 0
    for name in names:
        size = _length(name, font)
        if x > MARGIN and x + size > width:
            x, y = MARGIN, y + 20
        places.append((x, y))
        x += size
    return places, y + 24 if names else 0


def _length(name: str, font: Any) -> int:
    return 18 + int(font.getlength(name)) + 16


@HOOKS.register_module()
class PreviewHook(Hook):
    """Write ``preview.png``, some validation images side by side with their predictions, at every validation.

    Args:
        count: Number of images.

    A test writes one picture per image into the folder ``cfg.show_dir``, if the config names one. Where it measures
    single images (:class:`segmentation.per_image.ImageMetric`), it writes ``images.csv``, a line an image and the worst
    first, and ``confusion.png``.
    """

    priority = "LOW"

    def __init__(self, count: int = 4) -> None:
        self.count = count
        self._rows: list[Image.Image] = []

    def after_val_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Keep a few pictures, evenly spread: neighbours in a list are often frames of one film."""
        step = max(1, len(runner.val_dataloader) // self.count)
        for sample in (outputs or [])[:1]:
            if is_main_process() and batch_idx % step == 0 and len(self._rows) < self.count:
                self._rows.append(_picture(sample, runner.val_dataloader.dataset.metainfo))

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Write the preview."""
        if self._rows:
            save_png(stack(self._rows), Path(runner.work_dir, "preview.png"))
            self._rows.clear()

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Write each picture of a test."""
        show_dir = runner.cfg.get("show_dir")
        for sample in (outputs or []) if show_dir else []:
            picture = _picture(sample, runner.test_dataloader.dataset.metainfo)
            save_png(picture, Path(show_dir, picture_name(sample.img_path)))

    def after_test_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Write the table of images and the picture of what is taken for what."""
        for metric in runner.test_evaluator.metrics:
            if isinstance(metric, ImageMetric) and is_main_process():
                from ean_core.figures.confusion import confusion_matrix  # Matplotlib is slow to import

                write_csv(Path(runner.work_dir, "images.csv"), COLUMNS, metric.rows)
                figure = confusion_matrix(metric.confusion, metric.dataset_meta["classes"])
                save_figure(figure, Path(runner.work_dir, "confusion.png"))


def _picture(sample: Any, meta: Mapping[str, Any]) -> Image.Image:
    image = read_image(sample.img_path)
    truth = sample.gt_sem_seg.data.squeeze().cpu().numpy().astype(np.uint8) if "gt_sem_seg" in sample else None
    prediction = sample.pred_sem_seg.data.squeeze().cpu().numpy().astype(np.uint8)
    return side_by_side(image, truth, prediction, meta["classes"], meta["palette"])
