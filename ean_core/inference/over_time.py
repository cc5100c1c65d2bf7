"""What a task says of the frames of a video, as a table and as curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ean_core.files import write_csv


def write_over_time(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], target: Path) -> None:
    """Write ``NAME-over-time.csv`` and ``NAME-over-time.png``.

    Args:
        rows: One a frame, with ``frame``, ``seconds`` and the task's columns.
        columns: Which of these to write; those that the rows lack are left out, and without any nothing is written.
        target: The video's copy, beside which they lie.
    """
    known = [column for column in columns if rows and column in rows[0]]
    if not known:
        return
    wanted = ["frame", "seconds", *known]
    path = target.with_name(f"{target.stem}-over-time.csv")
    write_csv(path, wanted, [{column: row[column] for column in wanted} for row in rows])
    from ean_core.figures import save_figure  # matplotlib: nothing but a video needs it
    from ean_core.figures.over_time import over_time

    seconds = [float(row["seconds"]) for row in rows]
    curves = {column.replace("_", " "): [float(row[column]) for row in rows] for column in known}
    save_figure(over_time(seconds, curves, target.stem), path.with_suffix(".png"))
