"""Ending by Ctrl-C or SIGTERM: behind the current step where a loop looks for it, at once elsewhere.

A signal handler that raises can be in vain: what it raises within a callback of a weak reference, or a ``__del__``,
Python prints and forgets. So the handler also sets a flag. A loop that asks for it in every step
(:func:`stop_if_asked`, within :func:`looking`) is not interrupted by anything else, and so never in the middle of
writing a file. A second signal ends the process at once.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from types import FrameType
from typing import Any

from ean_core.errors import UserError
from ean_core.files import remove_temporary

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME = 0.2  # seconds: `timeout` and the managers of clusters send one signal twice, to a process and to its group
FROM_OTHERS = re.compile(r"DataLoader worker|gloo|nccl|connection|connect|peer|socket|store", re.IGNORECASE)
"""Errors that another process's end leaves in this one."""
PATIENCE = 5.0  # seconds that torchrun needs at most to tell the other processes that one has ended


class Interrupted(KeyboardInterrupt):
    """A signal ends the process.

    Args:
        number: The signal's.

    Attributes:
        where: What was being done, as the innermost block of :func:`running` says; "" outside of any.
        saved: Whether one can go on, which all blocks must say; ``None`` outside of any.
        option: The option of the command line to go on with, by the outermost block.
        instead: The checkpoint that the command line began from, which this option replaces, by the innermost block.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.number = number
        self.where = self.option = self.instead = ""
        self.saved: bool | None = None


class _State:
    """What the handler knows."""

    number = 0  # the first signal's
    when = 0.0
    loops = 0  # that look for the flag
    process = 0


def asked() -> int:
    """The number of the signal that asked this process to stop, or 0."""
    return _State.number


def stop_if_asked() -> None:
    """End the run here if a signal asked for it.

    Raises:
        Interrupted: It did.
    """
    if _State.number:
        raise Interrupted(_State.number)


@contextmanager
def looking() -> Iterator[None]:
    """A block that calls :func:`stop_if_asked` in each of its steps: a signal raises nothing in between."""
    _State.loops += 1
    try:
        yield
    finally:
        _State.loops -= 1


@contextmanager
def steps() -> Iterator[Callable[[], None]]:
    """A loop that ends behind one of its steps: it calls the function that it is given behind each.

    The first step may be compiling for minutes, so a signal interrupts it; none interrupts the others.
    """
    with ExitStack() as after_the_first:
        first = True

        def done() -> None:
            nonlocal first
            if first:
                after_the_first.enter_context(looking())
                first = False
            stop_if_asked()

        yield done


@contextmanager
def handling_signals() -> Iterator[None]:
    """Take SIGINT and SIGTERM until the block ends; in another thread than the main one do nothing.

    Of several processes of a run only the first one writes files and speaks: the others end at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.number, _State.loops, _State.process = 0, 0, os.getpid()
    handler = signal.SIG_DFL if launched_rank() else _handle
    before = {number: signal.getsignal(number) for number in SIGNALS}
    taken = [number for number in SIGNALS if before[number] not in (signal.SIG_IGN, None)]  # as nohup leaves it
    hook, sys.unraisablehook = sys.unraisablehook, _quiet(sys.unraisablehook)
    try:
        for number in taken:
            signal.signal(number, handler)
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])
        sys.unraisablehook = hook
        _State.number = 0


@contextmanager
def running(
    where: Callable[[], str], saved: Callable[[], bool], *, option: str = "--resume", instead: str | None = None
) -> Iterator[None]:
    """A block of which an interruption can say where it was, and whether one can go on.

    It is noted in the :class:`Interrupted`, which takes the place of a plain ``KeyboardInterrupt``. Errors that follow
    from an interruption, such as a lost connection to a process that has ended, count as one.

    Args:
        where: What is being done, e.g. ``"epoch 3"``.
        saved: Whether the run has saved something to go on from; of blocks within each other all must say so.
        option: The option of the command line to go on; "" where the same command does. The outermost block decides.
        instead: The checkpoint that the command line names to begin from, which one does not go on from.

    Raises:
        ConnectionError: Another process of the run is gone.
    """

    def noted(stop: Interrupted) -> Interrupted:
        if stop.saved is None:
            stop.where, stop.saved, stop.instead = where(), True, instead or ""
        stop.saved, stop.option = stop.saved and saved(), option
        return stop

    try:
        yield
    except Interrupted as stop:
        noted(stop)
        raise
    except KeyboardInterrupt as stop:
        raise noted(Interrupted()) from stop
    except Exception as error:
        if isinstance(error, UserError) or (isinstance(error, OSError) and error.filename is not None):
            raise
        if FROM_OTHERS.search(str(error)):
            until = time.monotonic() + PATIENCE
            while not asked() and time.monotonic() < until and _has_others(error):
                time.sleep(0.02)
        if asked():
            raise noted(Interrupted(asked())) from error
        if isinstance(error, RuntimeError) and FROM_OTHERS.search(str(error)) and _in_company():
            raise ConnectionError(
                "another process of this run has ended: see what it said, then go on with --resume "
                f"({str(error).splitlines()[0]})"
            ) from error
        raise


def launched_rank() -> int:
    """The number of this process among those that torchrun or srun has started, also before they are connected."""
    if "LOCAL_RANK" in os.environ:
        return int(os.environ.get("RANK", 0))
    return int(os.environ.get("SLURM_PROCID", 0)) if by_slurm() else 0


def by_slurm() -> bool:
    """Whether the command line says so; programs that have nothing to do with each other have Slurm's variables too."""
    return any(
        now == "--launcher=slurm" or (before, now) == ("--launcher", "slurm") for before, now in pairwise(sys.argv)
    )


def _in_company() -> bool:
    if "LOCAL_RANK" in os.environ:
        return int(os.environ.get("WORLD_SIZE", 1)) > 1
    return by_slurm() and int(os.environ.get("SLURM_NTASKS", 1)) > 1


def _has_others(error: Exception) -> bool:
    return _in_company() or "DataLoader worker" in str(error)


def _handle(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _State.process:  # a worker that loads data: the process that started it ends it
        if number == signal.SIGTERM:
            os._exit(128 + number)
        return
    if _State.number:
        if number != _State.number or time.monotonic() - _State.when > SAME:
            _end_at_once()
        return
    _State.number, _State.when = number, time.monotonic()
    if not _State.loops:
        raise Interrupted(number)
    if sys.stderr.isatty():
        os.write(2, b"\nstopping behind this step; once more to stop at once\n")


def _end_at_once() -> None:
    remove_temporary()
    if sys.stdout.isatty():
        os.write(1, b"\x1b[?25h")  # a progress bar hides the cursor
    os._exit(128 + _State.number)


def _quiet(hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A hook that does not print what an interruption raises where Python forgets it: the flag knows of it."""

    def report(unraisable: Any) -> None:
        if not _State.number or not (
            isinstance(unraisable.exc_value, Interrupted) or FROM_OTHERS.search(str(unraisable.exc_value))
        ):
            hook(unraisable)

    return report
