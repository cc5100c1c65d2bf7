"""What visitors send: an image or a video, looked at before it is decoded, and made no larger than a network needs."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from PIL import Image

from ean_core.demo.limits import Limits, RefusedError
from ean_core.errors import UserError
from ean_core.images import Picture, decode_image
from ean_core.inference.drawing import reduced
from ean_core.inference.video import VideoReader

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Of Pillow's; others start programs (EPS) or are not what people send."""
VIDEOS = (
    (4, b"ftyp"),  # MP4, MOV
    (0, b"\x1a\x45\xdf\xa3"),  # Matroska, WebM
    (8, b"AVI "),
    (0, b"\x00\x00\x01\xba"),  # MPEG
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),  # WMV
)
"""Where and how a video's file begins. FFmpeg would read others too, playlists among them, which name further files."""


def is_video(file: BinaryIO) -> bool:
    """Whether an upload begins as a video does."""
    file.seek(0)
    head = file.read(16)
    return any(head[start : start + len(mark)] == mark for start, mark in VIDEOS)


def read_picture(file: BinaryIO, limits: Limits) -> tuple[Picture, str]:
    """An uploaded image as RGB (H, W, 3), and a note where it was reduced.

    Raises:
        UserError, RefusedError: It is no image, or too large; the message is for the page.
    """
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as header:
                width, height = header.size
    except Image.DecompressionBombError as error:
        raise RefusedError(413, "The image has far too many pixels: send a smaller one.") from error
    except Exception as error:  # Pillow raises many types for damaged files
        raise UserError(
            f"This is no image that can be read here: send one of {', '.join(FORMATS)}; videos go to the tab Predict."
        ) from error
    if width * height > limits.pixels:
        raise RefusedError(
            413,
            f"The image has {width} x {height} pixels, more than {limits.pixels / 1e6:g} million: send a smaller one.",
        )
    return reduce(decode_image(file, "the image"), limits)


def reduce(picture: Picture, limits: Limits) -> tuple[Picture, str]:
    """A picture whose longer side is at most ``limits.side``, and a note where that is not its own."""
    smaller = reduced(picture, limits.side)
    if smaller is picture:
        return picture, ""
    (height, width), (tall, wide) = picture.shape[:2], smaller.shape[:2]
    return smaller, f"reduced from {width} x {height} to {wide} x {tall} pixels"


@contextmanager
def opened_video(file: BinaryIO, limits: Limits) -> Iterator[VideoReader]:
    """An uploaded video, as a file of the server's own name that exists within the block.

    Raises:
        UserError, RefusedError: It cannot be read, or its frames are too large.
    """
    with TemporaryDirectory(prefix="ean-demo-") as folder:
        path = Path(folder, "video")
        file.seek(0)
        with path.open("wb") as copy:
            shutil.copyfileobj(file, copy)
        try:
            reader = VideoReader(path)
            width, height = reader.size
            if width * height > limits.pixels:
                raise RefusedError(413, f"The video's frames have {width} x {height} pixels: send a smaller one.")
            yield reader
        except UserError as error:
            raise UserError(str(error).replace(f"video '{os.fspath(path)}'", "the video")) from error
