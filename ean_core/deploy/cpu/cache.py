"""Compiled code on the disk, where nobody else can put anything in its place, and as it was when it was built.

A file is kept under a name with its own SHA-256 in it, ``STEM-DIGEST.so``: so the two are there together or not at all,
and a file that was cut off or changed is not taken for what was built.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def cache_folder() -> Path:
    """The folder ``ean`` in ``$XDG_CACHE_HOME``, by default in ``~/.cache``, without links; made if it is missing.

    An empty or relative variable counts as unset, as the XDG base directory specification has it.

    Raises:
        OSError: It cannot be made.
        RuntimeError: There is no home.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    folder = Path(given if given.is_absolute() else Path.home() / ".cache", "ean")
    if not folder.is_absolute():
        raise FileNotFoundError(f"the home '{Path.home()}' is not an absolute path (set XDG_CACHE_HOME)")
    try:
        for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
            missing.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot make '{folder}' ({error.strerror}; set XDG_CACHE_HOME to a folder of yours)") from error
    return folder.resolve(strict=True)


def is_private(folder: Path) -> bool:
    """Whether nobody but this user and root can change what lies in a folder.

    It belongs to this user, and only this user writes to it. Every folder above it belongs to this user or to root, and
    others do not write to it either, unless it is sticky: in one like ``/tmp`` they cannot rename what is not theirs.

    Args:
        folder: An absolute path without links.
    """
    user = os.geteuid()
    for place in (folder, *folder.parents):
        found = place.lstat()
        sticky = place != folder and found.st_mode & stat.S_ISVTX
        if found.st_uid != user and (place == folder or found.st_uid != 0):
            return False
        if found.st_mode & WRITABLE_BY_OTHERS and not sticky:
            return False
    return True


def find(folder: Path, stem: str) -> Path | None:
    """The file ``STEM-DIGEST.so`` of a private folder: a regular one of this user, with the content that was built."""
    return next((path for path in sorted(folder.glob(f"{stem}-*.so")) if _is_intact(path, stem)), None)


def build(folder: Path, stem: str, make: Callable[[Path], None]) -> Path:
    """Make a file by ``make(path)`` and keep it as ``STEM-DIGEST.so``; several processes may do so at once.

    Args:
        folder: A private folder.
        stem: It should say all that the content depends on.
        make: What writes to the path that it is given.
    """
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as work:
        made = Path(work, "made.so")
        make(made)
        made.chmod(0o700)
        kept = folder / _name(stem, made)
        os.replace(made, kept)
    return kept


def _is_intact(path: Path, stem: str) -> bool:
    try:
        found = path.lstat()
        ours = found.st_uid == os.geteuid() and not found.st_mode & WRITABLE_BY_OTHERS
        return stat.S_ISREG(found.st_mode) and ours and path.name == _name(stem, path)
    except OSError:  # it cannot be read
        return False


def _name(stem: str, path: Path) -> str:
    return f"{stem}-{sha256(path.read_bytes()).hexdigest()}.so"
