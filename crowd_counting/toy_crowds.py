"""A small generated data set in ShanghaiTech's true layout: crowds on a square, seen in perspective.

It stands in for ShanghaiTech where a run has to end in a minute. People are a head and shoulders, smaller with
distance; from none to 400 in a picture. Part A's pictures differ in size and some are grey, as the real one's.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from crowd_counting.shanghaitech import COUNTS, PARTS
from ean_core.errors import UserError
from ean_core.files import build_once

FORMAT = 1  # raise it when the drawing changes, so that cached sets are made anew
MOST = 400  # people in a scene
SHIFT = 4  # OpenCV draws at a 16th of a pixel
# Colours in RGB. Hair and skin of a head, and clothes below, which are duller than heads are dark.
HAIR = ((38, 28, 22), (60, 40, 26), (92, 62, 36), (24, 22, 24), (120, 96, 64))
SKIN = ((224, 178, 148), (196, 146, 112), (150, 104, 76), (110, 74, 54))

Floats = NDArray[np.float64]


def make_toy_crowd(
    root: str | Path,
    part: str = "B",
    train: int = 60,
    test: int = 20,
    size: tuple[int, int] = (192, 256),
    seed: int = 0,
) -> Path:
    """Make the toy data set, or find it made: a second call with the same arguments returns at once.

    Args:
        root: The folder to hold it; the set's own folder is named after the arguments.
        part: ``"A"`` or ``"B"``: the name of the part's folder. In part A sizes vary between 3/4 of ``size`` and
            ``size``, and every eighth image is grey.
        train: Images in ``train_data``, of which the readers hold a tenth out for validation.
        test: Images in ``test_data``.
        size: Height and width in pixels, each at least 64.
        seed: The images are a function of it, of ``part`` and of ``size`` alone.

    Returns:
        The data folder, which holds ``part_B_final`` (or A).

    Raises:
        UserError: An argument is out of range.
    """
    if part not in PARTS or min(size) < 64:
        raise UserError(f"need part A or B and a size of at least 64x64 pixels, not part={part!r}, size={size}")
    if not (2 <= train <= COUNTS[part, "train"] and 1 <= test <= COUNTS[part, "test"]):
        raise UserError(
            f"part {part} has 2 to {COUNTS[part, 'train']} training and 1 to {COUNTS[part, 'test']} test images, "
            f"not train={train}, test={test}"
        )
    folder = Path(root, f"crowd-{part}-{train}-{test}-{size[0]}x{size[1]}-{seed}-v{FORMAT}")
    return build_once(folder, lambda work: _write(work / f"part_{part}_final", part, train, test, size, seed))


def _write(folder: Path, part: str, train: int, test: int, size: tuple[int, int], seed: int) -> None:
    for number_of_split, (split, count) in enumerate((("train", train), ("test", test))):
        data = folder / f"{split}_data"
        (data / "images").mkdir(parents=True)
        (data / "ground_truth").mkdir()
        for number in range(1, count + 1):
            rng = np.random.default_rng([seed, PARTS.index(part), number_of_split, number])
            own_size = size
            if part == "A":
                own_size = (
                    int(rng.integers(size[0] * 3 // 4, size[0] + 1)),
                    int(rng.integers(size[1] * 3 // 4, size[1] + 1)),
                )
            pixels, points = draw_scene(own_size, _people(rng, number), rng)
            picture = Image.fromarray(pixels)
            if part == "A" and number % 8 == 0:
                picture = picture.convert("L")
            buffer = io.BytesIO()
            picture.save(buffer, format="JPEG", quality=92)
            (data / "images" / f"IMG_{number}.jpg").write_bytes(buffer.getvalue())
            (data / "ground_truth" / f"GT_IMG_{number}.mat").write_bytes(encode_mat(points))


def _people(rng: np.random.Generator, number: int) -> int:
    """How many people scene ``number`` shall have: none in every 20th, else 1 to 400, few as likely as many."""
    return 0 if number % 20 == 0 else int(np.exp(rng.uniform(np.log(4), np.log(MOST))))


def encode_mat(points: NDArray[np.floating]) -> bytes:
    """Points (N, 2) as the bytes of a .mat file with ShanghaiTech's ``image_info{1}.location`` and ``.number``."""
    inner: Any = np.empty((1, 1), dtype=[("location", object), ("number", object)])
    inner[0, 0] = (np.asarray(points, np.float64).reshape(-1, 2), np.array([[len(points)]], np.uint16))
    cell: Any = np.empty((1, 1), object)
    cell[0, 0] = inner
    buffer = io.BytesIO()
    savemat(cast(Any, buffer), {"image_info": cell}, do_compression=True)
    content = buffer.getvalue()
    return b"MATLAB 5.0 MAT-file, toy crowd".ljust(116) + content[116:]  # the header SciPy writes holds the time


def draw_scene(size: tuple[int, int], people: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Floats]:
    """Draw one scene.

    Args:
        size: Height and width in pixels.
        people: How many people; fewer when the square is full.
        rng: Where all randomness comes from.

    Returns:
        The RGB image (H, W, 3), and the heads' centres (N, 2), as x and y in pixels.
    """
    height, width = size
    horizon = rng.uniform(0.08, 0.22) * height
    nearest = rng.uniform(0.028, 0.04) * height  # radius of a head at the lower border
    canvas = _background(height, width, horizon, rng)
    heads = _places(height, width, horizon, nearest, people, rng)
    for x, y, radius in heads.tolist():
        _draw_person(canvas, x, y, radius, rng)
    noisy = canvas + rng.normal(0, 3, canvas.shape)  # of the sensor
    return np.clip(noisy + 0.5, 0, 255).astype(np.uint8), heads[:, :2]


def _places(height: int, width: int, horizon: float, nearest: float, people: int, rng: np.random.Generator) -> Floats:
    """Heads as x, y and radius, (N, 3), far ones first: gathered around a few spots, none hiding most of another."""
    placed = np.empty((people, 3))  # x, y, radius
    count = 0
    spots = rng.uniform(0, 1, (int(rng.integers(1, 5)), 2))
    for _ in range(12 * people):
        if count == people:
            break
        # Ground coordinates in [0, 1]: most are near a spot, the rest anywhere.
        spot = spots[rng.integers(len(spots))]
        across, depth = rng.normal(spot, 0.22) if rng.random() < 0.7 else rng.uniform(0, 1, 2)
        if not (0 <= across < 1 and 0 <= depth < 1):
            continue
        # On a plane a row's distance from the horizon goes with 1 / distance, and so does the size of who stands there.
        closeness = 1 / (1 + 3 * depth)
        y, radius = horizon + (height - horizon) * (closeness - 0.06), nearest * closeness
        x = across * (width - 1)
        away = np.hypot(x - placed[:count, 0], y - placed[:count, 1])
        if y < height - 1 and np.all(away >= 0.75 * (radius + placed[:count, 2])):
            placed[count] = x, y, radius * rng.uniform(0.9, 1.1)
            count += 1
    return placed[np.argsort(placed[:count, 1], kind="stable")]


def _draw_person(canvas: NDArray[np.uint8], x: float, y: float, radius: float, rng: np.random.Generator) -> None:
    """Shoulders, a head of hair, and often a face on it."""
    clothes = rng.integers(60, 220, 3)
    _ellipse(canvas, x, y + 1.9 * radius, 1.7 * radius, 1.2 * radius, clothes)
    _ellipse(canvas, x, y, 0.85 * radius, radius, HAIR[rng.integers(len(HAIR))])
    if rng.random() < 0.6:
        _ellipse(canvas, x, y + 0.25 * radius, 0.6 * radius, 0.68 * radius, SKIN[rng.integers(len(SKIN))])


def _ellipse(canvas: NDArray[np.uint8], x: float, y: float, a: float, b: float, colour: Any) -> None:
    centre = (round(x * 2**SHIFT), round(y * 2**SHIFT))
    axes = (round(a * 2**SHIFT), round(b * 2**SHIFT))
    cv2.ellipse(canvas, centre, axes, 0, 0, 360, [int(c) for c in colour], -1, cv2.LINE_AA, SHIFT)


def _background(height: int, width: int, horizon: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Sky, a row of buildings, and ground that darkens with distance and has spots of several sizes."""
    rows = np.arange(height)[:, None]
    ground = np.array(rng.uniform(120, 175) + rng.uniform(-12, 12, 3))
    light = 0.8 + 0.25 * np.clip((rows - horizon) / (height - horizon), 0, 1)
    noise = np.zeros((height, width), np.float32)
    for cells, weight in ((4, 9.0), (16, 6.0), (48, 4.0)):
        grid = rng.normal(size=(cells, cells)).astype(np.float32)
        noise += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    canvas = ground * light[..., None] + noise[..., None]
    sky = np.array(rng.uniform(180, 235) + rng.uniform(-10, 15, 3))
    canvas[: int(horizon)] = sky
    x = 0
    while x < width:
        wide, top = int(rng.integers(width // 12, width // 5)), int(horizon * rng.uniform(0.1, 0.9))
        canvas[top : int(horizon), x : x + wide] = rng.uniform(80, 160) + rng.uniform(-15, 15, 3)
        x += wide
    return np.clip(canvas, 0, 255).astype(np.uint8)
