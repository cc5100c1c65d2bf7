"""Files that a reader must refuse: damaged, larger than memory, not readable by this user."""

import contextlib
import ctypes
import io
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

SIDE = 60_000  # of the images that `bomb` claims: 10 GB as RGB
READ_ANYTHING = 1 << 1 | 1 << 2  # Linux's CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


def bomb(kind: str) -> bytes:
    """A small file whose header claims an image of 60,000 x 60,000 pixels; ``kind``: PNG, JPEG or TIFF."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, kind)
    data = bytearray(file.getvalue())
    if kind == "PNG":
        data[16:24] = struct.pack(">II", SIDE, SIDE)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif kind == "JPEG":
        frame = data.index(b"\xff\xc0")
        data[frame + 5 : frame + 9] = struct.pack(">HH", SIDE, SIDE)
    else:
        (directory,) = struct.unpack_from("<I", data, 4)
        (entries,) = struct.unpack_from("<H", data, directory)
        for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
            if struct.unpack_from("<H", data, entry)[0] in (256, 257):  # width and height
                struct.pack_into("<HII", data, entry + 2, 4, 1, SIDE)
    return bytes(data)


def with_wrong_check_sum(png: bytes) -> bytes:
    """A PNG whose pixels are not those that its check sum was taken of."""
    data = bytearray(png)
    start = data.index(b"IDAT")
    (length,) = struct.unpack_from(">I", data, start - 4)
    data[start + 4 + length] ^= 0xFF
    return bytes(data)


def make_unreadable(path: Path) -> Path:
    """Take everybody's right to read a file; see :func:`bound_by_permissions`."""
    path.chmod(0)
    return path


@contextlib.contextmanager
def bound_by_permissions() -> Iterator[None]:
    """Read as any user does: root, as which tests may run, is asked for no permission otherwise.

    On Linux a thread can lay down that right, and the threads that it starts then do not have it either.
    """
    if sys.platform != "linux":
        yield
        return
    libc = ctypes.CDLL(None)
    header, rights = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, rights):
        pytest.skip("the rights of this process cannot be told")
    before, rights[0] = rights[0], rights[0] & ~READ_ANYTHING
    libc.capset(header, rights)
    try:
        yield
    finally:
        rights[0] = before
        libc.capset(header, rights)
