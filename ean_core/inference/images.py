"""Whatever an image file or an array holds, as upright 8-bit RGB."""

from __future__ import annotations

import io
import os
import warnings
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ean_core.errors import UserError

Picture = NDArray[np.uint8]
END_MARKERS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")


def read_image(path: str | os.PathLike[str]) -> Picture:
    """Decode an image file; see :func:`decode_image`.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: It cannot be decoded.
    """
    name = f"image '{os.fspath(path)}'"
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{name} does not exist")
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"{name} cannot be read: {_reason(error)}") from error
    with file:
        return decode_image(file, name)


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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata; what cannot be decoded raises
            file.seek(0)
            with Image.open(file) as image:
                if image.format == "PNG":  # decoding ends with the last pixel, before the check sums
                    image.verify()
            file.seek(0)
            with Image.open(file) as image:
                image.load()
                return to_rgb(image)
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} is too large: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises many types for damaged files
        raise UserError(f"{name} cannot be read: {_reason(error)}") from error


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
