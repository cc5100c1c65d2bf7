"""benchmarks/original_cells.py: what ours is measured against is the published supernet, and its step is right."""

from types import ModuleType
from typing import Any

import pytest
import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

LR, MOMENTUM, DECAY = 0.05, 0.9, 0.01


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(6, 3, 8, 8, generator=generator, dtype=torch.float64)
    return images, torch.randint(3, (6,), generator=generator)


@pytest.fixture
def search(original: ModuleType) -> tuple[Any, torch.optim.SGD, torch.optim.Adam]:
    """A small supernet and its optimizers, whose momentum has begun."""
    torch.manual_seed(0)
    model = original.OriginalSupernet(4, 3, 3, image_size=8).double()
    for parameter in model.architecture():
        parameter.data.normal_()
    sgd = torch.optim.SGD(model.weights(), LR, momentum=MOMENTUM, weight_decay=DECAY)
    adam = torch.optim.Adam(model.architecture(), 0.01)
    original.search_step_original(model, sgd, adam, batch(0), batch(1), LR, 1)
    return model, sgd, adam


def test_size(original: ModuleType) -> None:
    with torch.device("meta"):
        full, bare = original.OriginalSupernet(), original.OriginalSupernet(attentions=("none",))
    assert sum(p.numel() for p in full.parameters()) == 3_309_674
    assert sum(p.numel() for p in bare.parameters()) - 2 * 14 == 1_930_842  # betas of a single candidate
    assert sum(p.numel() for p in full.architecture()) == 2 * 14 * (8 + 6)
    assert len(full.weights()) + 4 == len(list(full.parameters()))


def test_second_order_gradient(original: ModuleType, search: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against autograd through the step of the weights; a small difference, so that little but rounding is left."""
    monkeypatch.setattr(original, "STEP", 1e-5)
    model, sgd, _ = search
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    weights = {names[id(w)]: w for w in model.weights()}
    fixed = {names[id(a)]: a for a in model.architecture()}

    def loss(values: dict[str, torch.Tensor], data: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        state = {name: buffer.clone() for name, buffer in buffers.items()}
        return cross_entropy(functional_call(model, {**values, **fixed, **state}, (data[0],)), data[1])

    slopes = torch.autograd.grad(loss(weights, batch(2)), list(weights.values()), create_graph=True)
    moved = {
        name: w - LR * (MOMENTUM * sgd.state[w]["momentum_buffer"] + slope + DECAY * w)
        for (name, w), slope in zip(weights.items(), slopes, strict=True)
    }
    expected = torch.autograd.grad(loss(moved, batch(3)), model.architecture())
    here = torch.autograd.grad(loss(weights, batch(3)), model.architecture())

    before = {name: w.detach().clone() for name, w in weights.items()}
    original.architecture_gradient(model, sgd, batch(2), batch(3), LR)
    for parameter, gradient, first_order in zip(model.architecture(), expected, here, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-8)
        assert (first_order - gradient).norm() > 0.01 * gradient.norm()
    for name, w in weights.items():
        torch.testing.assert_close(w, before[name], rtol=0, atol=1e-12)


def test_a_step(original: ModuleType, search: Any) -> None:
    """The architecture moves first, by the validation batch, and the weights then see it; their gradient is clipped."""
    model, sgd, adam = search
    model.classifier.weight.data.mul_(30)
    weights, architecture = model.weights(), model.architecture()
    old_weights, old = [w.detach().clone() for w in weights], [a.detach().clone() for a in architecture]
    momentum = [sgd.state[w]["momentum_buffer"].clone() for w in weights]
    adam.state.clear()
    slopes = torch.autograd.grad(original.loss_of(model, batch(3)), architecture)
    loss = original.search_step_original(model, sgd, adam, batch(2), batch(3), LR, 1)
    for a, before, slope in zip(architecture, old, slopes, strict=True):
        torch.testing.assert_close(a.detach(), before - 0.01 * slope / (slope.abs() + 1e-8))  # Adam's first step

    new = [w.detach().clone() for w in weights]
    for w, before in zip(weights, old_weights, strict=True):
        w.data.copy_(before)
    again = original.loss_of(model, batch(2))
    gradients = torch.autograd.grad(again, weights)
    scale = 5 / float(torch.stack([g.norm() for g in gradients]).norm())
    assert scale < 1
    assert float(loss) == pytest.approx(again.item())
    for w, before, g, b in zip(new, old_weights, gradients, momentum, strict=True):
        expected = before - LR * (MOMENTUM * b + scale * g + DECAY * before)
        torch.testing.assert_close(w, expected, rtol=1e-6, atol=1e-8)
