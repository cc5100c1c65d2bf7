"""search.png from any log."""

from pathlib import Path

import pytest
from matplotlib.image import imread

from ean_core.analysis.plots import plot_search
from ean_core.search.loop import search
from ean_core.search.strategy import build_strategy
from ean_testing.synthetic import BLOCKS, evaluate


@pytest.mark.parametrize("name", ["policy_gradient", "hsp"])  # with and without curiosity and p
def test_search_draws_its_log(tmp_path: Path, name: str) -> None:
    search(build_strategy(name, BLOCKS, seed=3), evaluate, 5, 3, tmp_path)
    picture = imread(tmp_path / "search.png")
    assert picture.shape[:2] == (990, 1430)
    assert picture.std() > 0.1


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no candidate"):
        plot_search(tmp_path / "search.jsonl", tmp_path / "search.png")
