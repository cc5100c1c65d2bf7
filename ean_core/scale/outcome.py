"""What every engine offers, and what becomes of a task."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

TRIES = 3
"""How often a task is started at most whose process dies."""
LOOK = 0.2
"""Seconds after which a waiting engine looks for a signal, and for processes that have died."""


@dataclass(frozen=True)
class Outcome:
    """What became of one task.

    Attributes:
        index: Of its arguments, in the sequence that the engine was given.
        value: What the function returned.
        error: Why it failed, in one line; "" where it did not.
    """

    index: int
    value: Any = None
    error: str = ""


class Engine(Protocol):
    """Where tasks run.

    Attributes:
        workers: How many tasks run at once.
    """

    workers: int

    def run(self, function: str, arguments: Sequence[Mapping[str, Any]]) -> Iterator[Outcome]:
        """Call a function once with each of some arguments, in other processes.

        The processes live on, so a function may keep what is expensive to make (``functools.cache``). A task whose
        process dies is started again, three times at most in all, so a training should resume from what it has saved.
        One ``run`` at a time; leaving it before its end ends the processes.

        Args:
            function: ``"package.module:name"``, imported in the process that calls it.
            arguments: The keyword arguments of each call: what JSON can hold.

        Yields:
            The outcomes, in the order in which the tasks end.
        """
        ...

    def close(self) -> None:
        """End the processes. The next ``run`` starts others."""
        ...


def died(how: str) -> str:
    """The error of a task whose process has died every time."""
    return f"its process died {TRIES} times ({how})"


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
