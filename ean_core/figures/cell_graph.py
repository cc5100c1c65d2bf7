"""The cells of a genotype as graphs, their positions computed by hand.

The nodes stand in order from left to right. Each has one of its two edges above it and one below, and every edge has a
box there, with its operation and its attention: so boxes never meet. Longer edges run in lanes outside of the boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, Patch, PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.patheffects import withStroke

from ean_core.cells.genotype import INPUTS, Edge, Genotype, Nodes
from ean_core.cells.operations import OPERATIONS
from ean_core.figures import COLOURS

OPERATION_COLOURS = {
    "none": "#9a9a9a",
    "max_pool_3x3": "#2e7d32",
    "avg_pool_3x3": "#8a8f10",
    "skip_connect": "#4d4d4d",
    "sep_conv_3x3": "#1f5fa8",
    "sep_conv_5x5": "#2196b8",
    "dil_conv_3x3": "#c8601a",
    "dil_conv_5x5": "#a3356f",
}
ATTENTION_COLOURS = (*COLOURS[1:], COLOURS[0], "#00796b", "#b71c1c", "#3949ab", "#b38600", "#5d4037", "#000000")
DARK, PALE = "#333333", "#c9ced6"

# All lengths are inches.
STEP = 1.22  # from node to node
WIDTH, HEIGHT = 0.8, 0.22  # of a box, and of the badge below it
BOX = 0.74  # from the row of nodes to the middle of the boxes
LANE, BETWEEN = 0.2, 0.17  # from the boxes to the first lane, and from lane to lane
RADIUS = {"input": 0.26, "node": 0.19}
BUS = 0.35  # below the nodes: what leads to the output
MARGIN, TITLE = 0.45, 0.34
LEGEND: dict[str, Any] = {
    "fontsize": 9,
    "frameon": False,
    "handlelength": 1.2,
    "columnspacing": 1.2,
    "handletextpad": 0.5,
    "borderaxespad": 0.2,
}


class Track(NamedTuple):
    """Where an edge runs.

    Attributes:
        edge: What is drawn.
        node: The state that it leads to.
        side: 1 above the nodes, -1 below.
        lane: 0 to the left side of its box, 1, 2, ... over the boxes of others.
    """

    edge: Edge
    node: int
    side: int
    lane: int


def draw_genotype(genotype: Genotype) -> Figure:
    """Both cells, one below the other, with a legend; write it as it is."""
    cells = dict(genotype.cells())
    operations = {edge.operation for cell in cells.values() for node in cell for edge in node}
    attentions = attention_colours(edge.attention for cell in cells.values() for node in cell for edge in node)
    handles = legend_handles([name for name in OPERATIONS if name in operations], attentions)
    width = max(cell_width(genotype.normal), 6.0)
    columns, legend = legend_shape(handles, width)
    heights = [sum(cell_reach(cell)) + TITLE for cell in cells.values()]
    figure = Figure(figsize=(width, sum(heights) + legend))
    top = sum(heights) + legend
    for (name, cell), height in zip(cells.items(), heights, strict=True):
        top -= height
        draw_cell(add_axes(figure, 0, top, width, height), f"{name} cell", cell, attentions, cell_reach(cell)[0])
    figure.legend(handles=handles, loc="lower center", ncols=columns, **LEGEND)
    return figure


def add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def short(operation: str) -> str:
    """``"sep_conv_3x3"`` -> ``"sep 3x3"``; both poolings are of one size, which is left out."""
    name = operation.replace("_connect", "").replace("_pool_3x3", "_pool").replace("_conv", "")
    return name.replace("_", " ")


def attention_colours(names: Iterable[str | None]) -> dict[str, str]:
    """A colour for each attention but none, in alphabetical order."""
    known = sorted({name for name in names if name not in (None, "none")}, key=str)
    return {str(name): ATTENTION_COLOURS[i % len(ATTENTION_COLOURS)] for i, name in enumerate(known)}


def legend_handles(operations: Sequence[str], attentions: Mapping[str, str]) -> list[Patch]:
    """Filled boxes for operations, outlined ones for attentions."""
    filled = [Patch(facecolor=OPERATION_COLOURS[name], label=short(name)) for name in operations]
    outlined = [
        Patch(facecolor="white", edgecolor=c, linewidth=1.5, label=_class(name)) for name, c in attentions.items()
    ]
    return filled + outlined


def legend_shape(handles: Sequence[Artist], width: float) -> tuple[int, float]:
    """In how many columns a legend fits a width in inches, and how many inches high it is then."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = min(max(1, int(width / (0.4 + 0.08 * longest))), len(handles))
    return columns, 0.22 * -(-len(handles) // columns) + 0.05


def cell_width(cell: Nodes) -> float:
    """Inches that the graph of a cell needs from left to right."""
    return (len(cell) + 1) * STEP + 2 * MARGIN


def cell_reach(cell: Nodes) -> tuple[float, float]:
    """Inches that the graph of a cell needs below and above its nodes."""
    found = tracks(cell)
    lanes = [max(track.lane for track in found if track.side == side) for side in (-1, 1)]
    below, above = (_level(lane) + 0.12 if lane else BOX + HEIGHT + 0.1 for lane in lanes)
    return below, above


def tracks(cell: Nodes) -> list[Track]:
    """A way for each edge, without two in one lane at one place.

    Edges from c_{k-2} run above the nodes and those from c_{k-1} below; longer ones outside of shorter ones.
    """
    found: list[Track] = []
    for side in (1, -1):
        edges = [(_sided(pair)[side], node) for node, pair in enumerate(cell, INPUTS)]
        placed: list[Track] = []
        for edge, node in sorted(edges, key=lambda e: _column(e[1]) - _column(e[0].source)):
            start, end = _column(edge.source), _column(node)
            crossed = [t.lane for t in placed if start < _column(t.node) and _column(t.edge.source) < end]
            lane = 1 + max(crossed, default=0) if end - start > 1 else 0
            placed.append(Track(edge, node, side, lane))
        found += placed
    return found


def draw_cell(axes: Axes, title: str, cell: Nodes, attentions: Mapping[str, str], below: float) -> None:
    """A cell, into axes at least as large as ``cell_width`` and ``cell_reach`` with a ``TITLE`` on top.

    Args:
        axes: Where it is drawn, an inch as an inch.
        title: Above it.
        cell: What is drawn.
        attentions: The colour of each.
        below: Inches below the nodes, at least those of ``cell_reach``.
    """
    figure = axes.figure.get_figure(root=True)
    assert figure is not None
    width, height = axes.get_position().size * figure.get_size_inches()
    left, top = -(width - (len(cell) + 1) * STEP) / 2, height - below
    axes.set(xlim=(left, left + width), ylim=(-below, top))
    axes.set_axis_off()
    axes.text(left + 0.15, top - 0.1, title, fontsize=11, color=DARK, va="top", weight="bold")
    _draw_output(axes, len(cell))
    found = tracks(cell)
    for track in sorted(found, key=lambda t: -t.lane):
        _draw_edge(axes, track, _exit(track, found), attentions)
    _draw_state(axes, (0, BOX), "$c_{k-2}$", "input")
    _draw_state(axes, (0, -BOX), "$c_{k-1}$", "input")
    for number in range(len(cell)):
        _draw_state(axes, ((number + 1) * STEP, 0), str(number), "node")


def _class(name: str) -> str:
    """``"module.Class"`` -> ``"Class"``."""
    return name.rpartition(".")[2]


def _sided(pair: tuple[Edge, Edge]) -> dict[int, Edge]:
    """Which of a node's edges comes from above (1) and which from below (-1)."""
    first, second = sorted(pair)
    return {1: second, -1: first} if first.source == 1 else {1: first, -1: second}


def _column(state: int) -> int:
    """0 for both inputs, then the nodes."""
    return max(state - 1, 0)


def _level(lane: int) -> float:
    """How far a lane is from the row of nodes."""
    return BOX + HEIGHT + LANE + BETWEEN * (lane - 1) if lane else BOX


def _exit(track: Track, others: Sequence[Track]) -> float:
    """Where a track turns away from its source: the one of the outermost lane first, so that they do not cross."""
    same = [t for t in others if (t.side, t.edge.source) == (track.side, track.edge.source)]
    if track.edge.source < INPUTS:
        same = [t for t in same if t.lane]  # the others go straight
    apart = min(0.09, 0.26 / max(len(same), 1))
    rank = sum(t.lane > track.lane for t in same) - (len(same) - 1) / 2
    return apart * rank + (STEP * (_column(track.edge.source) + 0.5) if track.edge.source >= INPUTS else 0)


def _draw_edge(axes: Axes, track: Track, turn: float, attentions: Mapping[str, str]) -> None:
    """The line to the box, the box, and the arrow from there to the node."""
    edge, side = track.edge, track.side
    colour = OPERATION_COLOURS[edge.operation]
    start, end = _column(edge.source) * STEP, _column(track.node) * STEP
    high = HEIGHT if edge.attention else HEIGHT / 2
    points = [(end - WIDTH / 2, BOX)] if track.lane == 0 else [(end, _level(track.lane)), (end, BOX + high)]
    if edge.source >= INPUTS:
        leave = BUS + 0.05 - (turn - start - STEP / 2)  # steeper on the left, so that they part at once
        points = [(start, 0), (turn, leave), (turn, _level(track.lane)), *points]
    elif track.lane:
        points = [(turn, BOX), (turn, _level(track.lane)), *points]
    else:
        points = [(start, BOX), *points]
    name = f"{edge.source} -> {track.node}"
    halo = [withStroke(linewidth=4, foreground="white")]
    path = _rounded([(x, side * y) for x, y in points])
    axes.add_patch(PathPatch(path, fill=False, edgecolor=colour, linewidth=1.8, path_effects=halo, gid=name, zorder=2))
    ends = (end, side * (BOX - high)), (end, side * RADIUS["node"])
    tip = FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=12, shrinkA=0, shrinkB=0)
    tip.set(color=colour, linewidth=1.8, path_effects=halo, gid=name, zorder=3)
    axes.add_patch(tip)
    centre = side * BOX
    rows = [(short(edge.operation), colour, colour, "white")]
    if edge.attention:
        shade = attentions[edge.attention]
        rows.append((_class(edge.attention), "white", shade, shade))
    for i, (text, face, border, ink) in enumerate(rows):
        y = centre + high - (i + 1) * HEIGHT
        axes.add_patch(
            Rectangle((end - WIDTH / 2, y), WIDTH, HEIGHT, facecolor=face, edgecolor=border, linewidth=1.5, zorder=4)
        )
        size = 9 * min(1, 10 / len(text))
        axes.text(end, y + HEIGHT / 2, text, fontsize=size, color=ink, ha="center", va="center_baseline", zorder=5)


def _draw_output(axes: Axes, nodes: int) -> None:
    """All nodes, concatenated, are the output."""
    end = (nodes + 1) * STEP
    for number in range(nodes):
        x = (number + 1) * STEP
        path = _rounded([(x, 0), (x + 0.3, -BUS), (end - 0.42, -BUS), (end, 0)])
        axes.add_patch(PathPatch(path, fill=False, edgecolor=PALE, linewidth=3, zorder=1, gid=f"{number} -> output"))
    _draw_state(axes, (end, 0), "$c_k$", "input")
    axes.text(end, -BUS - 0.1, "all nodes,\nconcatenated", fontsize=7.5, color="#6f6f6f", ha="center", va="top")


def _draw_state(axes: Axes, centre: tuple[float, float], text: str, kind: str) -> None:
    face = "#eef1f5" if kind == "input" else "white"
    axes.add_patch(Circle(centre, RADIUS[kind], facecolor=face, edgecolor=DARK, linewidth=1.3, zorder=4))
    axes.text(*centre, text, fontsize=10, color=DARK, ha="center", va="center_baseline", zorder=5)


def _rounded(points: Sequence[tuple[float, float]], radius: float = 0.14) -> Path:
    """A line through the points with its corners rounded."""
    corners = [np.asarray(point, float) for point in points]
    vertices, codes = [corners[0]], [Path.MOVETO]
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        into, out = corner - before, after - corner
        cut = min(radius, np.hypot(*into) / 2, np.hypot(*out) / 2)
        vertices += [corner - cut * into / np.hypot(*into), corner, corner + cut * out / np.hypot(*out)]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path(np.array([*vertices, corners[-1]]), [*codes, Path.LINETO])
