"""A small generated data set of coloured shapes, in CIFAR-100's pickle format or as folders of PNG files.

It stands in for CIFAR and ImageNet where a run has to end in a minute: six classes, each with a shape and a hue of its
own (with jitter), on cloudy backgrounds.
"""

from __future__ import annotations

import pickle
from colorsys import hsv_to_rgb
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ean_core.errors import UserError
from ean_core.files import build_once

FORMAT = 1  # raise it when the drawing changes, so that cached sets are made anew
SIZE = 32
SCALE = 4  # shapes are drawn this much larger, then averaged down
HUES = {"cross": 205, "disc": 130, "ring": 45, "square": 280, "star": 85, "triangle": 350}  # degrees

Floats = NDArray[np.float32]


def make_toy(root: str | Path, layout: str = "cifar100", train: int = 48, test: int = 16, seed: int = 0) -> Path:
    """Make a toy data set, or find it made; several processes may do so at once.

    Args:
        root: The folder to hold it; the set's own folder is named after the arguments.
        layout: ``"cifar100"`` (pickles) or ``"folder"`` (``train/CLASS/*.png`` and ``val/CLASS/*.png``).
        train: Training images of each class.
        test: Test images of each class.
        seed: The images are a function of it.

    Returns:
        The data root of the set.

    Raises:
        UserError: An unknown layout, or no images.
    """
    if layout not in ("cifar100", "folder"):
        raise UserError(f"layout must be cifar100 or folder, got {layout!r}")
    if train < 1 or test < 1:
        raise UserError(f"need at least one image a class, got train={train}, test={test}")

    def build(folder: Path) -> None:
        write = _write_cifar if layout == "cifar100" else _write_folder
        for part, (count, first) in {"train": (train, 0), "test": (test, 1_000_000)}.items():
            labels = np.tile(np.arange(len(HUES)), count)
            images = np.stack([draw_image(int(label), seed, first + i) for i, label in enumerate(labels)])
            write(folder, part, images, labels)

    return build_once(Path(root, f"shapes-{layout}-{train}-{test}-{seed}-v{FORMAT}"), build)


def _write_cifar(root: Path, part: str, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": list(HUES)}, protocol=2))
    entry = {
        "data": images.transpose(0, 3, 1, 2).reshape(len(images), -1),
        "fine_labels": labels.tolist(),
        "filenames": [f"{list(HUES)[label]}_{i:05d}.png" for i, label in enumerate(labels)],
    }
    (folder / part).write_bytes(pickle.dumps(entry, protocol=2))


def _write_folder(root: Path, part: str, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = root / ("train" if part == "train" else "val") / list(HUES)[label] / f"{i:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def draw_image(label: int, seed: int, index: int) -> NDArray[np.uint8]:
    """One image (32, 32, 3) of a class; the same arguments give the same pixels."""
    rng = np.random.default_rng([seed, label, index])
    name = list(HUES)[label]
    grid = rng.uniform(0.2, 0.8, (4, 4, 3)).astype(np.float32)
    canvas = np.asarray(cv2.resize(grid, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC), np.float32)
    hue = (HUES[name] + rng.uniform(-15, 15)) / 360 % 1
    colour = np.array(hsv_to_rgb(hue, rng.uniform(0.5, 0.9), rng.uniform(0.6, 0.95)), np.float32)
    radius = SIZE * rng.uniform(0.24, 0.38)
    centre = rng.uniform(0.9 * radius, SIZE - 0.9 * radius, 2)
    coverage = _shape(name, centre, radius, rng.uniform(-0.35, 0.35))[..., None]
    canvas += coverage * (colour - canvas)
    canvas += rng.normal(0, 0.03, canvas.shape)
    return np.clip(canvas * 255 + 0.5, 0, 255).astype(np.uint8)


def _shape(name: str, centre: NDArray[np.float64], radius: float, turn: float) -> Floats:
    """How much of each pixel a shape covers, (32, 32) in 0..1."""
    big = np.zeros((SIZE * SCALE, SIZE * SCALE), np.uint8)
    middle = np.round(centre * SCALE).astype(int)
    if name in ("disc", "ring"):
        cv2.circle(big, middle.tolist(), round(radius * SCALE), 255, -1)
        if name == "ring":
            cv2.circle(big, middle.tolist(), round(radius * SCALE * 0.5), 0, -1)
    else:
        if name == "cross":
            arm = 0.33
            corners = [(-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm)]
            points = np.array(corners + [(-u, -v) for u, v in corners])
        else:
            number = {"triangle": 3, "square": 4, "star": 10}[name]
            angles = 2 * np.pi * np.arange(number) / number + (np.pi / 4 if name == "square" else 0)
            lengths = np.where(np.arange(number) % 2, 0.45, 1.15) if name == "star" else 1.15
            points = np.stack([np.sin(angles), -np.cos(angles)], 1) * np.reshape(lengths, (-1, 1))
        rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        polygon = np.round((points * radius) @ rotation * SCALE + middle).astype(np.int32)
        cv2.fillPoly(big, [polygon], 255)
    return np.asarray(cv2.resize(big, (SIZE, SIZE), interpolation=cv2.INTER_AREA) / 255, np.float32)
