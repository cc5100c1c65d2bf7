"""A run's folder: one run at a time, room on the disk, nothing left of a run that never began."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmengine.logging import MessageHub, MMLogger

from ean_core.errors import UserError
from ean_core.files import remove_parts, replacing, temporary, write_atomic
from ean_core.stopping import launched_rank

LOCK, OWNER, PROBE = ".run.lock", ".run.json", "writable"
MARGIN = 1 << 20  # bytes for logs, curves and tables
_starting: list[_Start] = []


class _Start:
    """A run that has its folder and has written nothing of its own."""

    begun = False


def begin() -> None:
    """The run begins here: what it has made stays, and so it does in the folders of the runs that it is a part of."""
    for start in _starting:
        start.begun = True


@contextmanager
def working_in(folder: Path, files: Iterable[str] = (), *, alone: bool = True) -> Iterator[None]:
    """Have a work directory for a run; it is made if it is missing.

    Where the block fails before :func:`begin` was called, the folder is left as it was. Of several processes that
    torchrun has started the first one does all this.

    Args:
        folder: The work directory.
        files: Those that the run replaces: what a process that was killed has left of them is removed.
        alone: Refuse to run while another run has the folder.

    Raises:
        UserError: Another run has it; the message says which.
        OSError: Nothing can be written there.
    """
    if launched_rank():
        yield
        return
    inside = Path(os.path.abspath(folder))
    missing = [path for path in (inside, *inside.parents) if not path.exists()]
    before = set(inside.iterdir()) if inside.is_dir() else set()
    start = _Start()
    _starting.append(start)
    try:
        _make(folder)
        if alone:
            with _locked(folder):
                remove_parts(folder, (*files, PROBE))
                yield
        else:
            yield
    except BaseException:
        if not start.begun:
            _undo(inside, before, missing)
        raise
    finally:
        _starting.remove(start)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / PROBE) as part:
            part.touch()
            part.unlink()
    except OSError as error:
        raise OSError(f"the work directory '{folder}' is not writable ({error.strerror}): choose --work-dir") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system releases when the process ends, however it ends.

    Its file is removed before it is released: a process that has opened it meanwhile finds it gone, and makes another.
    Which process holds it stands in a second file: another one that tries to take the lock may empty the lock's own.
    """
    from filelock import FileLock, Timeout  # not before there is something to run

    lock, owner = FileLock(folder / LOCK, timeout=0), folder / OWNER
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"another run has the work directory '{folder}': {_owner(owner)}; wait for it, or choose another --work-dir"
        ) from None
    try:
        with temporary(folder / LOCK), temporary(owner):
            started = time.strftime("%Y-%m-%d %H:%M:%S")
            write_atomic(owner, json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": started}))
            yield
    finally:
        lock.release()


def running_in(folder: Path) -> str | None:
    """Who has a work directory, in words; ``None`` where no run does. Nothing is locked to find out.

    A process of this machine that was killed is known to be gone; one of another machine counts as running.
    """
    with suppress(OSError, ValueError, KeyError, TypeError):
        words = json.loads((folder / OWNER).read_text())
        if words["host"] == socket.gethostname():
            os.kill(int(words["process"]), 0)  # sends nothing
        return _words(words)
    return None


def _owner(path: Path) -> str:
    with suppress(OSError, ValueError, KeyError, TypeError):
        return _words(json.loads(path.read_text()))
    return "a process that has just begun"


def _words(owner: Any) -> str:
    return f"process {owner['process']} on {owner['host']}, since {owner['since']}"


def _undo(folder: Path, before: set[Path], missing: Iterable[Path]) -> None:
    """Remove the folders of logs that a run has made, forget what MMEngine keeps by the run's name, and empty folders.

    Args:
        folder: The work directory, an absolute path.
        before: What was in it.
        missing: The work directory and those above it that were not there.
    """
    from mmengine.visualization import Visualizer

    loggers = [logger for logger in MMLogger._instance_dict.values() if isinstance(logger, MMLogger)]
    for logger, file in [(own, file) for own in loggers for file in own.handlers]:
        log = Path(file.baseFilename).parent if isinstance(file, logging.FileHandler) else folder
        if log.parent == folder and log not in before:
            logger.removeHandler(file)
            file.close()
            for kind in (MMLogger, MessageHub, Visualizer):
                kind._instance_dict.pop(logger.instance_name, None)
            shutil.rmtree(log, ignore_errors=True)
    for path in (*(set(folder.iterdir()) - before if folder.is_dir() else ()), *missing):
        with suppress(OSError):
            path.rmdir()


def require_space(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk has no room for.

    Args:
        folder: Where the run writes; it exists.
        needed: Bytes that it will write, as far as one knows.

    Raises:
        UserError: There is less.
    """
    if launched_rank():
        return  # the first of the processes writes
    free, needed = shutil.disk_usage(folder).free, needed + MARGIN
    if free < needed:
        raise UserError(
            f"the disk of '{folder}' has {_size(free)} free, and the run needs about {_size(needed)}: make room, or "
            "choose another --work-dir"
        )


def _size(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"


def set_aside(folder: Path, names: Sequence[str]) -> None:
    """Move an earlier run's files to ``previous/``, in the place of those that lie there: none is overwritten."""
    found = [folder / name for name in names if (folder / name).is_file()]
    if found:
        previous = folder / "previous"
        previous.mkdir(exist_ok=True)
        for name in names:
            (previous / name).unlink(missing_ok=True)
        for path in found:
            path.rename(previous / path.name)
