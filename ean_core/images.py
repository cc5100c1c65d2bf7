"""The one reader of images: whatever a file or an array holds, as upright 8-bit RGB.

Training, evaluation, data checks, prediction and the page in the browser all read through this module, so a network
sees one file as the same pixels wherever it meets it. ``docs/images.md`` has the table.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ean_core.errors import UserError

Picture = NDArray[np.uint8]
END_MARKERS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
ORIENTATIONS = ("upright", "stored")
EXIF_ORIENTATION = 0x0112
PNG_MARKS = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")  # where a PNG can keep an orientation


class Header(NamedTuple):
    """What an image file says of itself before its pixels.

    Attributes:
        size: Width and height in pixels, upright.
        stored: Width and height as stored.
        orientation: EXIF's, 1 to 8; 1: stored upright.
        mode: Pillow's name of the kind of pixels, such as ``"RGB"``.
    """

    size: tuple[int, int]
    stored: tuple[int, int]
    orientation: int
    mode: str


def read_image(path: str | os.PathLike[str]) -> Picture:
    """Decode an image file; see :func:`decode_image`.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: It cannot be decoded.
    """
    with _opened(path) as file:
        return decode_image(file, _name(path))


def read_header(path: str | os.PathLike[str]) -> Header:
    """What an image file says of itself, without decoding its pixels.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: It is no image, or larger than Pillow dares to decode.
    """
    with _opened(path) as file, _decoding(_name(path)), Image.open(file) as image:
        return header_of(image)


def header_of(image: Image.Image) -> Header:
    """The header of an image that Pillow has opened."""
    width, height = image.size
    orientation = _orientation(image)
    size = (height, width) if orientation >= 5 else (width, height)
    return Header(size, stored=(width, height), orientation=orientation, mode=image.mode)


def decode_image(file: BinaryIO, name: str) -> Picture:
    """Decode an open image file; see :func:`to_rgb`. Of an animation the first frame.

    Args:
        file: Open for reading.
        name: For messages, such as ``"image 'photo.jpg'"``.

    Returns:
        RGB, uint8 (H, W, 3).

    Raises:
        UserError: It cannot be decoded: truncated, no image, or larger than Pillow dares to decode.
    """
    with _decoding(name):
        file.seek(0)
        with Image.open(file) as image:
            if image.format != "PNG":
                image.load()
                return to_rgb(image)
            image.verify()  # decoding ends with the last pixel, before the check sums
        file.seek(0)
        with Image.open(file) as image:
            image.load()
            return to_rgb(image)


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels as they are stored, (H, W) or (H, W, C), in the view that an EXIF orientation asks for."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels


def upright_points(points: NDArray[np.float64], header: Header) -> NDArray[np.float64]:
    """Points (N, 2), x and y in pixels of an image as it is stored, moved to its upright view.

    A point goes where its pixel goes. Pixel p is p <= x < p + 1; mirrored, that is half-open at the other end: hence
    the least step down, of float32, which points become later.
    """
    moved = points[:, ::-1].copy() if header.orientation >= 5 else points.copy()
    for axis, mirrored in ((0, (2, 3, 6, 7)), (1, (3, 4, 7, 8))):
        if header.orientation in mirrored:
            mirror = (header.size[axis] - moved[:, axis]).astype(np.float32)
            moved[:, axis] = np.nextafter(mirror, np.float32(-np.inf))
    return moved


def to_rgb(image: Image.Image | NDArray[Any]) -> Picture:
    """An image as networks see it: upright, RGB, 8 bits.

    The EXIF orientation is applied. Transparency is laid over white. Grey values are repeated. 16-bit values are
    divided by 257, so that the full range 0..65535 becomes 0..255; nothing is stretched. CMYK, palette, YCbCr and LAB
    images are converted by Pillow, without colour management.

    Args:
        image: A PIL image; or an array of uint8, uint16 or bool, (H, W), (H, W, 1), (H, W, 3) in the order RGB, or
            (H, W, 4) RGBA.

    Returns:
        RGB, uint8 (H, W, 3), a copy.

    Raises:
        UserError: An array of another type or shape, an image without pixels, or of floating-point values.
    """
    if isinstance(image, Image.Image):
        return _of_pil(image)
    return _of_array(np.asarray(image))


def _of_pil(image: Image.Image) -> Picture:
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise UserError("floating-point images have no defined white: save it with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;"):
        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise UserError("its values lie outside 0..65535: save it with 8 or 16 bits")
        return _of_array(values.astype(np.uint16))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        image = Image.alpha_composite(paper, layer)
    return np.array(image.convert("RGB"))


def _of_array(array: NDArray[Any]) -> Picture:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        raise UserError(f"an image array has the shape (H, W), (H, W, 3) or (H, W, 4), not {array.shape}")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16:
        array = np.round(array / 257)
    elif array.dtype != np.uint8:
        raise UserError(f"an image array holds uint8 (0..255) or uint16 (0..65535), not {array.dtype}: convert it")
    array = array.astype(np.uint8)
    if array.ndim == 2:
        return np.repeat(array[:, :, None], 3, axis=2)
    if array.shape[2] == 4:
        return _of_pil(Image.fromarray(np.ascontiguousarray(array)))
    return array


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; Pillow would decode a whole PNG to learn that it has none."""
    file = getattr(image, "fp", None)
    if image.format == "PNG" and file is not None:
        place = file.tell()
        file.seek(0)
        content = file.read()
        file.seek(place)
        if not any(mark in content for mark in PNG_MARKS):
            return 1
    value = image.getexif().get(EXIF_ORIENTATION, 1)
    return value if value in range(1, 9) else 1


def _name(path: str | os.PathLike[str]) -> str:
    return f"image '{os.fspath(path)}'"


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{_name(path)} does not exist")
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"{_name(path)} cannot be read: {_reason(error)}") from error
    with file:
        yield file


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Make one line of what Pillow raises for an image."""
    try:
        with _quiet:
            yield
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} is too large: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises many types for damaged files
        raise UserError(f"{name} cannot be read: {_reason(error)}") from error


class _Quiet:
    """No warnings of odd metadata while any thread is within; what cannot be decoded raises.

    Python's own ``catch_warnings`` would leave the filters of another thread behind where two of them overlap.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._caught = threading.Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._caught.__exit__(None, None, None)


_quiet = _Quiet()


def _reason(error: Exception) -> str:
    if isinstance(error, ValueError):
        return str(error)
    if "truncated" in str(error).lower():
        return "it is truncated"
    if isinstance(error, PermissionError):
        return "no permission"
    return "it is no image, or damaged"


def is_whole(file: BinaryIO, header: Image.Image) -> bool:
    """Whether an open image file reaches its end; decodes only where the last bytes do not tell.

    Args:
        file: Open for reading; it is left at another position.
        header: What Pillow made of it, e.g. without its pixels.
    """
    marker = END_MARKERS.get(header.format or "")
    file.seek(max(0, file.seek(0, os.SEEK_END) - 32))
    if marker and marker in file.read():
        return True
    # Cut off, or whole with something appended. A decoder would take zeros in place of the end for grey picture.
    file.seek(0)
    data = file.read()
    try:
        with Image.open(io.BytesIO(data.rstrip(b"\0") if marker else data)) as image:
            image.load()
    except (OSError, SyntaxError):
        return False
    return True
