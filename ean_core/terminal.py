"""What commands print: tables, labelled lines, the next command, and progress, as a bar or as lines."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

EVERY = 3.0  # seconds between two lines of progress
_part: ContextVar[Callable[[str], None] | None] = ContextVar("part", default=None)


def print_table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Print numbers by row and column to two decimals (integers whole)."""
    table = Table(title=title, title_justify="left")
    columns = list(next(iter(rows.values())))
    table.add_column("", overflow="fold")
    for column in columns:
        table.add_column(column, justify="right")
    for name, values in rows.items():
        cells = (values.get(c) for c in columns)
        table.add_row(name, *(str(v) if isinstance(v, int | str) else "-" if v is None else f"{v:.2f}" for v in cells))
    Console(width=max(80, Console().width)).print(table)


def print_line(label: str, value: object) -> None:
    """Print a value behind its label, the values of several lines one below the other."""
    print(f"{label:<11} {value}")


def tool(name: str) -> str:
    """How to start a tool: as the one that runs was started, by its file or by the command ``ean``."""
    file = Path(sys.argv[0])
    return f"python {file.with_name(f'{name}.py')}" if file.parent.name == "tools" else f"ean {name}"


def print_next(program: str, *words: object) -> None:
    """Print the command to try next, ready to be copied: a program, such as :func:`tool` writes it, and its words."""
    print_line("next", f"{program} {shlex.join(map(str, words))}")


def progress_bar(*after: ProgressColumn, transient: bool = False, show: bool = True) -> Progress:
    """A bar with the task's description, steps done, time spent and left; invisible where output is no terminal.

    Args:
        after: Further columns.
        transient: Remove the bar when it ends.
        show: Whether it is shown at all.
    """
    console = Console(file=sys.stdout)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        *after,
        console=console,
        transient=transient,
        disable=not (show and console.is_terminal),
    )


class ProgressLines:
    """Progress as lines, for output that is no terminal: the first one after some seconds, then one as often.

    A task that ends sooner prints none.

    Args:
        what: Of the lines, such as ``"predicting"``.
        total: Steps, 0 where their number is not known.
        begun: Steps that an earlier run has done.
        every: Seconds from the start to the first line, and from one line to the next.
        slower: The factor by which that time grows from line to line, up to a minute.
        clock: What tells the seconds.
    """

    def __init__(
        self,
        what: str,
        *,
        total: int = 0,
        begun: int = 0,
        every: float = EVERY,
        slower: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what, self.total, self.every, self.slower, self._clock = what, total, every, slower, clock
        self.show = not Console(file=sys.stdout).is_terminal
        self._start = self._last = clock()
        self._done = self._begun = begun

    def update(self, done: int | None = None, note: str = "") -> None:
        """Print a line if it is time for one.

        Args:
            done: Steps done; ``None``: as many as before, and somewhere in the next one.
            note: What else there is to say of now.
        """
        within, self._done = done is None, self._done if done is None else done
        now = self._clock()
        if not self.show or now - self._last < self.every:
            return
        self._last, spent = now, now - self._start
        self.every = max(self.every, min(60.0, self.every * self.slower))
        words = [f"{self.what} {self._done:,}{f' of {self.total:,}' if self.total else ''}", f"{spent:.0f} s"]
        if self._begun < self._done < self.total and not within:
            words.append(f"about {spent / (self._done - self._begun) * (self.total - self._done):.0f} s left")
        print(", ".join([*words, *([note] if note else [])]), flush=True)


def report_part(text: str) -> None:
    """Say where one step of a task is, such as ``"tile 3 of 20"``, for the task's line of progress."""
    listener = _part.get()
    if listener is not None:
        listener(text)


@contextmanager
def hearing_parts(listener: Callable[[str], None]) -> Iterator[None]:
    """A block within which :func:`report_part` calls ``listener``."""
    token = _part.set(listener)
    try:
        yield
    finally:
        _part.reset(token)
