"""The gradients of Eqs. 5 and 8, curiosity, the buffer, and whole searches on an enumerable reward."""

from itertools import product
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from ean_core.scheme import ConnectionScheme
from ean_core.strategies.advantage import Authors
from ean_core.strategies.base import to_bits
from ean_core.strategies.controller import Controller
from ean_core.strategies.policy_gradient import PolicyGradient, reinforce_loss, replay_loss
from ean_core.strategies.replay import ReplayBuffer
from ean_core.strategies.rnd import Curiosity
from ean_testing.synthetic import BLOCKS, OPTIMUM, reward

M = sum(BLOCKS)


def random_bits(n: int, seed: int = 0) -> torch.Tensor:
    return to_bits(
        [ConnectionScheme.random(BLOCKS, generator=torch.Generator().manual_seed(seed + i)) for i in range(n)]
    )


def gradients(controller: Controller, loss: torch.Tensor) -> list[torch.Tensor]:
    controller.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in controller.parameters() if p.grad is not None]


@pytest.fixture
def controller() -> Controller:
    torch.manual_seed(0)
    return Controller(M)


def test_probabilities_are_a_softmax_of_two_tempered_logits(controller: Controller) -> None:
    logits = controller.fc2(torch.relu(controller.fc1(torch.zeros(20)))).detach() / 5
    expected = [float(torch.exp(logits[2 * i + 1]) / torch.exp(logits[2 * i : 2 * i + 2]).sum()) for i in range(M)]
    assert_close(controller.probabilities(), torch.tensor(expected))


def test_gradient_of_eq_5_is_that_of_a_loop(controller: Controller) -> None:
    bits, advantage = random_bits(3), torch.tensor([1.5, -0.5, 0.25])
    ours = gradients(controller, reinforce_loss(controller.log_probs(bits), advantage))
    total = torch.zeros(())
    for j in range(3):
        for i in range(M):
            logits = controller.fc2(torch.relu(controller.fc1(torch.zeros(20))))[2 * i : 2 * i + 2] / 5
            p = torch.exp(logits[1]) / (torch.exp(logits[0]) + torch.exp(logits[1]))
            total = total + advantage[j] * torch.log(p if bits[j, i] else 1 - p)
    assert_close(ours, gradients(controller, -total / 3))


def test_gradient_in_closed_form(controller: Controller) -> None:
    # d log softmax / d logit = (indicator - probability) / temperature
    bits, advantage = random_bits(2), torch.tensor([2.0, -1.0])
    gradients(controller, reinforce_loss(controller.log_probs(bits), advantage))
    slope = -((bits - controller.probabilities()) * advantage[:, None]).mean(0) / 5
    assert_close(controller.fc2.bias.grad, torch.stack([-slope, slope], 1).flatten())


def test_zero_input_leaves_the_first_matrix_as_it_is(controller: Controller) -> None:
    gradients(controller, reinforce_loss(controller.log_probs(random_bits(3)), torch.ones(3)))
    assert not controller.fc1.weight.grad.any()
    assert controller.fc1.bias.grad.any()


@pytest.mark.parametrize("clip", [None, 0.1])
def test_replay_at_ratio_one_is_reinforce(controller: Controller, clip: float | None) -> None:
    bits, advantage = random_bits(3), torch.tensor([1.5, -0.5, 0.25])
    log_p = controller.log_probs(bits)
    replayed = gradients(controller, replay_loss(log_p, log_p.exp().detach(), advantage, clip))
    assert_close(replayed, gradients(controller, reinforce_loss(controller.log_probs(bits), advantage)))


def test_replay_weights_every_block_by_its_ratio(controller: Controller) -> None:
    bits, advantage, old = random_bits(3), torch.tensor([1.5, -0.5, 0.25]), torch.rand(3, M) * 0.8 + 0.1
    ours = gradients(controller, replay_loss(controller.log_probs(bits), old, advantage))
    log_p = controller.log_probs(bits)
    ratio = (log_p.exp() / old).detach()
    assert_close(ours, gradients(controller, -(advantage[:, None] * ratio * log_p).sum(1).mean()))


def test_clipping_stops_the_gradient_of_a_bit_that_has_gained_enough() -> None:
    log_p = torch.tensor([[0.6, 0.6, 0.4]]).log().requires_grad_()
    old = torch.tensor([[0.5, 0.59, 0.5]])  # ratios 1.2, 1.02, 0.8
    replay_loss(log_p, old, torch.tensor([1.0]), clip=0.1).backward()
    assert_close(log_p.grad, -torch.tensor([[0.0, 0.6 / 0.59, 0.8]]))


def test_buffer_keeps_each_scheme_with_its_own_values() -> None:
    buffer, told = ReplayBuffer(30), []
    for step in range(40):
        bits = random_bits(3, seed=3 * step)
        told.append((bits, bits * 0.5 + step, bits.sum(1) + step, bits.sum(1) - step))  # rows that can be recognised
        buffer.add(*told[-1])
    assert len(buffer.entries) == 30
    for entry, (bits, probs, rewards, bonus) in zip(buffer.entries, told[10:], strict=True):
        assert torch.equal(entry.bits, bits)
        assert torch.equal(entry.probs, probs)
        assert torch.equal(entry.rewards, rewards)
        assert torch.equal(entry.bonus, bonus)
    again = ReplayBuffer()
    again.load_state_dict(buffer.state_dict())
    drawn = [b.sample(torch.Generator().manual_seed(7)) for b in (buffer, again)]
    assert torch.equal(drawn[0].bits * 0.5, drawn[1].probs - drawn[1].probs.floor())


def test_the_strategy_remembers_what_it_was_told_with_the_probabilities_of_that_time() -> None:
    strategy = PolicyGradient(BLOCKS, seed=1)
    for _ in range(3):
        asked = strategy.ask(3)
        table = strategy.controller().detach().exp()  # before it learns
        bonus = [note["curiosity"] for note in strategy.notes(asked)]
        strategy.tell(asked, [reward(s) for s in asked])
        entry = strategy.buffer.entries[-1]
        for j, scheme in enumerate(asked):
            assert entry.bits[j].tolist() == [float(b) for b in scheme]
            assert_close(entry.probs[j], torch.stack([table[i, int(b)] for i, b in enumerate(scheme)]))
            assert float(entry.rewards[j]) == reward(scheme)
            assert_close(float(entry.bonus[j]), bonus[j], rtol=1e-5, atol=1e-5)


def test_bonus_falls_for_what_is_repeated_and_stays_larger_for_the_new() -> None:
    torch.manual_seed(0)
    rnd = Curiosity(M)
    old, new = random_bits(1), 1 - random_bits(1)
    first = float(rnd.bonus(old))
    falling = []
    for _ in range(4):
        for _ in range(5):
            rnd.learn(old)
        falling.append(float(rnd.bonus(old)))
    assert first > falling[0] > falling[-1]
    assert float(rnd.bonus(new)) > 3 * falling[-1]
    both = rnd.bonus(torch.cat([old, new]))
    assert_close(both, torch.cat([rnd.bonus(old), rnd.bonus(new)]))  # a scheme at a time


def test_the_authors_baseline_is_a_moving_average_of_reward_and_bonus() -> None:
    strategy, expected = PolicyGradient(BLOCKS, seed=0, advantage="authors"), None
    for _ in range(3):
        asked = strategy.ask(3)
        mean = sum(reward(s) + n["curiosity"] for s, n in zip(asked, strategy.notes(asked), strict=True)) / 3
        strategy.tell(asked, [reward(s) for s in asked])
        expected = mean if expected is None else 0.95 * expected + 0.05 * mean
        assert isinstance(strategy.advantage, Authors)
        assert strategy.advantage.baseline == pytest.approx(expected, rel=1e-5)


def converged(seed: int, steps: int, **options: Any) -> tuple[ConnectionScheme, int, float]:
    """The answer of a search, the step from which the mean of p exceeds 0.9, and that mean at the end."""
    strategy, means = PolicyGradient(BLOCKS, seed=seed, **options), []
    for _ in range(steps):
        asked = strategy.ask(3)
        means.append(sum(note["p"] for note in strategy.notes(asked)) / 3)
        strategy.tell(asked, [reward(s) for s in asked])
    return strategy.best(), max(i for i, p in enumerate([0.0, *means]) if p < 0.9), sum(means[-5:]) / 5


@pytest.mark.parametrize(("form", "least"), [("authors", 0.95), ("normalised", 0.8)])
def test_finds_the_optimum_of_4096_schemes_and_converges_later_with_curiosity(form: str, least: float) -> None:
    everything = [ConnectionScheme.parse("".join(bits), BLOCKS) for bits in product("01", repeat=M)]
    assert max(everything, key=reward) == OPTIMUM
    curious = [converged(seed, 150, advantage=form) for seed in range(5)]
    assert [answer for answer, _, _ in curious] == [OPTIMUM] * 5
    assert min(mean for _, _, mean in curious) > least
    plain = [converged(seed, 60, advantage=form, curiosity=0.0) for seed in range(5)]
    assert min(mean for _, _, mean in plain) > 0.9
    assert sum(step for _, step, _ in plain) < sum(step for _, step, _ in curious)
