"""Searches do not depend on the unit of the reward, and find the best of small problems in any unit."""

import math
import statistics
from copy import deepcopy
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from ean_core.errors import UserError
from ean_core.scheme import ConnectionScheme
from ean_core.strategies.advantage import Authors, Normalised, Running
from ean_core.strategies.base import Strategy, build_strategy
from ean_testing.runs import load


@pytest.fixture(scope="module")
def problems() -> ModuleType:
    return load("benchmarks/reward_scale.py")


def proposals(problems: ModuleType, config: dict[str, Any], scale: float, offset: float, steps: int = 40) -> list[Any]:
    """The schemes of some steps and the answer; a candidate in twenty fails."""
    strategy: Any = build_strategy(config, (3, 4, 5), seed=1)
    rewards, found = problems.rewards_of_all(12, 1), []
    for _ in range(steps):
        schemes = strategy.ask(3)
        found += schemes
        own = [problems.place(scheme) for scheme in schemes]
        strategy.tell(schemes, [math.nan if i % 20 == 7 else scale * float(rewards[i]) + offset for i in own])
    return [*found, strategy.most_probable()]


UNITS = [(2.0**-20, 0.0), (0.01, 0.0), (100.0, 0.0), (0.01, 1000.0), (100.0, 7e4)]


@pytest.mark.parametrize(
    ("config", "steps", "units"),
    [
        ({"type": "policy_gradient"}, 60, UNITS),
        ({"type": "policy_gradient", "clip": 0.1}, 30, UNITS[-2:]),
        ({"type": "enas", "lr": 5e-3}, 25, UNITS[-3:]),
    ],
    ids=["policy gradient", "clipped", "enas"],
)
def test_the_same_schemes_in_any_unit(problems: ModuleType, config: dict[str, Any], steps: int, units: Any) -> None:
    plain = proposals(problems, config, 1.0, 0.0, steps)
    assert len(set(plain)) > steps / 2
    for scale, offset in units:
        assert proposals(problems, config, scale, offset, steps) == plain, (scale, offset)


def test_powers_of_two_give_the_same_controller_to_the_bit(problems: ModuleType) -> None:
    weights = []
    for scale in (1.0, 2.0**-30, 2.0**10):
        strategy: Any = build_strategy("policy_gradient", (12,), 3)
        problems.answer(strategy, problems.rewards_of_all(12, 3), scale, 0.0, steps=30)
        weights.append(torch.nn.utils.parameters_to_vector(strategy.controller.parameters()).detach())
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


def test_the_authors_form_depends_on_the_unit(problems: ModuleType) -> None:
    config = {"type": "policy_gradient", "advantage": "authors"}
    assert proposals(problems, config, 1.0, 0.0) != proposals(problems, config, 0.01, 0.0)


def test_averages_are_those_of_a_loop() -> None:
    running, steps = (
        Running(0.9),
        [torch.randn(3, generator=torch.Generator().manual_seed(i)) * 4 + 7 for i in range(6)],
    )
    mean = variance = 0.0
    for number, step in enumerate(steps):
        running.update(step)
        keep = 0.9 if number else 0.0
        values = step.double().tolist()
        mean = keep * mean + (1 - keep) * sum(values) / 3
        variance = keep * variance + (1 - keep) * sum((x - mean) ** 2 for x in values) / 3
    assert running.mean == pytest.approx(mean, rel=1e-12)
    expected = torch.tensor([(x - mean) / variance**0.5 for x in (5.0, mean, 11.0)], dtype=torch.float64)
    assert_close(running.standard(torch.tensor([5.0, mean, 11.0], dtype=torch.float64)), expected, atol=2**-17, rtol=0)


def test_the_first_step_is_normalised_by_itself() -> None:
    running, values = Running(0.95), torch.tensor([1.0, 2.0, 6.0])
    running.update(values)
    deviation = (14 / 3) ** 0.5  # of -2, -1, 3
    assert_close(running.standard(values), torch.tensor([-2.0, -1.0, 3.0]).double() / deviation, atol=2**-17, rtol=0)


@pytest.mark.parametrize("value", [0.0, 0.1, -54.3, 1e9])
def test_equal_rewards_teach_nothing_and_only_curiosity_counts(value: float) -> None:
    for curiosity in (0.0, 1.0):
        strategy: Any = build_strategy({"type": "policy_gradient", "curiosity": curiosity}, (4, 4), 0)
        before = strategy.controller.probabilities()
        for _ in range(15):
            schemes = strategy.ask(3)
            strategy.tell(schemes, [value + 1e-15 * abs(value) * i for i in range(3)])  # equal but for rounding
        after = strategy.controller.probabilities()
        assert torch.isfinite(after).all()
        assert torch.equal(before, after) == (curiosity == 0)


def test_a_bonus_of_average_size_is_worth_as_many_deviations_as_its_weight() -> None:
    form = Normalised(curiosity=2.0, decay=0.95)
    rewards, bonus = torch.tensor([10.0, 30.0], dtype=torch.float64), torch.tensor([1.0, 3.0])
    form.update(rewards, bonus)  # mean 20, deviation 10; mean bonus 2
    assert_close(form(rewards, bonus), torch.tensor([-1.0 + 2 * (0.5 - 1), 1.0 + 2 * (1.5 - 1)]))
    authors = Authors(curiosity=2.0, decay=0.95)
    authors.update(rewards, bonus)
    assert_close(authors(rewards, bonus), torch.tensor([12.0 - 24, 36.0 - 24]))


@pytest.mark.parametrize("m", [9, 16])
def test_finds_the_best_where_random_search_does_not(problems: ModuleType, m: int) -> None:
    found: dict[str, list[float]] = {"policy_gradient": [], "random": []}
    for seed in range(8):
        rewards = problems.rewards_of_all(m, seed)
        assert float(rewards.max()) == pytest.approx(1.017)
        for name, own in found.items():
            own.append(problems.answer(build_strategy(name, (m,), seed), rewards, 0.01, 0.5))
    assert statistics.fmean(found["policy_gradient"]) > max(1.0, statistics.fmean(found["random"]))


@pytest.mark.parametrize("form", ["normalised", "authors"])
def test_state_continues_identically_in_both_forms(form: str) -> None:
    def told(strategy: Strategy, count: int) -> list[ConnectionScheme]:
        found: list[ConnectionScheme] = []
        for _ in range(count):
            schemes = strategy.ask(3)
            found += schemes
            strategy.tell(schemes, [sum(scheme.bits) * 0.01 for scheme in schemes])
        return found

    config = {"type": "policy_gradient", "advantage": form}
    first, second = build_strategy(config, (3, 4), 1), build_strategy(config, (3, 4), 1)
    told(first, 14)
    second.load_state_dict(deepcopy(first.state_dict()))
    assert told(second, 10) == told(first, 10)


def test_another_form_is_refused() -> None:
    with pytest.raises(UserError, match="advantage must be one of normalised, authors, got 'ranked'"):
        build_strategy({"type": "policy_gradient", "advantage": "ranked"}, (2, 2))
    # a state of the one form is none of the other
    state = build_strategy({"type": "policy_gradient", "advantage": "authors"}, (2, 2)).state_dict()
    with pytest.raises(LookupError):
        build_strategy("policy_gradient", (2, 2)).load_state_dict(state)
