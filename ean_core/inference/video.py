"""Videos, frame by frame: no more than one frame is ever held."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read once: FFmpeg writes to the terminal from C

import cv2
import numpy as np
from PIL import Image

from ean_core.errors import UserError
from ean_core.files import replacing
from ean_core.images import Picture

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")


class VideoReader:
    """The frames of a video as RGB arrays, uint8 (H, W, 3), upright.

    Args:
        path: The file.

    Attributes:
        rate: Frames a second (25 where the file does not say).
        frames: Their number as the file states it, 0 where it does not; it may be wrong.
        size: Width and height of a frame in pixels, as the file states it.

    Raises:
        UserError: It cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._capture = _open(self.path)
        if not self._capture.isOpened():
            raise UserError(f"video '{self.path}' cannot be read: it is damaged, or its format is unknown to OpenCV")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else 25.0
        self.frames = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        self.size = (int(self._capture.get(sides[0])), int(self._capture.get(sides[1])))

    def __iter__(self) -> Iterator[Picture]:
        """Decode one frame after the other.

        Raises:
            UserError: There is none.
        """
        count = 0
        while True:
            there, frame = self._capture.read()
            if not there:
                break
            count += 1
            yield np.ascontiguousarray(frame[:, :, ::-1]).astype(np.uint8, copy=False)
        self._capture.release()
        if not count:
            raise UserError(f"video '{self.path}' holds no frame that can be decoded")


@contextmanager
def writing(path: Path, rate: float, codec: str = "mp4v") -> Iterator[Callable[[Image.Image], None]]:
    """A function that appends a frame to an MP4 file, which appears under its name when it is whole.

    The first frame decides the size; others are fitted into it.

    Args:
        path: The file to write.
        rate: Frames a second.
        codec: ``"mp4v"``, MPEG-4 part 2; or ``"vp09"``, VP9, which browsers play, and which takes far longer to write.

    Raises:
        UserError: OpenCV cannot write videos here.
    """
    with replacing(path) as part:
        writer: cv2.VideoWriter | None = None
        size, count = (0, 0), 0

        def write(picture: Image.Image) -> None:
            nonlocal writer, size, count
            if writer is None:
                size = (picture.width // 2 * 2, picture.height // 2 * 2)  # the format knows even sizes only
                writer = cv2.VideoWriter(os.fspath(part), cv2.VideoWriter.fourcc(*codec), rate, size)
                if not writer.isOpened():
                    raise UserError(f"OpenCV cannot write the video '{path}' here")
            if picture.size != size:
                picture = _into(picture.convert("RGB"), size)
            writer.write(np.ascontiguousarray(np.asarray(picture.convert("RGB"))[:, :, ::-1]))
            count += 1

        try:
            yield write
        finally:
            if writer is not None:
                writer.release()
        if count and _frames(part) != count:  # OpenCV does not say that the disk is full
            raise RuntimeError(f"the video '{path}' was not written to its end")


def _open(path: str) -> cv2.VideoCapture:
    """A video as OpenCV opens it, without the lines that it writes to the terminal about one that it cannot read."""
    logging = cv2.utils.logging
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(path)
    finally:
        logging.setLogLevel(level)


def _frames(path: Path) -> int:
    """The number of frames that a file states, 0 where it cannot be read."""
    capture = _open(os.fspath(path))
    number = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    return number


def _into(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    if picture.width - size[0] in (0, 1) and picture.height - size[1] in (0, 1):
        return picture.crop((0, 0, *size))
    canvas = Image.new("RGB", size, "white")
    picture.thumbnail(size)
    canvas.paste(picture, (0, 0))
    return canvas
