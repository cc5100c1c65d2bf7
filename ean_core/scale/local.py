"""Tasks in processes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import weakref
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Any

from ean_core.scale import worker as program
from ean_core.scale.outcome import LOOK, TRIES, Outcome, died
from ean_core.stopping import stop_if_asked

PATIENCE = 5.0
"""Seconds that a process has to end by itself before it is killed."""


class LocalEngine:
    """An :class:`~ean_core.scale.Engine` of processes on this machine, which end with the process that has it.

    Args:
        environments: Environment variables of each process; as many tasks run at once.
    """

    def __init__(self, environments: Sequence[Mapping[str, str]]) -> None:
        self.workers = len(environments)
        self._free = deque(environments)  # of processes that are not running
        self._workers: list[_Worker] = []
        weakref.finalize(self, _end, self._workers)  # also when the interpreter ends

    def run(self, function: str, arguments: Sequence[Mapping[str, Any]]) -> Iterator[Outcome]:
        """See :meth:`ean_core.scale.Engine.run`."""
        waiting, tries = deque(range(len(arguments))), Counter[int]()
        try:
            while waiting or any(worker.task is not None for worker in self._workers):
                for worker in self._idle(len(waiting)):
                    worker.give(waiting[0], function, arguments[waiting[0]])
                    tries[waiting.popleft()] += 1
                for worker in self._finished():
                    index, answer = worker.take()
                    if answer is None:
                        self._workers.remove(worker)
                        self._free.append(worker.environment)
                        if tries[index] < TRIES:
                            waiting.appendleft(index)
                            continue
                        answer = None, died(worker.how_it_died())
                    yield Outcome(index, *answer)
        finally:
            if any(worker.task is not None for worker in self._workers):
                self.close()

    def close(self) -> None:
        """See :meth:`ean_core.scale.Engine.close`."""
        self._free.extend(worker.environment for worker in self._workers)
        _end(self._workers)

    def _idle(self, wanted: int) -> list[_Worker]:
        """At most so many processes without a task; they are started where there are fewer."""
        idle = [worker for worker in self._workers if worker.task is None]
        while len(idle) < wanted and self._free:
            worker = _Worker(self._free[0])
            self._free.popleft()
            self._workers.append(worker)
            idle.append(worker)
        return idle[:wanted]

    def _finished(self) -> list[_Worker]:
        """The processes that have an answer, or have died, after waiting for a moment.

        A process that has died need not close its pipe: processes that it has forked may hold it open.
        """
        busy = [worker for worker in self._workers if worker.task is not None]
        ready = wait([worker.pipe for worker in busy], LOOK)
        stop_if_asked()
        return [worker for worker in busy if worker.pipe in ready or worker.process.poll() is not None]


class _Worker:
    """A process, and this end of its pipe.

    Attributes:
        environment: The environment variables that it was given.
        task: The index of the task that it works on.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.task: int | None = None
        self.pipe, its = Pipe()
        with its:
            self.process = subprocess.Popen(
                [sys.executable, program.__file__, str(its.fileno())],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # of several at once nobody could tell whose line is whose
                pass_fds=[its.fileno()],
                start_new_session=True,  # Ctrl-C does not reach it: the engine ends it
            )
        self._send(sys.path)

    def give(self, index: int, function: str, arguments: Mapping[str, Any]) -> None:
        """Start a task."""
        self.task = index
        self._send((function, dict(arguments)))

    def take(self) -> tuple[int, tuple[Any, str] | None]:
        """The index of the task, and its answer; ``None`` where the process died before."""
        index, self.task = self.task, None
        assert index is not None
        try:
            return index, self.pipe.recv() if self.pipe.poll() else None
        except (EOFError, OSError):
            return index, None

    def how_it_died(self) -> str:
        """By which signal, or with which status."""
        status = self.process.wait()
        self.pipe.close()
        if status >= 0:
            return f"exit status {status}"
        return f"{signal.Signals(-status).name}{', as when memory runs out' if status == -signal.SIGKILL else ''}"

    def _send(self, message: Any) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # it has died, which take() finds
            self.pipe.send(message)


def _end(workers: list[_Worker]) -> None:
    """End processes: by SIGTERM, and those that do not end by SIGKILL."""
    for worker in workers:
        worker.process.terminate()
    until = time.monotonic() + PATIENCE
    for worker in workers:
        try:
            worker.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(worker.process.pid, signal.SIGKILL)
            worker.process.wait()
        worker.pipe.close()
    workers.clear()
