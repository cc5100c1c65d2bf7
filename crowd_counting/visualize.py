"""Pictures of density maps: over the image, with a colour bar and the counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from crowd_counting.dataset import limit_size
from crowd_counting.density import neighbour_distance
from crowd_counting.density_files import files
from crowd_counting.metric import CrowdMetric, to_csv
from ean_core.application import Share
from ean_core.files import write_atomic
from ean_core.images import read_image
from ean_core.inference.drawing import picture_name, save_png, stack

PANEL = 640  # the longer side of a panel in pixels
MARGIN, TITLE, BAR, LABELS = 8, 28, 14, 46
COLOURS = "turbo"
FINE = 4  # dots are drawn this much larger, for smooth edges
AREA = 100  # densities are shown as people in a square of this many pixels
TICKS = (0, 1, 4, 10, 30, 60, 100)  # of these; the last one has the last colour, and what lies above has it too

Picture = NDArray[np.uint8]
Floats = NDArray[np.floating]


def heat(density: Floats, size: tuple[int, int], stride: int) -> NDArray[np.float32]:
    """A density map at the image's size (H, W), bilinear between cells, in people a square of 100x100 pixels."""
    rows, columns = density.shape
    map_ = Image.fromarray(np.ascontiguousarray(density, np.float32) * (AREA / stride) ** 2)
    full = np.asarray(map_.resize((columns * stride, rows * stride), Image.Resampling.BILINEAR))
    return full[: size[0], : size[1]]


def place(values: Floats) -> Floats:
    """Where densities lie on the scale of colours, 0 to 1: ``sqrt(v / 100)``.

    It is the same for all pictures, so one colour means one density in a street and in a stadium, and a network that
    has not learnt anything is pale. The root leaves room for streets, with their few people.
    """
    return np.sqrt(np.clip(values / TICKS[-1], 0, 1))


def overlay(image: Picture, values: Floats) -> Picture:
    """Colours for ``values`` over a darkened grey version of an image; where they are 0, the image shows.

    Args:
        image: RGB, (H, W, 3).
        values: People a square of 100x100 pixels, (H, W).
    """
    colours, opacity = _coloured(values)
    grey = _grey(image)
    opacity = 0.85 * opacity
    return (grey * (1 - opacity) + colours * opacity).round().astype(np.uint8)


def layer(density: Floats, stride: int, size: tuple[int, int]) -> tuple[Picture, list[Share]]:
    """The same colours as a layer of their own, RGBA (H, W, 4), and what they mean."""
    colours, opacity = _coloured(heat(density, size, stride))
    legend = []
    for tick in reversed(TICKS):
        red, green, blue = (round(255 * c) for c in colormaps[COLOURS](float(place(np.array(tick))))[:3])
        more = " or more" if tick == TICKS[-1] else ""
        legend.append(Share(f"{tick}{more} people per {AREA}x{AREA} px", colour=(red, green, blue)))
    return np.concatenate([colours, 255 * opacity], 2).round().astype(np.uint8), legend


def _coloured(values: Floats) -> tuple[Floats, Floats]:
    """RGB in 0..255 (H, W, 3) and opacity in 0..1 (H, W, 1) of a density."""
    part = place(values)
    return colormaps[COLOURS](part)[..., :3] * 255, np.clip(part * 3, 0, 1)[..., None]


def _grey(image: Picture) -> Floats:
    return np.repeat(image.mean(2, keepdims=True) * 0.6, 3, axis=2)


def dots(image: Picture, points: Floats, factor: float) -> Image.Image:
    """A darkened grey image with a yellow dot at every head, smaller where heads are close, so that each is seen.

    Args:
        image: RGB, (H, W, 3).
        points: (N, 2), in pixels before enlarging by ``factor``.
        factor: Of the image.
    """
    places = np.asarray(points, np.float64).reshape(-1, 2) * factor
    radii = np.clip(0.3 * neighbour_distance(places, 1), 0.7, 3)
    height, width = image.shape[:2]
    large = Image.fromarray(_grey(image).round().astype(np.uint8)).resize((FINE * width, FINE * height))
    draw = ImageDraw.Draw(large)
    for (x, y), radius in zip(FINE * places, FINE * radii, strict=True):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), (255, 220, 40))
    return large.resize((width, height), Image.Resampling.BOX)


def picture_of(
    image: Picture, density: Floats, stride: int, points: Floats | None = None, count: float | None = None
) -> Image.Image:
    """The prediction over the image with its colour bar; where the truth is known, left of it the heads.

    Args:
        image: RGB, (H, W, 3).
        density: People in each cell, (h, w).
        stride: Pixels a cell.
        points: The true heads, (N, 2), or ``None``.
        count: The number to print; the density's sum by default.
    """
    height, width = image.shape[:2]
    factor = PANEL / max(height, width)
    small = Image.fromarray(image).resize((max(1, round(width * factor)), max(1, round(height * factor))))
    values = heat(np.nan_to_num(density), (height, width), stride)  # a failed prediction shows the image alone
    values = np.asarray(Image.fromarray(values).resize(small.size, Image.Resampling.BILINEAR))
    panels = []
    if points is not None:
        panels.append((f"heads: {len(points)}", dots(np.asarray(small), points, factor)))
    predicted = float(density.sum()) if count is None else count
    panels.append((f"predicted: {predicted:.1f}", Image.fromarray(overlay(np.asarray(small), values))))
    font = ImageFont.load_default(16)
    bar_height = max(small.height, 96)
    column = max(small.width, 180) + MARGIN
    canvas = Image.new(
        "RGB", (MARGIN + column * len(panels) + BAR + LABELS + MARGIN, TITLE + bar_height + 2 * MARGIN), "white"
    )
    draw = ImageDraw.Draw(canvas)
    for i, (title, panel) in enumerate(panels):
        left = MARGIN + i * column
        draw.text((left, 6), title, "black", font)
        canvas.paste(panel, (left, TITLE))
    left = MARGIN + column * len(panels)
    _bar(canvas, left, TITLE, bar_height)
    note = f"people per {AREA}x{AREA} px"
    length = font.getlength(note)
    room = left + BAR + LABELS - (MARGIN + column * (len(panels) - 1) + font.getlength(panels[-1][0]) + 2 * MARGIN)
    if length <= room:
        draw.text((left + BAR + LABELS, 6), note, "black", font, anchor="ra")
    return canvas


def _bar(canvas: Image.Image, left: int, top: int, height: int) -> None:
    """A colour bar with its ticks, as many as have room."""
    ramp = colormaps[COLOURS](np.linspace(1, 0, height))[:, None, :3]
    strip = (np.repeat(ramp, BAR, axis=1) * 255).round().astype(np.uint8)
    canvas.paste(Image.fromarray(strip), (left, top))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for tick in TICKS if height >= 16 * len(TICKS) else TICKS[::2]:
        part = float(place(np.array(tick)))
        anchor = {0.0: "ld", 1.0: "la"}.get(part, "lm")
        text = f"{tick}+" if tick == TICKS[-1] else str(tick)
        draw.text((left + BAR + 4, top + (1 - part) * (height - 1)), text, "black", font, anchor=anchor)


@HOOKS.register_module()
class PictureHook(Hook):
    """Pictures and the table of images.

    A validation writes ``preview.png``, some of its images. A test writes ``counts.csv``, one line per image, the worst
    first; ``worst/``, pictures of the worst images by rank; and into ``cfg.show_dir``, if the config names one, a
    picture of every image; into ``cfg.density_dir``, if it names one, the density of every image.

    Args:
        count: Number of images in the preview.
        worst: Number of the worst images.
    """

    priority = "LOW"

    def __init__(self, count: int = 3, worst: int = 10) -> None:
        self.count, self.worst = count, worst
        self._rows: list[Image.Image] = []
        self._kept: list[tuple[float, str, Floats, Floats]] = []  # error, path, density, points

    def after_val_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence[torch.Tensor] | None = None
    ) -> None:
        """Keep a few pictures, evenly spread over the set."""
        step = max(1, len(runner.val_dataloader) // self.count)
        if is_main_process() and outputs is not None and batch_idx % step == 0 and len(self._rows) < self.count:
            path, density, points = _samples(data_batch, outputs)[0]
            self._rows.append(
                picture_of(_image(path, runner.val_dataloader), density, runner.val_dataloader.dataset.stride, points)
            )

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Write the preview."""
        if self._rows:
            save_png(stack(self._rows), Path(runner.work_dir, "preview.png"))
            self._rows.clear()

    def before_test_epoch(self, runner: Any) -> None:
        """Begin anew."""
        self._kept.clear()

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence[torch.Tensor] | None = None
    ) -> None:
        """Keep what is worst so far; write the picture of each image where they are asked for."""
        for path, density, points in _samples(data_batch, outputs if outputs is not None else []):
            error = abs(float(density.sum()) - len(points))
            self._kept.append((error if error == error else float("inf"), path, density, points))
            if runner.cfg.get("density_dir"):
                for ending, content in files(density).items():
                    write_atomic(Path(runner.cfg.density_dir, picture_name(path, ending)), content)
            if runner.cfg.get("show_dir"):
                picture = picture_of(
                    _image(path, runner.test_dataloader), density, runner.test_dataloader.dataset.stride, points
                )
                save_png(picture, Path(runner.cfg.show_dir, picture_name(path)))
        self._kept = self._worst(self._kept)

    def after_test_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Write ``counts.csv`` and the worst images of all ranks."""
        gathered = [entry for part in all_gather_object(self._kept) for entry in part]
        self._kept.clear()
        if not is_main_process():
            return
        metric = next(m for m in runner.test_evaluator.metrics if isinstance(m, CrowdMetric))
        write_atomic(Path(runner.work_dir, "counts.csv"), to_csv(metric.rows))
        folder = Path(runner.work_dir, "worst")
        for old in folder.glob("[0-9][0-9]-*.png"):
            old.unlink()
        for rank, (_, path, density, points) in enumerate(self._worst(gathered), 1):
            picture = picture_of(
                _image(path, runner.test_dataloader), density, runner.test_dataloader.dataset.stride, points
            )
            save_png(picture, folder / f"{rank:02}-{picture_name(path)}")

    def _worst(self, entries: Sequence[tuple[float, str, Floats, Floats]]) -> list[tuple[float, str, Floats, Floats]]:
        unique = {entry[1]: entry for entry in entries}  # a distributed sampler repeats images
        return sorted(unique.values(), key=lambda entry: (-entry[0], entry[1]))[: self.worst]


def _image(path: str, loader: Any) -> Picture:
    """An image as its data set hands it to the network, which may limit its sides."""
    return limit_size(read_image(path), np.zeros((0, 2), np.float32), loader.dataset.longest)[0]


def _samples(batch: Any, outputs: Sequence[torch.Tensor]) -> list[tuple[str, Floats, Floats]]:
    """Path, density (h, w) and points (N, 2) of each image of a batch."""
    if not len(outputs):
        return []
    return [
        (path, density[0].float().cpu().numpy(), points.cpu().numpy())
        for path, density, points in zip(batch["img_path"], outputs, batch["points"], strict=True)
    ]
