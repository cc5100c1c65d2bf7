"""What a search returns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ean_core.notebook import facts, picture, scheme_svg
from ean_core.scheme import ConnectionScheme


class Found(dict[str, Any]):
    """The content of a search's ``scheme.json`` or ``genotype.json``, which a notebook shows with the search's picture.

    Args:
        content: Of the file.
        drawing: The picture of the search; it is read when it is shown, and left out where there is none.
    """

    def __init__(self, content: Mapping[str, Any], drawing: Path) -> None:
        super().__init__(content)
        self.drawing = drawing

    def _repr_html_(self) -> str:
        parts = []
        if "scheme" in self:
            parts.append(scheme_svg(ConnectionScheme.parse(self["scheme"], self["blocks"]).stages))
            shown = ("scheme", "accuracy", "density", "reward", "picked", "evaluations")
            rows = {name: self[name] for name in shown if self.get(name) is not None}
        else:
            rows = {**self["genotype"], "epoch": self["epoch"], "selection": self["selection"]}
        parts.append(facts({name: _short(value) for name, value in rows.items()}))
        if self.drawing.is_file():
            parts.append(picture(self.drawing.read_bytes(), "the search, step by step"))
        return "".join(parts)


def _short(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
