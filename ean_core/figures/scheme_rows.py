"""Connection schemes as pictures of the network: its stages, their blocks, and who is plugged into the attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ean_core.errors import UserError
from ean_core.figures import BLUE, GREY, label
from ean_core.scheme import ConnectionScheme

PALE, DARK = "#dce7f3", "#333333"
COLOURS = "viridis"
GAP = 1.2  # between stages, in blocks
TITLE, BAR, BLOCK = 1.0, 1.1, 1.1  # heights of a row's parts, in blocks
NAME = 40  # characters of a name in a title
LETTER = 0.08  # inches of one
DENSE = 24  # networks of more blocks are drawn smaller
EFFECT, ADAPTIVE = "effect: mean of |1 - M|", "adaptive: spread of M over images and positions"


@dataclass(frozen=True)
class Row:
    """One line of a picture.

    Attributes:
        title: Written above it.
        blocks: The number of blocks of each stage.
        scheme: Its connections; ``None`` draws none, for lines that only show numbers.
        values: A number a block, shown as its colour and in it; ``None`` where there is none.
        plugged: What the blocks are plugged into, such as ``"SE"``.
        shared: One module per stage; otherwise every connected block has its own.
        percent: Write the values as whole percentages.
    """

    title: str
    _: KW_ONLY
    blocks: tuple[int, ...]
    scheme: ConnectionScheme | None = None
    values: Sequence[float | None] | None = None
    plugged: str = "attention"
    shared: bool = True
    percent: bool = False

    @property
    def height(self) -> float:
        """In blocks."""
        return TITLE + (BAR if self.scheme is not None else 0) + BLOCK


def scheme_row(title: str, scheme: ConnectionScheme, plugged: str = "attention") -> Row:
    """A line for a scheme, whose title also says how many blocks it connects."""
    title = f"{label(title, NAME)}   {sum(scheme)} of {len(scheme)} connected"
    return Row(title, blocks=scheme.blocks, scheme=scheme, plugged=plugged)


def log_rows(entries: Sequence[dict[str, Any]], name: str, top: int = 5) -> list[Row]:
    """The lines of a search log: how often each block was connected, then the best schemes.

    The frequencies are those of all candidates, of the last fifth of them, and of the best tenth of the different
    schemes by reward (at least one).

    Args:
        entries: Of the log, without its verdict and without failed evaluations.
        name: For the titles.
        top: How many of the best different schemes follow.
    """
    blocks = tuple(map(len, entries[0]["scheme"].split("-")))
    schemes = {e["scheme"]: ConnectionScheme.parse(e["scheme"], blocks) for e in entries}
    candidates = [schemes[e["scheme"]] for e in entries]
    rewards: dict[str, float] = {}
    for entry in entries:
        rewards[entry["scheme"]] = max(entry["reward"], rewards.get(entry["scheme"], entry["reward"]))
    ranked = sorted(rewards, key=lambda text: -rewards[text])  # of equal ones the first found
    tenth = [schemes[text] for text in ranked[: max(len(ranked) // 10, 1)]]
    last = candidates[-max(len(candidates) // 5, 1) :]
    parts = {f"all {len(candidates)} candidates": candidates, f"the last {len(last)} candidates": last}
    parts[f"the best {len(tenth)} of {len(ranked)} different schemes"] = tenth
    rows = [
        Row(f"{label(name, NAME)}: % connected, {title}", blocks=blocks, values=frequencies(part), percent=True)
        for title, part in parts.items()
    ]
    for place, text in enumerate(ranked[:top], 1):
        rows.append(scheme_row(f"{place}. by reward, {rewards[text]:.3f}", schemes[text]))
    return rows


def frequencies(schemes: Sequence[ConnectionScheme]) -> list[float]:
    """The fraction of the schemes that connect each block."""
    return [sum(bits) / len(schemes) for bits in zip(*(scheme.bits for scheme in schemes), strict=True)]


def mask_rows(statistics: Sequence[Any], blocks: tuple[int, ...], title: str, plugged: str, shared: bool) -> list[Row]:
    """Two lines for a trained network: how far each connection is from not being there, and how much it varies.

    Args:
        statistics: Of each connected block: ``stage``, ``block``, ``effect`` and ``adaptive``, as
            :func:`ean_core.analysis.attention_statistics.attention_statistics` has them.
        blocks: The number of blocks of each stage.
        title: As :func:`ean_core.figures.label` writes it; the name of the number follows.
        plugged: What the blocks are plugged into, such as ``"SE"``.
        shared: One module per stage.
    """
    seen = {(row.stage, row.block) for row in statistics}
    places = [(stage, block) for stage, number in enumerate(blocks, 1) for block in range(1, number + 1)]
    scheme = ConnectionScheme.parse("".join("01"[place in seen] for place in places), blocks)
    rows = []
    for name, number in ((EFFECT, "effect"), (ADAPTIVE, "adaptive")):
        found = {(row.stage, row.block): getattr(row, number) for row in statistics}
        values = [found.get(place) for place in places]
        line = f"{title}   {name}"
        rows.append(Row(line, blocks=blocks, scheme=scheme, values=values, plugged=plugged, shared=shared))
    return rows


def scheme_rows(rows: Sequence[Row]) -> Figure:
    """Networks one below the other, block under block; write it with 130 pixels an inch.

    A blue block (one with a value: a coloured one) has a line to its stage's bar, the attention module that its
    connected blocks share. Colours run from 0 to the largest value of their row, percentages from 0 to 100.

    Args:
        rows: Of networks with the same blocks.

    Raises:
        UserError: There is no row, or the networks differ in their blocks.
    """
    if not rows:
        raise UserError("nothing to draw: name a scheme")
    other = next((row for row in rows if row.blocks != rows[0].blocks), None)
    if other is not None:
        shapes = " and ".join("-".join(map(str, row.blocks)) for row in (rows[0], other))
        raise UserError(f"schemes of networks with {shapes} blocks do not fit one picture: draw them one by one")
    places, length = _places(rows[0].blocks)
    unit = 0.29 if len(places) > DENSE else 0.45  # inches a block
    title = max(len(row.title) for row in rows) * LETTER
    width, height = max(length * unit, title, 4.5) + 0.4, (sum(row.height for row in rows) + 1.3) * unit
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    margin = 0.2 / unit
    axes.set(xlim=(-margin, width / unit - margin), ylim=(height / unit, 0))
    top = 0.0
    for row in rows:
        _draw_row(axes, row, places, top, unit)
        top += row.height
    _number(axes, rows[0].blocks, places, top, unit)
    return figure


def _places(blocks: Sequence[int]) -> tuple[list[float], float]:
    """The left edge of every block, and the whole length, in blocks."""
    places, x = [], 0.0
    for number in blocks:
        places += [x + i for i in range(number)]
        x += number + GAP
    return places, x - GAP


def _draw_row(axes: Axes, row: Row, places: Sequence[float], top: float, unit: float) -> None:
    """Title, the bars of the attention modules, connections, and the blocks in a chain."""
    size = min(0.36 * unit * 72, 9)  # points
    axes.text(places[0], top + 0.7, row.title, fontsize=9, va="bottom", color=DARK)
    bits = row.scheme.bits if row.scheme is not None else (False,) * len(places)
    scale = Normalize(0, 1 if row.percent else max((v for v in row.values or () if v is not None), default=0) or 1)
    top += TITLE
    if row.scheme is not None:
        for start, number in _modules(row, bits):
            x = places[start] + 0.08
            axes.add_patch(Rectangle((x, top), number - 0.16, 0.6, facecolor=PALE, edgecolor=BLUE, linewidth=0.8))
            if row.shared:
                x += number / 2 - 0.08
                axes.text(x, top + 0.32, row.plugged, fontsize=size, color=BLUE, ha="center", va="center")
        top += BAR
    middle = top + 0.45
    axes.plot([places[0] - 0.5, places[-1] + 1.5], [middle, middle], color=GREY, linewidth=1, zorder=0)
    for i, x in enumerate(places):
        if bits[i]:
            axes.plot([x + 0.5, x + 0.5], [top - BAR + 0.6, top], color=BLUE, linewidth=1.2)
        value = row.values[i] if row.values is not None else None
        face: Any = BLUE if bits[i] and row.values is None else "white"
        if value is not None:
            face = ScalarMappable(scale, COLOURS).to_rgba(value)  # type: ignore[arg-type]
            text = f"{100 * value:.0f}" if row.percent else _decimals(value, float(scale.vmax or 1))
            ink = DARK if scale(value) > 0.6 else "white"
            axes.text(x + 0.5, middle, text, fontsize=size, color=ink, ha="center", va="center_baseline")
        edge = BLUE if bits[i] else GREY
        axes.add_patch(Rectangle((x + 0.08, top), 0.84, 0.9, facecolor=face, edgecolor=edge))


def _decimals(value: float, largest: float) -> str:
    """Two decimals, three where all values are small, without the zero before the point."""
    return f"{value:.{2 if largest >= 0.1 else 3}f}".removeprefix("0")


def _modules(row: Row, bits: Sequence[bool]) -> list[tuple[int, int]]:
    """First block and number of blocks of every attention module."""
    starts = [sum(row.blocks[:stage]) for stage in range(len(row.blocks))]
    stages = list(zip(starts, row.blocks, strict=True))
    if row.shared:
        return [(start, number) for start, number in stages if any(bits[start : start + number])]
    return [(i, 1) for i, bit in enumerate(bits) if bit]


def _number(axes: Axes, blocks: Sequence[int], places: Sequence[float], top: float, unit: float) -> None:
    """Block numbers from 1 in every stage, and the stages' names, below the last row."""
    size = min(0.36 * unit * 72, 9)
    ends = np.cumsum(blocks)
    for stage, end in enumerate(ends):
        start = end - blocks[stage]
        for i in range(start, end):
            axes.text(places[i] + 0.5, top + 0.35, str(i - start + 1), fontsize=size, color=GREY, ha="center")
        middle = (places[start] + places[end - 1] + 1) / 2
        axes.text(middle, top + 1.0, f"stage {stage + 1}", fontsize=9, color=DARK, ha="center")
