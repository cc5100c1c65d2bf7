"""Files that are never half-written."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ean_core.errors import UserError, first_line

_temporary: set[Path] = set()


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """Remove a file or a folder when the block ends, and also where :func:`remove_temporary` ends the process."""
    _temporary.add(path)
    try:
        yield path
    finally:
        _remove(path)
        _temporary.discard(path)


def remove_temporary() -> None:
    """Remove what blocks of :func:`temporary` would, for a process that ends without leaving them."""
    for path in list(_temporary):
        with suppress(OSError):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put a path into an ``OSError`` that names none, as that of a write to a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to: the file written there takes the place of ``path`` when the block ends.

    A reader finds the old file or the new one, never half of one. Where the block fails, or writes nothing, the old one
    stays. The folder is made if it is missing; the ending of the name is kept.

    Raises:
        OSError: It cannot be written, e.g. because the disk is full; the error names ``path``.
    """
    with temporary(path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")) as part, naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
        except RuntimeError as error:  # what torch.save makes of an OSError
            reason = _why_not_written(part)
            if reason is None:
                raise
            raise OSError(reason.errno, reason.strerror) from error
        if part.exists():
            os.replace(part, path)


def _why_not_written(part: Path) -> OSError | None:
    """What stops a file that was not written to its end: try to write more to it."""
    try:
        if part.exists():
            with part.open("ab") as file:
                file.write(bytes(1 << 20))
                file.flush()
    except OSError as error:
        return error
    return None


def remove_parts(folder: Path, names: Iterable[str]) -> None:
    """Remove what :func:`replacing` has left of these files in a process that was killed; no other may write them."""
    for name in map(Path, names):
        for part in folder.glob(f".{name.stem}.[0-9]*.part{name.suffix}"):
            part.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file whole or not at all (see :func:`replacing`)."""
    with replacing(path) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: It is not JSON, or nested too deeply; the message names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"'{path}' does not exist")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"'{path}' is not a JSON file: it is no text in UTF-8") from error
    except json.JSONDecodeError as error:
        raise UserError(f"'{path}' is not a JSON file: {error.msg} in line {error.lineno}") from error
    except ValueError as error:  # a number with thousands of digits
        raise UserError(f"'{path}' cannot be read: {first_line(str(error))}") from error
    except RecursionError as error:
        raise UserError(f"'{path}' cannot be read: its JSON is nested too deeply") from error


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The entries of a file of JSON lines, none if it is missing, without a last line that a kill has cut off.

    Raises:
        UserError: It is no text, or a line is no JSON object; the message names the file and the line.
    """
    try:
        lines = path.read_bytes().decode().split("\n") if path.is_file() else [""]
    except UnicodeDecodeError as error:
        raise UserError(f"'{path}' is not a file of JSON lines: it is no text in UTF-8") from error
    entries = []
    for number, line in enumerate(lines[:-1], 1):  # the last one is empty, or cut off
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"line {number} of '{path}' is not JSON, or nested too deeply") from error
        if not isinstance(entry, dict):
            raise UserError(f"line {number} of '{path}' is not a JSON object")
        entries.append(entry)
    return entries


def write_json_lines(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of JSON lines whole or not at all."""
    write_atomic(path, "".join(map(_json_line, entries)))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV file whole or not at all; see :func:`csv_text`."""
    write_atomic(path, csv_text(columns, rows))


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A CSV file's text, with a line of headers; what a row lacks is left empty."""
    lines = [csv_line(columns, dict(zip(columns, columns, strict=True))), *(csv_line(columns, row) for row in rows)]
    return "".join(lines)


def csv_line(columns: Sequence[str], row: Mapping[str, Any]) -> str:
    """A row of a CSV file, with its line break; what it lacks is left empty.

    What UTF-8 has no form for, as bytes in a file's name that are no text, is written as ``\\udcff``.

    Raises:
        ValueError: It has what is no column.
    """
    text = io.StringIO()
    csv.DictWriter(text, columns, lineterminator="\n").writerow(row)
    return text.getvalue().encode(errors="backslashreplace").decode()


def append_json_line(path: Path, entry: Mapping[str, Any]) -> None:
    """Add a line to a file of JSON lines; it is on the disk when this returns (see :func:`append_line`)."""
    append_line(path, _json_line(entry))


def append_line(path: Path, line: str, sync: bool = True) -> None:
    """Add a line to a text file, whole or not at all.

    Args:
        path: The file; it is made if it is missing.
        line: With its line break.
        sync: Wait until it is on the disk.

    Raises:
        OSError: It cannot be written; the error names the file, which has the lines that it had.
    """
    with naming(path), path.open("ab", buffering=0) as file:
        size, rest = file.seek(0, os.SEEK_END), line.encode()
        try:
            while rest:
                rest = rest[file.write(rest) :]
            if sync:
                os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):
                file.truncate(size)
            raise


def _json_line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, allow_nan=False) + "\n"


def written(path: Path) -> tuple[int, int] | None:
    """What changes when a file is replaced; ``None`` where there is none."""
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.is_file() else None


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """Make a folder by ``build(folder)``, or find it made; several processes may do so at once.

    Each builds beside ``target`` and moves the result into place; who comes second drops its own. ``target``'s name
    should say all that its content depends on.
    """
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with naming(target), temporary(Path(tempfile.mkdtemp(prefix=".", dir=target.parent))) as work:
        made = work / "made"
        made.mkdir()
        build(made)
        try:
            os.rename(made, target)
        except OSError:
            if not target.is_dir():  # otherwise another process was faster, with the same content
                raise
    return target
