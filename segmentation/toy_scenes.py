"""A small generated data set in the true VOC layout: coloured shapes on a smooth texture.

It stands in for VOC 2012 where a run has to end in a minute. Five of the 21 classes occur, each with a shape and
a hue of its own: cross = aeroplane, ring = bicycle, triangle = boat, disc = diningtable, square = tvmonitor.
"""

import io
import math
from colorsys import hsv_to_rgb
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ean_core.errors import UserError
from ean_core.files import build_once
from segmentation.voc import CLASSES, IGNORE, encode_mask

FORMAT = 1  # raise it when the drawing changes, so that cached sets are made anew
SCALE = 4  # shapes are drawn this much larger, then averaged down: smooth edges
# class name -> hue in degrees: evenly apart, so that colour alone already tells the classes apart
HUES = {"aeroplane": 205, "bicycle": 40, "boat": 350, "diningtable": 130, "tvmonitor": 280}

Floats = NDArray[np.float32]


def make_toy_voc(root: str | Path, train: int = 64, val: int = 16, size: int = 96, seed: int = 0) -> Path:
    """Make the toy data set, or find it made: a second call with the same arguments returns at once.

    Args:
        root: the folder to hold it; the set's own folder is named after the arguments.
        train: scenes in the lists train and train_aug.
        val: scenes in the list val.
        size: height and width of a scene in pixels, at least 32.
        seed: the scenes are a function of it and of ``size`` alone.

    Returns:
        The VOC2012 folder.

    Raises:
        UserError: an argument is out of range.
    """
    if train < 1 or val < 1 or size < 32:
        raise UserError(f"need train >= 1, val >= 1 and size >= 32, not train={train}, val={val}, size={size}")
    folder = Path(root, f"voc-{train}-{val}-{size}-{seed}-v{FORMAT}")
    return build_once(folder, lambda work: _write(work / "VOC2012", train, val, size, seed)) / "VOC2012"


def _write(voc_root: Path, train: int, val: int, size: int, seed: int) -> None:
    folders = ("JPEGImages", "SegmentationClass", "SegmentationClassAug", "ImageSets/Segmentation")
    images, masks, masks_aug, lists = (voc_root / folder for folder in folders)
    for folder in (images, masks, masks_aug, lists):
        folder.mkdir(parents=True)
    ids = [f"2012_{index:06d}" for index in range(train + val)]
    for index, image_id in enumerate(ids):
        # Validation scenes count on from a fixed number: they stay the same when `train` changes.
        image, labels = draw_scene(size, seed, index if index < train else 1_000_000 + index - train)
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="JPEG", quality=95)
        (images / f"{image_id}.jpg").write_bytes(buffer.getvalue())
        png = encode_mask(labels)
        (masks / f"{image_id}.png").write_bytes(png)
        if index < train:  # as in the real data, where VOC's val images have no place in train_aug
            (masks_aug / f"{image_id}.png").write_bytes(png)
    for name, part in (("train", ids[:train]), ("train_aug", ids[:train]), ("val", ids[train:])):
        (lists / f"{name}.txt").write_text("".join(f"{image_id}\n" for image_id in part))


def draw_scene(size: int, seed: int, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one scene; the same arguments give the same pixels.

    Args:
        size: height and width in pixels.
        seed: seed of the data set.
        index: which of its scenes. The first object's class goes round with it, so that all classes occur.

    Returns:
        The RGB image (size, size, 3) and its labels (size, size): VOC class indices, and 255 in a line of one
        pixel around each object, as VOC draws them.
    """
    rng = np.random.default_rng([seed, index])
    canvas = _background(size, rng)
    labels = np.zeros((size, size), np.uint8)
    names = list(HUES)
    placed: list[tuple[float, float, float]] = []
    for number in range(rng.integers(1, 5)):
        name = names[index % len(names)] if number == 0 else str(rng.choice(names))
        place = _free_place(size, rng, placed)
        if place is None:
            break
        placed.append(place)
        x, y, radius = place
        coverage = _shape(name, size, x, y, radius, rng)  # (H, W), 0 to 1
        shadow = cv2.GaussianBlur(np.roll(coverage, size // 40 + 1, (0, 1)), (0, 0), size / 40)
        canvas *= 1 - 0.35 * shadow[..., None]
        colour = _surface(HUES[name], size, x, y, radius, rng)
        canvas += coverage[..., None] * (colour - canvas)
        inside = (coverage >= 0.5).astype(np.uint8)
        border = cv2.dilate(inside, np.ones((3, 3), np.uint8)) - inside
        labels[inside > 0] = CLASSES.index(name)
        labels[border > 0] = IGNORE
    canvas += rng.normal(0, 0.012, canvas.shape)  # a little sensor noise
    return np.clip(canvas * 255 + 0.5, 0, 255).astype(np.uint8), labels


def _free_place(
    size: int, rng: np.random.Generator, placed: list[tuple[float, float, float]]
) -> tuple[float, float, float] | None:
    """A centre and radius that touch earlier objects at most a little; None when the scene is full."""
    for _ in range(40):
        radius = size * rng.uniform(0.19, 0.29)
        x, y = rng.uniform(0.85 * radius, size - 0.85 * radius, 2)
        if all(math.hypot(x - u, y - v) > 0.95 * (radius + r) for u, v, r in placed):
            return float(x), float(y), float(radius)
    return None


def _background(size: int, rng: np.random.Generator) -> Floats:
    """Smooth muted texture, (H, W, 3) in 0 to 1: cloudy noise of three grain sizes between two colours."""
    noise = np.zeros((size, size), np.float32)
    for cells, weight in ((3, 1.0), (7, 0.45), (17, 0.2)):
        grid = rng.normal(size=(cells, cells)).astype(np.float32)
        noise += weight * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    blend = (1 / (1 + np.exp(-1.5 * noise)))[..., None]
    hue = rng.uniform(0, 360)
    dark = _rgb(hue, rng.uniform(0.12, 0.3), rng.uniform(0.3, 0.5))
    light = _rgb(hue + rng.uniform(-50, 50), rng.uniform(0.05, 0.22), rng.uniform(0.65, 0.9))
    return np.asarray(dark * (1 - blend) + light * blend, np.float32)


def _surface(hue: float, size: int, x: float, y: float, radius: float, rng: np.random.Generator) -> Floats:
    """The colour of an object, (H, W, 3) in 0 to 1: its hue with jitter, lit from the upper left."""
    colour = _rgb(hue + rng.uniform(-9, 9), rng.uniform(0.65, 0.9), rng.uniform(0.7, 0.92))
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    light = 1 - 0.22 * ((columns - x) + (rows - y)) / radius
    return np.asarray(np.clip(colour * light[..., None], 0, 1), np.float32)


def _shape(name: str, size: int, x: float, y: float, radius: float, rng: np.random.Generator) -> Floats:
    """How much of each pixel the shape of class ``name`` covers, (H, W) in 0 to 1."""
    big = np.zeros((size * SCALE, size * SCALE), np.uint8)
    centre = (round(x * SCALE), round(y * SCALE))
    if name in ("diningtable", "bicycle"):
        cv2.circle(big, centre, round(radius * SCALE), 255, -1)
        if name == "bicycle":
            cv2.circle(big, centre, round(radius * SCALE * 0.45), 0, -1)
    else:
        cv2.fillPoly(big, [_corners(name, x, y, radius, rng)], 255)
    return np.asarray(cv2.resize(big, (size, size), interpolation=cv2.INTER_AREA) / 255, np.float32)


def _corners(name: str, x: float, y: float, radius: float, rng: np.random.Generator) -> NDArray[np.int32]:
    """The corners (N, 2) of a polygon, turned by up to 20 degrees, in pixels of the large canvas."""
    if name == "boat":
        points = [(1.15 * math.sin(a), 0.2 - 1.15 * math.cos(a)) for a in (0, 2 * math.pi / 3, 4 * math.pi / 3)]
    elif name == "tvmonitor":
        points = [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
    else:  # aeroplane: a cross, one arm's right side and end at a time
        arm = 0.36
        points = [(-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm)]
        points += [(-u, -v) for u, v in points]
    turn = math.radians(rng.uniform(-20, 20))
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    corners = (np.array(points) * radius) @ rotation + (x, y)
    return np.asarray(np.round(corners * SCALE), np.int32)


def _rgb(hue: float, saturation: float, value: float) -> Floats:
    """HSV (hue in degrees, the rest in 0 to 1) as an RGB triple in 0 to 1."""
    return np.array(hsv_to_rgb(hue / 360 % 1, saturation, value), np.float32)
