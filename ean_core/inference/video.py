"""Videos, frame by frame: no more than one frame is ever held."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ean_core.inference.images import Picture

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")


class VideoReader:
    """The frames of a video as RGB arrays, uint8 (H, W, 3), upright.

    Args:
        path: The file.

    Attributes:
        rate: Frames a second (25 where the file does not say).
        frames: Their number as the file states it, 0 where it does not; it may be wrong.

    Raises:
        ValueError: It cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._capture = cv2.VideoCapture(self.path)
        if not self._capture.isOpened():
            raise ValueError(f"video '{self.path}' cannot be read: it is damaged, or its format is unknown to OpenCV")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else 25.0
        self.frames = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[Picture]:
        """Decode one frame after the other.

        Raises:
            ValueError: There is none.
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
            raise ValueError(f"video '{self.path}' holds no frame that can be decoded")


class VideoWriter:
    """An MP4 file (MPEG-4 part 2) that appears under its name when it is whole.

    Args:
        path: The file to write.
        rate: Frames a second.

    Raises:
        ValueError: OpenCV cannot write videos here.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self._part = path.with_name(f".{path.stem}.{os.getpid()}.part.mp4")
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def write(self, picture: Image.Image) -> None:
        """Append a frame. The first decides the size; others are fitted into it."""
        if self._writer is None:
            self._size = (picture.width // 2 * 2, picture.height // 2 * 2)  # the format knows even sizes only
            self.path.parent.mkdir(parents=True, exist_ok=True)
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(os.fspath(self._part), code, self.rate, self._size)
            if not self._writer.isOpened():
                raise ValueError(f"OpenCV cannot write the video '{self.path}' here")
        if picture.size != self._size:
            picture = _into(picture.convert("RGB"), self._size)
        self._writer.write(np.ascontiguousarray(np.asarray(picture.convert("RGB"))[:, :, ::-1]))

    def close(self, whole: bool = True) -> None:
        """Finish the file, or remove it where it is not whole."""
        if self._writer is not None:
            self._writer.release()
            if whole:
                os.replace(self._part, self.path)
        self._part.unlink(missing_ok=True)


def _into(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    if picture.width - size[0] in (0, 1) and picture.height - size[1] in (0, 1):
        return picture.crop((0, 0, *size))
    canvas = Image.new("RGB", size, "white")
    picture.thumbnail(size)
    canvas.paste(picture, (0, 0))
    return canvas
