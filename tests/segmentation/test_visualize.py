"""The pictures: overlay, panels and legend, pixel by pixel."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from numpy.typing import NDArray
from PIL import Image

from ean_core.inference.drawing import stack
from segmentation.toy_scenes import draw_scene
from segmentation.visualize import MARGIN, PreviewHook, overlay, side_by_side
from segmentation.voc import CLASSES, PALETTE

TOP = 24  # the titles' line
OWN = ("road", "kerb"), [[128, 64, 0], [0, 0, 200]]


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def labels(height: int, width: int, classes: int, seed: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, classes, (height, width)).astype(np.uint8)


def find(canvas: Image.Image, panel: NDArray[np.uint8], factor: int, start: int) -> int:
    """The column from ``start`` on where ``panel`` lies, each pixel of it a square of ``factor`` pixels."""
    large = np.kron(panel, np.ones((factor, factor, 1), np.uint8))
    height, width, _ = large.shape
    pixels = np.asarray(canvas)[TOP : TOP + height]
    return next(x for x in range(start, canvas.width) if np.array_equal(pixels[:, x : x + width], large))


def swatches(canvas: Image.Image, top: int) -> list[tuple[int, int, int]]:
    """Colours of the legend's squares: 11x11 pixels in a black frame, in reading order."""
    pixels = np.asarray(canvas).astype(int)
    found = []
    for y in range(top, canvas.height - 12):
        for x in range(canvas.width - 12):
            square = pixels[y : y + 13, x : x + 13]
            frame = np.concatenate([square[0], square[-1], square[:, 0], square[:, -1]])
            if not frame.any() and (square[1:-1, 1:-1] == square[1, 1]).all():
                found.append(tuple(square[1, 1].tolist()))
    return found


@pytest.mark.parametrize("opacity", [0.0, 0.25, 0.6, 1.0])
def test_overlay_blends(opacity: float) -> None:
    image, classes = noise(4, 5), labels(4, 5, 21)
    classes[0] = [0, 255, 1, 15, 20]
    blended = overlay(image, classes, PALETTE, opacity)
    assert blended.dtype == np.uint8
    for y in range(4):
        for x in range(5):
            for channel in range(3):
                value = int(image[y, x, channel])
                if classes[y, x] not in (0, 255):
                    value = (1 - opacity) * value + opacity * PALETTE[classes[y, x]][channel]
                assert abs(int(blended[y, x, channel]) - value) <= 0.5 + 1e-4


def test_overlay_of_a_known_pixel() -> None:
    """0.4 x (100, 200, 50) + 0.6 x (128, 0, 0)."""
    image = np.array([[[100, 200, 50]]], np.uint8)
    assert overlay(image, np.array([[1]], np.uint8), PALETTE).tolist() == [[[117, 80, 20]]]


def test_overlay_leaves_background_and_ignored_pixels() -> None:
    image = noise(6, 6)
    for label in (0, 255):
        assert np.array_equal(overlay(image, np.full((6, 6), label, np.uint8), PALETTE), image)


def test_overlay_shows_a_first_class_that_is_no_background() -> None:
    """Own classes without a background: label 0 has a colour. 255 is ignored even when there are 256 colours."""
    image = np.zeros((1, 2, 3), np.uint8)
    assert overlay(image, np.array([[0, 255]], np.uint8), OWN[1], 1.0).tolist() == [[[128, 64, 0], [0, 0, 0]]]
    assert overlay(image, np.array([[7, 255]], np.uint8), [[9, 9, 9]] * 256, 1.0).tolist() == [[[9, 9, 9], [0, 0, 0]]]


@pytest.mark.parametrize("with_truth", [True, False])
@pytest.mark.parametrize(("height", "width"), [(60, 80), (1, 1), (300, 20), (7, 500), (241, 360)])
def test_panels_hold_the_pixels(height: int, width: int, with_truth: bool) -> None:
    image, truth, prediction = noise(height, width), labels(height, width, 3), labels(height, width, 3, seed=2)
    canvas = side_by_side(image, truth if with_truth else None, prediction, CLASSES, PALETTE)
    panels = [image, overlay(image, prediction, PALETTE)]
    if with_truth:
        panels.insert(1, overlay(image, truth, PALETTE))
    factor = {60: 4, 1: 240}.get(height, 1)
    x = MARGIN
    for i, panel in enumerate(panels):
        place = find(canvas, panel, factor, x)
        assert place == MARGIN if i == 0 else place >= x
        x = place + width * factor + MARGIN
    assert x <= canvas.width
    assert canvas.width < 3 * max(width * factor, 130) + 5 * MARGIN


def test_titles_do_not_run_into_each_other() -> None:
    """Panels of a very narrow image stand as far apart as their titles are long."""
    canvas = side_by_side(noise(240, 2), labels(240, 2, 1), labels(240, 2, 1), CLASSES, PALETTE)
    line = (np.asarray(canvas)[:TOP] != 255).any((0, 2))  # columns with ink
    inked = np.flatnonzero(line)
    gaps = inked[1:][np.diff(inked) >= MARGIN]  # where the second and the third title start
    assert len(gaps) == 2
    assert not line[-1]


@pytest.mark.parametrize("with_truth", [True, False])
def test_legend_lists_what_occurs(with_truth: bool) -> None:
    image, truth, prediction = noise(48, 64), np.full((48, 64), 255, np.uint8), np.zeros((48, 64), np.uint8)
    truth[:9], prediction[9:12] = 15, 4
    canvas = side_by_side(image, truth if with_truth else None, prediction, CLASSES, PALETTE)
    found = swatches(canvas, TOP + 48 * 5)
    assert found == [tuple(PALETTE[k]) for k in ((4, 15) if with_truth else (4,))]


@pytest.mark.parametrize(("height", "width"), [(210, 40), (21, 200), (21, 1)])
def test_legend_of_all_classes_is_whole(height: int, width: int) -> None:
    """However narrow the picture, 20 entries wrap into lines, and nothing touches the border."""
    classes = np.repeat(np.arange(height) * 21 // height, width).reshape(height, width).astype(np.uint8)
    canvas = side_by_side(noise(height, width), None, classes, CLASSES, PALETTE)
    top = TOP + height * {(21, 200): 2, (21, 1): 12}.get((height, width), 2)
    assert swatches(canvas, top) == [tuple(colour) for colour in PALETTE[1:]]
    pixels = np.asarray(canvas)
    assert (pixels[-1] == 255).all()
    assert (pixels[:, -1] == 255).all()


def test_a_name_wider_than_the_panels_is_not_cut() -> None:
    name = "a class with a name that is much wider than the panels above it"
    canvas = side_by_side(noise(300, 5), None, np.ones((300, 5), np.uint8), ("background", name), PALETTE)
    assert swatches(canvas, TOP + 300) == [(128, 0, 0)]
    assert (np.asarray(canvas)[:, -8:] == 255).all()
    assert (np.asarray(canvas)[TOP + 300 :, 250:-40] != 255).any()


def test_one_class_and_no_class() -> None:
    blank = np.zeros((30, 30), np.uint8)
    assert swatches(side_by_side(noise(30, 30), None, blank, ("road",), OWN[1][:1]), TOP + 240) == [(128, 64, 0)]
    canvas = side_by_side(noise(30, 30), blank, blank, CLASSES, PALETTE)  # background alone: no legend
    assert canvas.height == TOP + 240 + MARGIN


def test_stack_puts_pictures_below_each_other() -> None:
    pictures = [Image.fromarray(noise(h, w, seed=h)) for h, w in ((3, 7), (5, 2))]
    pixels = np.asarray(stack(pictures))
    assert pixels.shape == (8, 7, 3)
    assert np.array_equal(pixels[:3], noise(3, 7, seed=3))
    assert np.array_equal(pixels[3:, :2], noise(5, 2, seed=5))
    assert (pixels[3:, 2:] == 255).all()


def sample_of(path: Path, index: int, truth: bool = True) -> SegDataSample:
    image, classes = draw_scene(48, 0, index)
    Image.fromarray(image).save(path)
    sample = SegDataSample(metainfo={"img_path": str(path)})
    target = torch.from_numpy(classes.astype(np.int64))[None]
    sample.pred_sem_seg = PixelData(data=torch.where(target == 255, 0, target))
    if truth:
        sample.gt_sem_seg = PixelData(data=target)
    return sample


def picture_of(index: int, truth: bool = True) -> NDArray[np.uint8]:
    image, classes = draw_scene(48, 0, index)
    prediction = np.where(classes == 255, 0, classes).astype(np.uint8)
    return np.asarray(side_by_side(image, classes if truth else None, prediction, CLASSES, PALETTE))


class Loader(list):
    """A loader of so many batches."""

    dataset = SimpleNamespace(metainfo=dict(classes=CLASSES, palette=PALETTE))


def test_preview_hook_spreads_its_images_over_the_set(tmp_path: Path) -> None:
    loader = Loader(range(5))
    runner = SimpleNamespace(val_dataloader=loader, test_dataloader=loader, work_dir=str(tmp_path), cfg=Config({}))
    hook = PreviewHook(count=2)
    for _ in range(2):  # the second validation starts anew
        for index in range(5):
            hook.after_val_iter(runner, index, outputs=[sample_of(tmp_path / f"{index}.png", index)])
        hook.after_val_epoch(runner)
        rows = [picture_of(0), picture_of(2)]
        pixels = np.asarray(Image.open(tmp_path / "preview.png"))
        assert pixels.shape == (sum(len(row) for row in rows), max(row.shape[1] for row in rows), 3)
        assert np.array_equal(pixels[: len(rows[0]), : rows[0].shape[1]], rows[0])
        assert np.array_equal(pixels[len(rows[0]) :, : rows[1].shape[1]], rows[1])
        (tmp_path / "preview.png").unlink()


@pytest.mark.parametrize("truth", [True, False])
def test_test_pictures_are_written_on_demand(tmp_path: Path, truth: bool) -> None:
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=CLASSES, palette=PALETTE)))
    runner = SimpleNamespace(test_dataloader=loader, cfg=Config({}))
    outputs = [sample_of(tmp_path / "scene.png", 4, truth)]
    PreviewHook().after_test_iter(runner, 0, outputs=outputs)
    assert [path.name for path in tmp_path.iterdir()] == ["scene.png"]
    runner.cfg = Config(dict(show_dir=str(tmp_path / "shown")))
    PreviewHook().after_test_iter(runner, 0, outputs=outputs)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "shown" / "scene.png.png")), picture_of(4, truth))
