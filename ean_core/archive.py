"""The file of a checkpoint, which may be a stranger's or damaged: what is compared before torch reads it, and after.

Before anything in it is built, a zip archive is compared with its own directory and checksums; afterwards the tensors
are compared with the size of the file.
"""

from __future__ import annotations

import math
import pickletools
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO

import torch

DIRECTORY = 16 << 20  # bytes of a zip's directory; torch writes about 100 an entry
GROWTH = 10  # the tensors of a checkpoint take as many bytes as the file; where they share memory, some times as many
DEPTH = 100  # of dicts and lists in each other; MMEngine's runner writes about ten
ITEMS = 1_000_000  # of a tuple with all the tuples in it
PIECE = 1 << 22
FOLDER = 0x10  # a bit of a zip entry's attributes
END = 56, 20, 22  # bytes of the records behind a zip's directory: zip64's end, the pointer to it, and the usual end


class Damaged(Exception):
    """What is wrong with a file, in words."""


class Unusable(Damaged):
    """Why a whole file is not loaded, in words."""


def check_archive(path: Path) -> None:
    """Compare a zip archive with its directory and its checksums; a file of another kind passes.

    torch stores its records as they are, one behind the other, and reads them without a look at the checksums.

    Raises:
        Damaged: It is compressed, claims more than there is, or its bytes do not fit their checksums.
        zipfile.BadZipFile: It has no directory.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != b"PK\3\4":  # how torch tells its two formats apart
            file.seek(0)
            for _ in range(4):  # the old format: a number, a version, the system, and the content
                _check_tuples(file)
            return
        length = _directory_length(file, size)
        if length > DIRECTORY:
            raise Damaged(f"the directory of its zip archive takes {length >> 20} MB")
        with zipfile.ZipFile(file) as archive:
            entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
            if len({entry.filename for entry in entries}) < len(entries):
                raise Damaged("its zip archive has two entries of one name")
            if any("/code/" in entry.filename for entry in entries):
                raise Unusable("it is a TorchScript archive, and not a state dict")
            stops = [entry.header_offset for entry in entries[1:]] + [size - length]
            for entry, stop in zip(entries, stops, strict=True):
                if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
                    raise Damaged(f"its entry {entry.filename[:80]!r} is compressed, which torch's are not")
                if entry.external_attr & FOLDER:  # whose bytes torch's reader leaves out
                    raise Damaged(f"its entry {entry.filename[:80]!r} is marked as a folder")
                if entry.header_offset + entry.file_size > stop:
                    raise Damaged(f"its entry {entry.filename[:80]!r} claims more bytes than there are")
            for entry in entries:
                _check_entry(archive, entry)
                if entry.filename.endswith("/data.pkl"):
                    with archive.open(entry) as content:
                        _check_tuples(content)


def _directory_length(file: BinaryIO, size: int) -> int:
    """The bytes of a zip's directory, which has to end where the file's last record begins.

    Raises:
        zipfile.BadZipFile: The file does not end like a zip archive without a comment.
    """
    file.seek(max(0, size - sum(END)))
    tail = file.read()
    last = tail[-END[2] :]
    if last[:4] != b"PK\5\6" or last[-2:] != b"\0\0":
        raise zipfile.BadZipFile("no end of a directory")
    length, start = struct.unpack("<II", last[12:20])
    stop = size - END[2]
    if tail[-sum(END[1:]) :][:4] == b"PK\6\7":  # zip64
        length, start = struct.unpack("<QQ", tail[40 : END[0]])
        stop = size - sum(END)
    if start + length != stop:
        raise Damaged("the directory of its zip archive lies elsewhere than its end says")
    return int(length)


def _check_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Read an entry to its end, where ``zipfile`` compares the checksum."""
    try:
        with archive.open(entry) as file:
            while file.read(PIECE):
                pass
    except (zipfile.BadZipFile, EOFError) as error:
        raise Damaged(f"the bytes of its entry {entry.filename[:80]!r} do not fit their checksum") from error


def _check_tuples(file: IO[bytes]) -> None:
    """Bound the tuples of a pickle: as a key of a dict one is hashed, which has no bound of its own in Python.

    Follows the pickle's stack, of which it keeps the depth and the size of each tuple. What is no pickle passes.
    """
    stack: list[tuple[int, int]] = []
    marks: list[int] = []
    memo: dict[Any, tuple[int, int]] = {}
    try:
        for code, argument, _ in pickletools.genops(file):
            if code.name == "MARK":
                marks.append(len(stack))
            elif code.name in ("BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            elif code.name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            else:
                marked = pickletools.markobject in code.stack_before
                taken = code.stack_before.index(pickletools.markobject) if marked else len(code.stack_before)
                start = (marks.pop() if marked else len(stack)) - taken
                items = stack[start:]
                del stack[start:]
                made = (0, 1)
                if code.name.startswith("TUPLE"):
                    made = (1 + max((depth for depth, _ in items), default=0), 1 + sum(size for _, size in items))
                    if made[0] > DEPTH or made[1] > ITEMS:
                        raise Damaged(f"its tuples lie in each other more than {DEPTH} deep, or hold too much")
                stack += [made] * len(code.stack_after)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return


def check_content(content: Any, size: int) -> None:
    """Compare the tensors in a checkpoint with the size of its file, and bound how deep its dicts and lists lie.

    A view of one stored number can claim any shape, and a copy of it any memory.

    Raises:
        Unusable: They take many times as much, or dicts and lists lie too deep.
    """
    level, seen, total = {id(content): content}, set[int](), 0
    for _ in range(DEPTH):
        seen |= level.keys()
        for tensor in (value for value in level.values() if isinstance(value, torch.Tensor)):
            total += tensor.element_size() * math.prod(tensor.shape)
        if total > GROWTH * size:
            raise Unusable(f"its tensors would take {total >> 10} KB, and the file has {size >> 10} KB")
        level = {id(inner): inner for value in level.values() for inner in _inside(value) if id(inner) not in seen}
        if not level:
            return
    raise Unusable(f"its dicts and lists lie in each other more than {DEPTH} deep")


def _inside(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple | set) else []
