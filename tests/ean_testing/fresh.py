"""Programs in processes that have imported MMEngine's models, which takes seconds, and nothing of this project.

They are forks of a clean interpreter, not of the tests' process. The fixture ``fresh`` is a pool of them:
``fresh.apply(run_program, (program, *arguments))``.
"""

import contextlib
import io
import multiprocessing
import os
import runpy
import signal
import socket
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.pool import Pool
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["mmengine.model"])


class Ran(NamedTuple):
    """What a program left: its exit status, what it showed, what it has imported."""

    status: int
    out: str
    err: str
    modules: set[str]


def run_program(program: str | Path, *arguments: str, folder: Path = ROOT) -> Ran:
    """Run a file, or code, as the main program in a folder."""
    os.chdir(folder)
    sys.argv = [str(program), *arguments]
    status = 0
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            if isinstance(program, Path):
                runpy.run_path(str(program), run_name="__main__")
            else:
                exec(program, {"__name__": "__main__"})
        except SystemExit as stopped:
            status = int(stopped.code or 0)
    return Ran(status, out.getvalue(), err.getvalue(), set(sys.modules))


def start_program(program: str | Path, *arguments: str) -> tuple[BaseProcess, Connection]:
    """Run a program in a process that can be sent signals; its :class:`Ran` comes through the connection."""
    here, there = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_run_and_tell, args=(there, program, *arguments))
    process.start()
    there.close()
    return process, here


def _run_and_tell(connection: Connection, program: str | Path, *arguments: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
    ran = run_program(program, *arguments)
    connection.send(ran._replace(modules=set()))


def run_rank(rank: int, port: int, program: Path, *arguments: str) -> Ran:
    """One of two processes that torchrun would start."""
    ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ.update(ranks, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    return run_program(program, *arguments)


def run_two_ranks(program: Path, *arguments: str) -> list[Ran]:
    """What torchrun does, but for its own three seconds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with CONTEXT.Pool(2) as pool:
        calls = [(rank, port, program, *arguments) for rank in (0, 1)]
        return pool.starmap_async(run_rank, calls, chunksize=1).get(timeout=240)


@contextlib.contextmanager
def fresh_processes() -> Iterator[Pool]:
    """A pool in which each task has a process of its own, where no warning is silenced from outside."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONWARNINGS", raising=False)
        patch.setenv("COLUMNS", "80")
        pool = CONTEXT.Pool(1, maxtasksperchild=1)
    with pool:
        yield pool
