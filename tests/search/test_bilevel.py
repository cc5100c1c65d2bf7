"""The two steps of a search against derivatives of the whole objective, and what they must leave as it was."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from ean_core.errors import UserError
from ean_core.search.bilevel import architecture_gradient, search_step

RATES = (0.3, 0.1)  # of the two groups of weights
DECAY, MOMENTUM = 0.05, 0.9


class Mixed(nn.Module):
    """Two layers; between them a mixture of three smooth functions."""

    def __init__(self, unused: bool = False) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.first = nn.Parameter(torch.randn(4, 5, generator=draw, dtype=torch.float64))
        self.second = nn.Parameter(torch.randn(5, generator=draw, dtype=torch.float64))
        self.alpha = nn.Parameter(torch.randn(3, generator=draw, dtype=torch.float64))
        self.beta = nn.Parameter(torch.randn(2, generator=draw, dtype=torch.float64))
        self.unused = nn.Parameter(torch.ones(3, dtype=torch.float64)) if unused else None

    def forward(self, x: Tensor) -> Tensor:
        h = x @ self.first
        a, b = self.alpha.softmax(0), self.beta.softmax(0)
        h = a[0] * torch.tanh(h) + a[1] * torch.sin(h) + a[2] * h
        return (b[0] * h + b[1] * torch.sigmoid(h)) @ self.second


def losses(model: nn.Module) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    draw = torch.Generator().manual_seed(1)
    batches = [torch.randn(8, 5, generator=draw, dtype=torch.float64) for _ in range(2)]
    return tuple(lambda b=b: (model(b[:, :4]) - b[:, 4]).square().mean() for b in batches)  # type: ignore[return-value]


def prepare(momentum: float = MOMENTUM, unused: bool = False) -> tuple[Mixed, torch.optim.SGD]:
    """A model behind three steps of SGD, so that there are momentum buffers."""
    model = Mixed(unused)
    groups = [{"params": [model.first], "lr": RATES[0]}, {"params": [model.second], "lr": RATES[1]}]
    if model.unused is not None:
        groups[0]["params"].append(model.unused)
    optimizer = torch.optim.SGD(groups, momentum=momentum, weight_decay=DECAY)
    train, _ = losses(model)
    for _ in range(3):
        optimizer.zero_grad()
        (train() * 0.1).backward()
        optimizer.step()
    model.zero_grad()
    return model, optimizer


def unrolled(model: Mixed, optimizer: torch.optim.SGD, use_buffers: bool = True) -> float:
    """D_val's loss behind the step that SGD would take, from scratch."""
    train, val = losses(model)
    weights = (model.first, model.second)
    before = [w.detach().clone() for w in weights]
    gradients = torch.autograd.grad(train(), weights)
    with torch.no_grad():
        for w, g, lr in zip(weights, gradients, RATES, strict=True):
            buffer = optimizer.state[w]["momentum_buffer"] if use_buffers else 0
            w -= lr * (MOMENTUM * buffer + g + DECAY * w)
        value = val().item()
        for w, old in zip(weights, before, strict=True):
            w.copy_(old)
    return value


def differences(model: Mixed, objective: Callable[[], float], step: float = 1e-5) -> Tensor:
    """Central differences of an objective by every entry of alpha and beta."""
    slopes = []
    for parameter in (model.alpha, model.beta):
        for i in range(len(parameter)):
            sides = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter[i] += sign * step
                sides.append(objective())
                with torch.no_grad():
                    parameter[i] -= sign * step
            slopes.append((sides[0] - sides[1]) / (2 * step))
    return torch.tensor(slopes, dtype=torch.float64)


def gradient(model: Mixed, optimizer: torch.optim.Optimizer, order: int) -> Tensor:
    train, val = losses(model)
    _, found = architecture_gradient(model, [model.alpha, model.beta], optimizer, train, val, order)
    return torch.cat([part for part in found if part is not None])


def test_first_order_is_the_slope_of_the_loss_on_d_val() -> None:
    model, optimizer = prepare()
    _, val = losses(model)
    expected = differences(model, lambda: val().item())
    torch.testing.assert_close(gradient(model, optimizer, 1), expected, rtol=1e-6, atol=1e-8)


def test_second_order_is_the_slope_of_the_unrolled_objective() -> None:
    """With the buffers; without them, as in the released code, another slope would come out."""
    model, optimizer = prepare()
    found = gradient(model, optimizer, 2)
    expected = differences(model, lambda: unrolled(model, optimizer))
    error = (found - expected).norm() / expected.norm()
    assert error < 1e-4
    for other in (
        differences(model, lambda: unrolled(model, optimizer, use_buffers=False)),
        gradient(model, optimizer, 1),
    ):
        assert (other - expected).norm() / expected.norm() > 100 * max(error, 1e-6)


def test_second_order_before_the_first_step() -> None:
    """There are no buffers yet, which counts as zero."""
    model = Mixed()
    groups = [{"params": [model.first], "lr": RATES[0]}, {"params": [model.second], "lr": RATES[1]}]
    optimizer = torch.optim.SGD(groups, momentum=MOMENTUM, weight_decay=DECAY)
    expected = differences(model, lambda: unrolled(model, optimizer, use_buffers=False))
    assert (gradient(model, optimizer, 2) - expected).norm() / expected.norm() < 1e-4


def test_a_weight_that_nothing_reaches_takes_no_step() -> None:
    plain, with_unused = prepare(), prepare(unused=True)
    torch.testing.assert_close(gradient(*with_unused, 2), gradient(*plain, 2), rtol=0, atol=0)


class Noisy(nn.Module):
    """With all that a pass may leave behind: running statistics, random numbers, gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 1))
        self.alpha = nn.Parameter(torch.zeros(2))
        self.drawn: list[Tensor] = []
        self.layers[2].register_forward_hook(lambda module, inputs, output: self.drawn.append(output == 0))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) * self.alpha.softmax(0)[0]


def noisy() -> tuple[Noisy, torch.optim.SGD, list[Callable[[], Tensor]]]:
    torch.manual_seed(0)
    model = Noisy()
    batches = [torch.randn(16, 4) for _ in range(2)]
    optimizer = torch.optim.SGD(model.layers.parameters(), lr=0.1, momentum=0.9)
    return model, optimizer, [lambda x=x: model(x).square().mean() for x in batches]


@pytest.mark.parametrize("order", [1, 2])
def test_the_step_of_the_architecture_leaves_no_trace(order: int) -> None:
    model, optimizer, (train, val) = noisy()
    for _ in range(2):
        train().backward()
        optimizer.step()
        model.zero_grad()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    _, (slope,) = architecture_gradient(model, [model.alpha], optimizer, train, val, order)
    assert slope is not None
    assert slope.abs().sum() > 0
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(norm.track_running_stats for norm in model.modules() if isinstance(norm, nn.BatchNorm1d))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_all_passes_of_d_train_draw_the_same_random_numbers() -> None:
    model, optimizer, (train, val) = noisy()
    adam = torch.optim.Adam([model.alpha])
    search_step(model, [model.alpha], optimizer, adam, train, val, order=2)
    virtual, _, above, below, real = (zeros[:4] for zeros in model.drawn)
    for other in (above, below, real):
        assert torch.equal(virtual, other)
    assert 0 < virtual.float().mean() < 1


@pytest.mark.parametrize("clip", [None, 1e-3])
def test_the_weights_take_the_step_of_a_plain_training(clip: float | None) -> None:
    """Clipped by the norm of their own gradient, however large that of the architecture is."""
    model, optimizer = prepare()
    other, other_optimizer = prepare()
    train, val = losses(model)
    other_train, _ = losses(other)
    result = search_step(
        model, [model.alpha, model.beta], optimizer, torch.optim.SGD([model.alpha, model.beta], lr=1e6), train,
        lambda: 1e6 * val(), clip=clip,
    )  # fmt: skip
    with torch.no_grad():  # the architecture took its step first
        other.alpha.copy_(model.alpha)
        other.beta.copy_(model.beta)
    assert not torch.equal(model.alpha, prepare()[0].alpha)
    loss = other_train()
    loss.backward()
    if clip is not None:
        nn.utils.clip_grad_norm_([other.first, other.second], clip)
    other_optimizer.step()
    assert torch.equal(model.first, other.first)
    assert torch.equal(model.second, other.second)
    assert torch.equal(result.train, loss.detach())
    assert result.val is not None


def test_an_architecture_that_does_not_learn() -> None:
    model, optimizer = prepare()

    def forbidden() -> Tensor:
        raise AssertionError

    before = [p.detach().clone() for p in (model.alpha, model.beta, model.first)]
    adam = torch.optim.Adam([model.alpha, model.beta])
    result = search_step(
        model, [model.alpha, model.beta], optimizer, adam, losses(model)[0], forbidden, learn_architecture=False
    )
    assert result.val is None
    assert torch.equal(model.alpha, before[0])
    assert torch.equal(model.beta, before[1])
    assert not torch.equal(model.first, before[2])


def sgd(**options: object) -> Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]:
    return lambda weights: torch.optim.SGD(weights, lr=0.1, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("build", "order", "message"),
    [
        (sgd(), 3, "search.order must be 1 or 2, got 3"),
        (torch.optim.Adam, 2, "not of Adam"),
        (sgd(momentum=0.9, nesterov=True), 2, "not of SGD with nesterov"),
        (sgd(momentum=0.9, dampening=0.1), 2, "not of SGD with dampening"),
    ],
)
def test_steps_that_it_does_not_know(build: Callable, order: int, message: str) -> None:
    model, _ = prepare()
    with pytest.raises(UserError, match=message):
        gradient(model, build([model.first, model.second]), order)
