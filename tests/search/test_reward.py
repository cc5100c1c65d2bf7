import math

import pytest

from ean_core.scheme import ConnectionScheme
from ean_core.search import Reward, Term, build_reward

SCHEME = ConnectionScheme.parse("100-1011", (3, 4))  # 4 of 7 connected


def test_default_is_the_authors() -> None:
    assert Reward()(SCHEME, {"accuracy": 70.0}) == pytest.approx(70 + 2 * 3 / 7 - 54)


def test_terms_have_directions() -> None:
    reward = build_reward(
        [{"metric": "MAE", "direction": "down"}, {"metric": "latency", "weight": 0.1, "direction": "down"}]
    )
    assert reward(SCHEME, {"MAE": 90.0, "latency": 20.0}) == pytest.approx(-92)
    assert build_reward([{"metric": "mIoU"}, {"metric": "sparsity", "weight": 2}])(SCHEME, {"mIoU": 50}) > 50


def test_config_makes_the_same_reward() -> None:
    for reward in (Reward(), Reward((Term("MAE", 2.0, "down"),), 3.0)):
        assert build_reward(**reward.config) == reward


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_nan(value: float) -> None:
    assert math.isnan(Reward()(SCHEME, {"accuracy": value}))


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ([], "at least one term"),
        ([{"metric": "mIoU", "direction": "higher"}], "'up' or 'down'"),
        ([{"metric": "mIoU", "weight": -1}], "positive"),
        ([{"name": "mIoU"}], "reward"),
    ],
)
def test_mistakes(terms: list[dict], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build_reward(terms)


def test_a_metric_that_was_not_measured() -> None:
    with pytest.raises(ValueError, match=r"no metric 'accuracy'.*mIoU, sparsity"):
        Reward()(SCHEME, {"mIoU": 1.0})
