"""What commands print: tables, labelled lines, the next command, and progress bars."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
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
