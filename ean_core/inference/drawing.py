"""Text and pictures at sizes that people can read."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ean_core.files import write_atomic

SMALL, LARGE = 240, 1024


def fit(picture: Image.Image, small: int = SMALL, large: int = LARGE) -> Image.Image:
    """A picture to look at: small ones enlarged by a whole factor, pixel by pixel, large ones reduced.

    Args:
        picture: Any size.
        small: The shorter side becomes at least this, unless the longer one would then pass ``large``.
        large: The longer side becomes at most this.
    """
    longer, shorter = max(picture.size), min(picture.size)
    if longer > large:
        size = [max(1, round(side * large / longer)) for side in picture.size]
        return picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    factor = max(1, min(-(-small // shorter), large // longer))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def reduced(image: NDArray[np.uint8], longest: int | None) -> NDArray[np.uint8]:
    """An image (H, W, 3) whose longer side has at most ``longest`` pixels; ``None``: as it is."""
    height, width = image.shape[:2]
    if longest is None or max(height, width) <= longest:
        return image
    scale = longest / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def picture_name(path: str | os.PathLike[str], ending: str = ".png") -> str:
    """What the picture of a file is called: the file's whole name, and an ending behind it.

    So ``a.jpg`` and ``a.jpeg`` have different pictures.
    """
    return f"{Path(path).name}{ending}"


def shorten(text: str, width: float, font: Any) -> str:
    """A text that is at most ``width`` pixels wide; what does not fit is replaced by an ellipsis."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def stack(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures one below the other."""
    canvas = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), "white")
    y = 0
    for picture in pictures:
        canvas.paste(picture, (0, y))
        y += picture.height
    return canvas


def save_png(picture: Image.Image, path: Path) -> None:
    """Write a PNG whole."""
    write_atomic(path, to_png(picture))


def to_png(picture: Image.Image) -> bytes:
    """A picture as a PNG."""
    png = io.BytesIO()
    picture.save(png, "png")
    return png.getvalue()
