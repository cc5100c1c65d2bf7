"""Looking at every file of a data set before a training starts, and reporting what is wrong with them."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ean_core.errors import UserError
from ean_core.stopping import launched_rank, stop_if_asked
from ean_core.terminal import ProgressLines

SHOWN = 10
INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"  # such as the mark of byte order, which joined files have inside
COMPRESSED = 15  # miCOMPRESSED, the type of an element of a .mat file
T = TypeVar("T")


def read_names(path: Path) -> list[str]:
    """The names in a list, one a line, without empty lines and the space and invisible marks around names.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: It is no text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors on Windows begin a file with a mark
    except UnicodeDecodeError as error:
        raise UserError(f"'{path}' is no text in UTF-8 (byte {error.start} is none): save it as such") from error
    lines = (line.strip().strip(INVISIBLE).strip() for line in text.splitlines())
    return [line for line in lines if line]


def require_whole_mat(path: Path) -> None:
    """Compare the compressed values of a .mat file with their check sums, which SciPy does not reach.

    Raises:
        ValueError: A check sum is wrong, or the file is cut off. Files of other versions than 5 have none to compare.
    """
    data = path.read_bytes()
    order, at = ("<" if data[126:128] == b"IM" else ">"), 128
    while data[126:128] in (b"IM", b"MI") and at < len(data):
        if len(data) < at + 8:
            raise ValueError("it is cut off")
        kind, size = struct.unpack(f"{order}II", data[at : at + 8])
        if kind == COMPRESSED:
            try:
                zlib.decompress(data[at + 8 : at + 8 + size])
            except zlib.error as error:
                raise ValueError(f"its check sum is wrong ({error})") from error
        at += 8 + size


def find_problems(items: Iterable[T], look: Callable[[T], Iterable[str]]) -> list[str]:
    """What is wrong with some items, in their order; several are looked at at once, in threads.

    Output that is no terminal gets a line now and then.

    Args:
        items: For example paths.
        look: An item -> a sentence for each of its problems. What it raises is raised here.
    """

    def problems(item: T) -> list[str]:
        stop_if_asked()
        return list(look(item))

    # Pillow lets go of the interpreter lock while it decodes. More threads than cores hide slow disks.
    items = list(items)
    lines = ProgressLines("files looked at:", total=len(items), slower=1.5)
    every: list[str] = []
    with ThreadPoolExecutor(max_workers=min(8, 2 * (os.cpu_count() or 1))) as pool:
        for number, found in enumerate(pool.map(problems, items), 1):
            every += found
            if not launched_rank():  # the others look at the same files
                lines.update(number)
    return every


def print_notes(notes: Sequence[str]) -> None:
    """Print what is worth knowing of data that can be used, the first ten lines of it; in one process of several."""
    if launched_rank():
        return
    for note in notes[:SHOWN]:
        print(f"note        {note}", flush=True)
    if len(notes) > SHOWN:
        print(f"note        ... and {len(notes) - SHOWN:,} more")


def turned_note(names: Sequence[str], total: int, what: str, orientation: str) -> list[str]:
    """A note on images whose EXIF tag turns them, none where there is no such image.

    Args:
        names: Of those images.
        total: Number of all images.
        what: The annotations, as ``"points"``.
        orientation: How they are understood.
    """
    if not names:
        return []
    view = "people see the picture" if orientation == "upright" else "the file has its pixels"
    other = "stored" if orientation == "upright" else "upright"
    return [
        f"an EXIF tag turns {len(names):,} of {total:,} images, first '{names[0]}'; their {what} are understood as "
        f"made where {view} (orientation={orientation}); if not: orientation={other}"
    ]


def unreadable(error: Exception) -> str:
    """Why an image cannot be read, in a few words for a line of the report.

    Args:
        error: What Pillow raised: one of many types, of which few say more than their name; or what the reader of
            images made of that.
    """
    while isinstance(error, UserError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, PermissionError):
        return "no permission"
    if isinstance(error, SyntaxError):  # a wrong check sum, or a chunk that makes no sense
        return f"damaged: {error}"
    if type(error).__name__ == "DecompressionBombError":  # Pillow's own limit, far above any photo
        return f"too large: {str(error).split(', could be')[0]}"
    return type(error).__name__


def report_problems(problems: Sequence[str], where: str, advice: str) -> None:
    """Report problems; without any, do nothing.

    Args:
        problems: One sentence each.
        where: Where they are, after "3 problems": ``"with the 20 images of data"``.
        advice: What to do, before "and run again".

    Raises:
        UserError: There are problems. The first line says how many, where, and what to do; the first ten follow, one a
            line.
    """
    if not problems:
        return
    lines = [f"{len(problems):,} problem{'s' * (len(problems) > 1)} {where}; {advice}, and run again:"]
    lines += [f"  {problem}" for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"  ... and {len(problems) - SHOWN:,} more")
    raise UserError("\n".join(lines))
