"""Files that are never half-written, and what tells one file from another."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to: the file written there takes the place of ``path`` when the block ends.

    A reader finds the old file or the new one, never half of one. Where the block fails, or writes nothing, the old one
    stays. The folder is made if it is missing; the ending of the name is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        if part.exists():
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file whole or not at all (see :func:`replacing`)."""
    with replacing(path) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The entries of a file of JSON lines, none if it is missing, without a last line that a kill has cut off."""
    entries = []
    for line in path.read_text().splitlines(keepends=True) if path.is_file() else []:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            break
        if line.endswith("\n"):
            entries.append(entry)
    return entries


def write_json_lines(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of JSON lines whole or not at all."""
    write_atomic(path, "".join(map(_json_line, entries)))


def append_json_line(path: Path, entry: Mapping[str, Any]) -> None:
    """Add a line to a file of JSON lines; it is on the disk when this returns."""
    with path.open("a") as file:
        file.write(_json_line(entry))
        file.flush()
        os.fsync(file.fileno())


def _json_line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, allow_nan=False) + "\n"


def make_work_dir(folder: Path) -> None:
    """Make a work directory.

    Raises:
        OSError: Nothing can be written there.
    """
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(f"the work directory '{folder}' is not writable ({error.strerror}): choose --work-dir") from error


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
