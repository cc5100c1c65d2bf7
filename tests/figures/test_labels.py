"""Names that users chose, in pictures: as they are written, in legends too, and no wider than the picture."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from ean_core.figures import label, save_figure
from ean_core.figures.cost_bubbles import cost_bubbles
from ean_core.figures.heat_maps import HeatMap, heat_maps
from ean_core.figures.scheme_rows import mask_rows, scheme_row, scheme_rows
from ean_core.figures.strategy_comparison import strategy_comparison
from ean_core.scheme import ConnectionScheme

NAMES = ["cost $5^{ $_", "_first", "a $b$ c", "{x} 100 %", "a_very_long_name_" * 12]
SCHEME = ConnectionScheme.parse("1-01", (1, 2))


def figure_of(kind: str, name: str) -> Figure:
    if kind == "heat maps":
        image = np.zeros((8, 8, 3), np.uint8)
        return heat_maps([HeatMap(f"{name}\n{name}, 50 %", image, np.zeros((8, 8), np.float32))], name)
    if kind == "schemes":
        return scheme_rows([scheme_row(name, SCHEME), *mask_rows([], (1, 2), label(name), "SE", True)])
    if kind == "comparison":
        return strategy_comparison({name: [[0.1, 0.2]]}, {name: [0.2]}, "reward", 8)
    return cost_bubbles([{"name": name, "increment": 1.0, "low": 0, "high": 2, "parameters": 9, "macs": 9}], name)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize("kind", ["heat maps", "schemes", "comparison", "bubbles"])
def test_names_are_written_as_they_are(kind: str, name: str, tmp_path: Path) -> None:
    figure = figure_of(kind, name)
    save_figure(figure, tmp_path / "a.png", dpi=100)
    texts = [text for text in figure.findobj(Text) if text.get_visible() and label(name)[:8] in text.get_text()]
    assert len(texts) >= (1 if kind == "bubbles" else 2)
    assert not any(text._preprocess_math(text.get_text())[1] for text in texts)
    width = figure.bbox.width
    for text in texts:
        box = text.get_window_extent()
        assert 0 <= box.x0 <= box.x1 <= width


def test_a_label() -> None:
    assert label("a_b") == "a_b"
    assert label("5$ or 6$") == r"5\$ or 6\$"
    assert label("0123456789", 7) == "012…789"
    assert not label("_a").startswith("_")
    assert label("_a").endswith("_a")
