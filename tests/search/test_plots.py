"""search.png from any log."""

from pathlib import Path

import pytest
from matplotlib.image import imread

from ean_core.figures.search_history import search_history
from ean_core.search.loop import search
from ean_core.strategies.base import build_strategy
from ean_testing.synthetic import BLOCKS, evaluate


@pytest.mark.parametrize("name", ["policy_gradient", "hsp"])  # with and without curiosity and p
def test_search_draws_its_log(tmp_path: Path, name: str) -> None:
    search(build_strategy(name, BLOCKS, seed=3), evaluate, 5, 3, tmp_path)
    picture = imread(tmp_path / "search.png")
    assert picture.shape[:2] == (990, 1430)
    assert picture.std() > 0.1


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="has no candidate"):
        search_history([], "accuracy")
