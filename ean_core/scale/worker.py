"""A process of the local engine: it takes tasks from a pipe until the pipe is closed.

The engine runs this file by its path. It imports the standard library only, so that it starts in no time: what a task
needs is imported by the task.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any

STOPPED = 128 + signal.SIGTERM
Task = tuple[str, Mapping[str, Any]]


def call(function: str, arguments: Mapping[str, Any]) -> tuple[Any, str]:
    """Call ``"package.module:name"``: what it returns, and "" or why it failed in one line."""
    try:
        module, _, name = function.partition(":")
        return getattr(import_module(module), name)(**arguments), ""
    except SystemExit as stop:  # what a command-line tool does
        if stop.code == STOPPED:
            raise
        return None, f"it ended with exit status {stop.code}"
    except Exception as error:
        return None, reason(error)


def call_there(
    function: str, arguments: Mapping[str, Any], path: list[str], folder: str, environment: Mapping[str, str]
) -> tuple[Any, str]:
    """:func:`call` in a process that another program has started, as if this one had."""
    os.environ.update(environment)
    if "torch" in sys.modules:  # which an earlier task has imported
        sys.modules["torch"].set_num_threads(int(environment["OMP_NUM_THREADS"]))
    os.chdir(folder)
    sys.path += [entry for entry in path if entry not in sys.path]
    return call(function, arguments)


def reason(error: Exception) -> str:
    """An error in one line; with the place in the code where it is no mistake of the user's."""
    known = getattr(sys.modules.get("ean_core.errors"), "UserError", ())  # which nobody has raised before its import
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.strerror}: '{error.filename}'"
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, (OSError, known)) and text:
        return text
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {text} ({Path(place.filename).name}:{place.lineno})"


def main(descriptor: int) -> None:
    """Do what comes through a pipe, one task after the other."""
    signal.signal(signal.SIGTERM, _stop)
    pipe = Connection(descriptor)
    sys.path[:] = pipe.recv()
    tasks: SimpleQueue[Task] = SimpleQueue()
    threading.Thread(target=_receive, args=(pipe, tasks), daemon=True).start()
    while True:
        answer = call(*tasks.get())
        try:
            pipe.send(answer)
        except ConnectionError:  # the engine has ended, and _receive ends this process
            threading.Event().wait()
        except Exception as error:
            pipe.send((None, f"what it returned cannot be sent: {reason(error)}"))


def _receive(pipe: Connection, tasks: SimpleQueue[Task]) -> None:
    """Queue the tasks. Where the engine's process has died, end this one in the middle of its task."""
    try:
        while True:
            tasks.put(pipe.recv())
    except (EOFError, OSError):
        os.killpg(0, signal.SIGKILL)  # with what the task has started: the engine gave this process its own session


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(STOPPED)


if __name__ == "__main__":
    main(int(sys.argv[1]))
