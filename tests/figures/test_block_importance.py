"""importance.png: every block once, its interval, and what cannot be measured."""

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.image import imread

from ean_core.errors import UserError
from ean_core.figures import save_figure
from ean_core.figures.block_importance import block_importance

NAN = math.nan
EFFECTS = [(1.0, 0.4, 1.6, 5, 5), (-0.5, -1.5, 0.5, 6, 4), (0.3, NAN, NAN, 9, 1), (NAN, NAN, NAN, 10, 0)]


def drawn(figure: Figure) -> dict[str, list[tuple[float, float]]]:
    """The points by their label in the legend."""
    axes = figure.axes[0]
    lines = {bar.get_label(): bar.lines[0] for bar in axes.containers if isinstance(bar, ErrorbarContainer)}
    lines |= {line.get_label(): line for line in axes.lines if not str(line.get_label()).startswith("_")}
    return {str(label): [(float(x), float(y)) for x, y in line.get_xydata()] for label, line in lines.items()}


def test_every_block_is_drawn_once_where_it_belongs() -> None:
    figure = block_importance((3, 1), EFFECTS)
    assert drawn(figure) == {
        "95 % interval without 0": [(1, 1.0)],
        "95 % interval with 0": [(2, -0.5)],
        "one scheme only on a side": [(3, 0.3)],
        "connected in all schemes, or in none": [(4, 0.0)],
    }
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1.1", "1.2", "1.3", "2.1"]
    bars = [bar.lines[2][0].get_segments()[0] for bar in axes.containers if isinstance(bar, ErrorbarContainer)]
    assert np.allclose(bars, [[[1, 0.4], [1, 1.6]], [[2, -1.5], [2, 0.5]]])
    assert "10 different schemes" in axes.get_title()


def test_a_deep_network_and_the_file(tmp_path: Path) -> None:
    effects = [(math.sin(i), math.sin(i) - 0.5, math.sin(i) + 0.5, 20, 30) for i in range(54)]
    figure = block_importance((18, 18, 18), effects)
    assert sum(map(len, drawn(figure).values())) == 54
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels[:2] == ["1.1", "1.3"]
    assert len(labels) == 27
    save_figure(figure, tmp_path / "importance.png")
    assert imread(tmp_path / "importance.png").std() > 0.05


def test_nothing_to_draw() -> None:
    with pytest.raises(UserError, match="no candidate of the search succeeded"):
        block_importance((2,), [])
