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


AIMS = [{"metric": "accuracy", "weight": 3.0}, {"metric": "connections", "weight": 0.5, "direction": "down"}]


def test_aims_are_values_of_which_more_is_better_and_by_default_the_terms() -> None:
    reward = build_reward(aims=AIMS)
    assert reward.values(SCHEME, {"accuracy": 70.0}) == (70.0, -4)
    assert reward(SCHEME, {"accuracy": 70.0}) == pytest.approx(3 * 70 - 0.5 * 4)
    both = build_reward([{"metric": "accuracy"}], aims=AIMS)
    assert (both(SCHEME, {"accuracy": 70.0}), both.values(SCHEME, {"accuracy": 70.0})) == (70, (70, -4))


def test_an_aim_that_is_not_finite_fails_the_scheme() -> None:
    reward = build_reward([{"metric": "accuracy"}], aims=[{"metric": "accuracy"}, {"metric": "latency"}])
    assert math.isnan(reward(SCHEME, {"accuracy": 1.0, "latency": math.nan}))
    with pytest.raises(ValueError, match="no metric 'latency'"):
        reward(SCHEME, {"accuracy": 1.0})


@pytest.mark.parametrize("aims", [[], [{"metric": "mIoU"}], [{"metric": "mIoU"}] * 2, [{"name": "mIoU"}, {}]])
def test_fewer_than_two_aims(aims: list[dict]) -> None:
    with pytest.raises(ValueError, match=r"search\.reward"):
        build_reward(aims=aims)


def test_config_makes_the_same_reward() -> None:
    for reward in (Reward(), Reward((Term("MAE", 2.0, "down"),), 3.0), build_reward(aims=AIMS)):
        assert build_reward(**reward.config) == reward
    assert set(Reward().config) == {"terms", "offset"}  # as searches of earlier versions have saved it


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
