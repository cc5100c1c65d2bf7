"""What all strategies promise, and what is particular to each."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from ean_core.checkpoint import read_checkpoint, write_checkpoint
from ean_core.scheme import ConnectionScheme
from ean_core.strategies.base import STRATEGIES, Strategy, build_strategy
from ean_testing.synthetic import BLOCKS, OPTIMUM, reward

M = sum(BLOCKS)


@pytest.fixture(params=STRATEGIES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def steps(strategy: Strategy, count: int, n: int = 3) -> Iterator[list[ConnectionScheme]]:
    for _ in range(count):
        asked = strategy.ask(n)
        strategy.tell(asked, [reward(s) for s in asked])
        yield asked


def test_asks_for_exactly_n_schemes_of_these_blocks(name: str) -> None:
    strategy = build_strategy({"type": name}, BLOCKS, seed=0)
    for n in (1, 2, 5):
        asked = strategy.ask(n)
        assert [scheme.blocks for scheme in asked] == [BLOCKS] * n
        strategy.tell(asked, [reward(s) for s in asked])
    assert strategy.best().blocks == BLOCKS


def test_seed_determines_everything(name: str) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    runs = [list(steps(build_strategy({"type": name}, BLOCKS, seed), 15)) for seed in (5, 5, 6)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)
    assert list(steps(build_strategy({"type": name}, BLOCKS, 5), 15)) == runs[0] == runs[1]
    assert (runs[0] == runs[2]) == (name in ("hsp", "exhaustive"))


def test_state_continues_identically(name: str, tmp_path: Any) -> None:
    first = build_strategy({"type": name}, BLOCKS, seed=2)
    list(steps(first, 20))
    write_checkpoint({"strategy": first.state_dict()}, tmp_path / "state.pth")
    rest = list(steps(first, 15))
    second = build_strategy({"type": name}, BLOCKS, seed=2)
    second.load_state_dict(read_checkpoint(tmp_path / "state.pth")["strategy"])
    assert list(steps(second, 15)) == rest
    assert second.best() == first.best()


def test_a_failed_evaluation_teaches_nothing_and_stops_nothing(name: str) -> None:
    strategy = build_strategy({"type": name}, BLOCKS, seed=0)
    list(steps(strategy, 2))
    asked = strategy.ask(3)
    strategy.tell(asked, [float("nan")] * 3)
    asked = strategy.ask(3)
    strategy.tell(asked, [reward(asked[0]), float("nan"), reward(asked[2])])
    assert len(list(steps(strategy, 12))) == 12


@pytest.mark.parametrize("config", [{"type": "annealing"}, {}, "annealing"])
def test_unknown_name_lists_the_known(config: Any) -> None:
    with pytest.raises(ValueError, match="policy_gradient, random, hsp, genetic, enas, darts"):
        build_strategy(config, BLOCKS)


def test_unknown_option_and_name_alone() -> None:
    with pytest.raises(ValueError, match="strategy random"):
        build_strategy({"type": "random", "rate": 1}, BLOCKS)
    assert build_strategy("random", BLOCKS).ask(1) == build_strategy({"type": "random", "p": 0.5}, BLOCKS).ask(1)


def test_random_density() -> None:
    asked = build_strategy({"type": "random", "p": 0.25}, BLOCKS).ask(400)
    assert sum(s.density for s in asked) / 400 == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / 400 / M) ** 0.5)


def test_hsp_enumerates_every_n_with_all_offsets() -> None:
    regular = {ConnectionScheme.every(BLOCKS, n, k) for n in range(1, M + 1) for k in range(n)}
    asked = build_strategy("hsp", BLOCKS).ask(len(regular))
    assert set(asked) == regular
    assert [s.density for s in asked[:4]] == [1, 0.5, 0.5, pytest.approx(1 / 3)]
    third = build_strategy({"type": "hsp", "n": 3}, BLOCKS)
    assert [str(s).replace("-", "")[:4] for s in third.ask(4)] == ["1001", "0100", "0010", "1001"]


def test_hsp_refuses_nonsense() -> None:
    for options in ({"n": 0}, {"max_n": 0}):
        with pytest.raises(ValueError):
            build_strategy({"type": "hsp", **options}, BLOCKS)


def test_genetic_without_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"pip install 'ean\[search\]'"):
        build_strategy("genetic", BLOCKS)


def test_genetic_beats_its_first_generation() -> None:
    strategy = build_strategy({"type": "genetic", "population": 10}, BLOCKS, seed=0)
    generations = list(steps(strategy, 12, n=10))
    means = [sum(map(reward, g)) / 10 for g in generations]
    assert means[-1] > means[0] + 2
    assert strategy.best() == max((s for g in generations for s in g), key=reward)


def aims(scheme: ConnectionScheme) -> tuple[float, float]:
    return reward(scheme), scheme.sparsity


def told_aims(strategy: Any, generations: int) -> list[list[ConnectionScheme]]:
    """Generations of ten whose rewards are all the same: what is learned is learned from the aims."""
    drawn = []
    for _ in range(generations):
        drawn.append(strategy.ask(10))
        strategy.tell_aims(drawn[-1], [0.0] * 10, [aims(scheme) for scheme in drawn[-1]])
    return drawn


def test_genetic_sorts_by_the_aims() -> None:
    generations = told_aims(build_strategy({"type": "genetic", "population": 10}, BLOCKS, seed=0), 12)

    def surpassed(scheme: ConnectionScheme) -> int:
        """How many schemes of the first generation are worse in both aims or equal in one."""
        return sum(all(a >= b for a, b in zip(aims(scheme), aims(other), strict=True)) for other in generations[0])

    means = [sum(map(surpassed, g)) / 10 for g in (generations[0], generations[-1])]
    assert means[1] > means[0] + 2
    assert min(s.sparsity for s in generations[-1]) < 0.7 < max(s.sparsity for s in generations[-1])  # spread out


def test_genetic_with_aims_continues_identically(tmp_path: Any) -> None:
    first: Any = build_strategy({"type": "genetic", "population": 10}, BLOCKS, seed=2)
    told_aims(first, 3)
    write_checkpoint({"strategy": first.state_dict()}, tmp_path / "state.pth")
    rest = told_aims(first, 3)
    second: Any = build_strategy({"type": "genetic", "population": 10}, BLOCKS, seed=2)
    second.load_state_dict(read_checkpoint(tmp_path / "state.pth")["strategy"])
    assert told_aims(second, 3) == rest


def test_genetic_with_one_aim_is_the_genetic_of_that_reward() -> None:
    one, two = (build_strategy({"type": "genetic", "population": 6}, BLOCKS, seed=1) for _ in range(2))
    for asked in steps(one, 5, n=6):
        assert two.ask(6) == asked
        two.tell_aims(asked, [reward(s) for s in asked], [(reward(s),) for s in asked])  # type: ignore[attr-defined]


def test_genetic_takes_schemes_it_did_not_ask_for() -> None:
    strategy = build_strategy("genetic", BLOCKS, seed=0)
    strategy.tell([OPTIMUM], [reward(OPTIMUM)])
    assert strategy.best() == OPTIMUM


def test_enas_learns_and_its_probabilities_sum_to_one() -> None:
    strategy: Any = build_strategy({"type": "enas", "lr": 5e-3}, (2, 1), seed=0)
    everything = [ConnectionScheme.parse(f"{i:03b}", (2, 1)) for i in range(8)]
    bits = torch.tensor([s.bits for s in everything]).float()
    target = ConnectionScheme.parse("10-1", (2, 1))
    for _ in range(150):
        asked = strategy.ask(4)
        strategy.tell(asked, [sum(a == b for a, b in zip(s, target, strict=True)) for s in asked])
    assert float(strategy._unroll(8, given=bits)[1].detach().sum(1).exp().sum()) == pytest.approx(1, abs=1e-5)
    assert strategy.most_probable() == strategy.best() == target


def test_darts_follows_the_gradient_it_is_given_and_alternates() -> None:
    wanted = torch.tensor([float(b) for b in OPTIMUM])
    calls: list[Any] = []

    def loss(gates: torch.Tensor, step: int) -> torch.Tensor:
        calls.append(step)
        return (gates - wanted).square().sum()

    config = {"type": "darts", "train_weights": lambda gates: calls.append(tuple(gates.shape)), "inner_steps": 2}
    strategy: Any = build_strategy(config, BLOCKS, seed=0, gate_loss=loss)
    before = strategy.gates.detach()
    first = strategy.ask(3)[0]
    assert calls == [(M,), 0, (M,), 1]
    assert ((strategy.gates.detach() - before) * (wanted - 0.5) > 0).all()  # every gate moved towards its target
    assert first == strategy.most_probable() == OPTIMUM
    assert strategy.config == {"type": "darts", "inner_steps": 2, "seed": 0}


def test_darts_without_a_loss_uses_the_rewards() -> None:
    strategy: Any = build_strategy("darts", BLOCKS, seed=0)
    list(steps(strategy, 40))
    assert strategy.most_probable() == strategy.best() == OPTIMUM
