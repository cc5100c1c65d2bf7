"""Every plot as a function that returns a matplotlib figure, and one way to write figures.

They read nothing and measure nothing: what they draw is handed to them. Matplotlib is imported with the module of a
figure, so import those where a figure is drawn.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ean_core.files import write_atomic
from ean_core.notebook import BLUE, GREY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#1f5fa8", "#d9742b", "#3a923a", "#8b5fb0", "#7a5a4a", "#c2558f", "#6f6f6f", "#9aa022")
"""Of things set side by side, in this order."""
ORANGE = "#d9742b"


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: int = 110, tight: bool = False) -> None:
    """Write a figure as a PNG, whole or not at all.

    Args:
        figure: What a function of this package returns.
        path: The file; missing folders are made.
        dpi: Pixels an inch.
        tight: Cut off what is empty at the edges.
    """
    write_atomic(Path(path), to_png(figure, dpi, tight))


def to_png(figure: Figure, dpi: int = 110, tight: bool = False) -> bytes:
    """A figure as a PNG; the arguments are those of :func:`save_figure`."""
    png = io.BytesIO()
    figure.savefig(png, dpi=dpi, format="png", bbox_inches="tight" if tight else None, pad_inches=0.1)
    return png.getvalue()


def label(name: str, most: int = 40) -> str:
    """A name as a picture can have it: Matplotlib reads dollars as formulas, and keeps ``_name`` out of legends.

    Args:
        name: As users chose it.
        most: Of its characters; of a longer one the middle is left out.
    """
    if len(name) > most:
        name = f"{name[: most // 2]}…{name[-((most - 1) // 2) :]}"
    return ("\N{ZERO WIDTH SPACE}" if name.startswith("_") else "") + name.replace("$", r"\$")


__all__ = ["BLUE", "COLOURS", "GREY", "ORANGE", "label", "save_figure", "to_png"]
