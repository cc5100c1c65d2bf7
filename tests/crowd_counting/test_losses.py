"""The density loss against plain loops, and what its documentation says of learning rates."""

import numpy as np
import pytest
import torch

from crowd_counting.losses import DensityLoss

GENERATOR = np.random.default_rng(0)
OUTPUT = torch.from_numpy(GENERATOR.normal(1, 1, (3, 1, 4, 5)).astype(np.float32))
DENSITY = torch.from_numpy(GENERATOR.random((3, 1, 4, 5)).astype(np.float32))


def loops(reduction: str, scale: float, weight: float, count_weight: float) -> tuple[float, float]:
    squares = counts = 0.0
    for out, true in zip(OUTPUT.tolist(), DENSITY.tolist(), strict=True):
        predicted = people = 0.0
        total = 0.0
        for out_row, true_row in zip(out[0], true[0], strict=True):
            for o, d in zip(out_row, true_row, strict=True):
                total += (o - scale * d) ** 2
                predicted += o / scale
                people += d
        squares += total / (20 if reduction == "mean" else 1)
        counts += abs(predicted - people)
    return weight * squares / 3, count_weight * counts / 3


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("scale", "weight", "count_weight"), [(1.0, 1.0, 0.0), (100.0, 2.0, 0.0), (7.0, 0.5, 0.3)])
def test_plain_loops(reduction: str, scale: float, weight: float, count_weight: float) -> None:
    losses = DensityLoss(reduction, scale, weight, count_weight)(OUTPUT, DENSITY)
    density, count = loops(reduction, scale, weight, count_weight)
    assert float(losses["loss_density"]) == pytest.approx(density, rel=1e-5)
    assert ("loss_count" in losses) is (count_weight > 0)
    if count_weight:
        assert float(losses["loss_count"]) == pytest.approx(count, rel=1e-5)


def test_batch_of_one_is_csrnets_own_loss() -> None:
    """Its code uses ``nn.MSELoss(size_average=False)`` on batches of one."""
    found = DensityLoss("sum", 1.0)(OUTPUT[:1], DENSITY[:1])["loss_density"]
    torch.testing.assert_close(found, torch.nn.MSELoss(reduction="sum")(OUTPUT[:1], DENSITY[:1]))


@pytest.mark.parametrize("scale", [10.0, 100.0])
def test_the_fit_that_sgd_reaches_does_not_depend_on_the_scale(scale: float) -> None:
    """A linear output from zero: the prediction is the same after any number of steps, the loss scale^2 times it."""

    def fit(s: float) -> tuple[torch.Tensor, float]:
        x = torch.linspace(0, 1, 20, dtype=torch.float64).view(1, 1, 4, 5)
        weight = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        optimizer, loss = torch.optim.SGD([weight], lr=0.1), DensityLoss(label_scale=s)
        for _ in range(5):
            value = loss(weight[0] * x + weight[1], 0.3 + 0.5 * x)["loss_density"]
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        return (weight.detach()[0] * x + weight.detach()[1]) / s, value.item()

    (one, loss_one), (other, loss_other) = fit(1.0), fit(scale)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert loss_other == pytest.approx(scale**2 * loss_one, rel=1e-4)


def test_half_precision_is_summed_in_float32() -> None:
    losses = DensityLoss("sum", 1.0)(torch.full((1, 1, 64, 64), 20.0, dtype=torch.bfloat16), torch.zeros(1, 1, 64, 64))
    assert losses["loss_density"].dtype == torch.float32
    assert float(losses["loss_density"]) == 400 * 64 * 64


@pytest.mark.parametrize(
    "options", [{"reduction": "max"}, {"label_scale": 0}, {"weight": -1}, {"count_weight": -1}, {"weight": 0}]
)
def test_mistakes(options: dict) -> None:
    with pytest.raises(ValueError, match="loss"):
        DensityLoss(**options)


def test_maps_of_two_sizes() -> None:
    with pytest.raises(ValueError, match="density map is 4x5, the data's 4x4"):
        DensityLoss()(OUTPUT, DENSITY[..., :4])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_processes_with_equal_shares_of_a_batch_average_to_the_whole(reduction: str) -> None:
    """It is a mean over images, so what several processes train on is what one would."""
    loss = DensityLoss(reduction, count_weight=0.5)
    whole = loss(OUTPUT, DENSITY)
    shares = [loss(OUTPUT[i : i + 1], DENSITY[i : i + 1]) for i in range(3)]
    for name, value in whole.items():
        torch.testing.assert_close(torch.stack([share[name] for share in shares]).mean(), value)
