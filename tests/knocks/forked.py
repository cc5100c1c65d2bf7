"""Work in a child process that has everything imported already: it may be killed, hang, or eat its memory."""

import contextlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

MEMORY = 6 << 30  # bytes that a child may take besides what it begins with


class Ended(NamedTuple):
    """How a child ended: its result, its exit status (negative: the signal), what it wrote."""

    result: Any
    status: int
    out: str
    err: str


class Child:
    """A child process that has begun to run ``work()``.

    Args:
        work: What it does; the result goes through JSON. A ``SystemExit`` is its exit status.
        folder: Where it works, and writes what it prints.
        leader: Whether it leads a group of processes, which :meth:`kill` kills whole, each with so much memory.
    """

    def __init__(self, work: Callable[[], Any], folder: Path, leader: bool = False) -> None:
        self.started, self.leader = time.monotonic(), leader
        self.files = [Path(tempfile.mkstemp(dir=folder, prefix=name)[1]) for name in ("result", "out", "err")]
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(work, folder)
        if leader:
            with contextlib.suppress(OSError):  # the child does so too; whoever is first
                os.setpgid(self.pid, self.pid)
        self._status: int | None = None

    def _run(self, work: Callable[[], Any], folder: Path) -> None:
        status = 70
        try:
            if self.leader:
                os.setpgid(0, 0)
            result, out, err = self.files
            for number, path in ((1, out), (2, err)):
                os.dup2(os.open(path, os.O_WRONLY), number)
            os.chdir(folder)
            if self.leader:
                pages = int(Path("/proc/self/statm").read_text().split()[0])
                limit = pages * resource.getpagesize() + MEMORY
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            try:
                result.write_text(json.dumps(work()))
                status = 0
            except SystemExit as stopped:
                status = int(stopped.code or 0)
            except KeyboardInterrupt:
                status = 130
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def poll(self) -> bool:
        """Whether it has ended."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status is not None

    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.started

    def wait(self, limit: float) -> bool:
        """Wait for its end, so many seconds at most; whether it has ended."""
        until = time.monotonic() + limit
        while not self.poll():
            if time.monotonic() > until:
                return False
            time.sleep(0.005)
        return True

    def signal(self, number: int) -> None:
        """Send a signal to it, if it still runs."""
        if not self.poll():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it, and its group if it leads one."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if self.leader else os.kill)(self.pid, signal.SIGKILL)
        while not self.poll():
            time.sleep(0.005)

    def ended(self) -> Ended:
        """How it ended; call this once, after its end."""
        result, out, err = (path.read_text(errors="replace") for path in self.files)
        for path in self.files:
            path.unlink()
        assert self._status is not None
        return Ended(json.loads(result) if result else None, self._status, out, err)
