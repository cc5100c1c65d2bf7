"""What a notebook shows of this project's objects: HTML and SVG as text, so that nothing has to be imported for it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

BLUE, PALE, GREY = "#1f5fa8", "#dce7f3", "#9a9a9a"
BLOCK, GAP, BAR = 16, 18, 12  # pixels: a block with its margin, between stages, the height of an attention module


def scheme_svg(stages: Sequence[Sequence[bool]]) -> str:
    """The blocks of a network in a row, stage by stage; a connected one is blue, below its stage's attention module.

    Args:
        stages: Whether each block is connected, one sequence a stage.
    """
    parts, x = [], 0
    for number, bits in enumerate(stages, 1):
        width = BLOCK * len(bits)
        if any(bits):
            parts.append(_box(x, 0, width - 2, BAR - 2, PALE, BLUE))
        for i, bit in enumerate(bits):
            left = x + BLOCK * i
            if bit:
                middle = left + BLOCK // 2 - 1
                parts.append(f'<path d="M{middle} {BAR - 2}V{BAR + 6}" stroke="{BLUE}"/>')
            parts.append(_box(left, BAR + 6, BLOCK - 2, BLOCK - 2, BLUE if bit else "white", BLUE if bit else GREY))
        parts.append(f'<text x="{x}" y="{BAR + BLOCK + 18}" font-size="10" fill="{GREY}">stage {number}</text>')
        x += max(width, 38) + GAP
    size = f'width="{x - GAP + 2}" height="{BAR + BLOCK + 22}" viewBox="-1 -1 {x - GAP + 2} {BAR + BLOCK + 22}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(parts)}</svg>'


def _box(x: int, y: int, width: int, height: int, fill: str, stroke: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}" stroke="{stroke}"/>'


def facts(rows: Mapping[str, object]) -> str:
    """A table of names and what they are, as text."""
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows.items())
    return f"<table>{cells}</table>"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with a head."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def picture(png: bytes, text: str) -> str:
    """A PNG, written into the page; ``text`` is read to those who do not see it."""
    code = base64.b64encode(png).decode("ascii")
    return f'<img alt="{escape(text)}" style="max-width:100%" src="data:image/png;base64,{code}"/>'
