"""Files that are never half-written, and what tells one file from another."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write ``data`` beside ``path``, then rename: a reader finds the old file or the new one, never half of one.

    The folder is made if it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data.encode() if isinstance(data, str) else data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def set_aside(folder: Path, names: Iterable[str]) -> None:
    """Move an earlier run's files to ``previous/``, whose content they replace, so that none is overwritten."""
    found = [folder / name for name in names if (folder / name).is_file()]
    if found:
        previous = folder / "previous"
        shutil.rmtree(previous, ignore_errors=True)
        previous.mkdir()
        for path in found:
            path.rename(previous / path.name)


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """Make a folder by ``build(folder)``, or find it made; several processes may do so at once.

    Each builds beside ``target`` and moves the result into place; who comes second drops its own. ``target``'s name
    should say all that its content depends on.
    """
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=target.parent) as work:
        made = Path(work, "made")
        made.mkdir()
        build(made)
        try:
            os.rename(made, target)
        except OSError:
            if not target.is_dir():  # otherwise another process was faster, with the same content
                raise
    return target


def file_digest(path: Path) -> str:
    """The first 16 hexadecimal digits of a file's SHA-256."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()[:16]
