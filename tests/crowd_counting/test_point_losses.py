"""The Bayesian loss and DM-Count against plain loops, and the transport against linear programming."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from crowd_counting.bayesian_loss import BayesianLoss
from crowd_counting.dm_count import DMCountLoss
from crowd_counting.point_losses import PointLoss, squared_distances
from crowd_counting.transport import sinkhorn

GENERATOR = np.random.default_rng(0)
ROWS, COLUMNS, STRIDE = 4, 6, 8
DENSITY = torch.from_numpy(GENERATOR.random((3, 1, ROWS, COLUMNS)).astype(np.float32))
POINTS = [
    torch.tensor([[3.0, 4.5], [17.25, 9.0], [18.0, 9.5], [40.0, 30.0], [47.9, 31.9]]),
    torch.zeros(0, 2),
    torch.tensor([[24.0, 16.0]]),
]


def centres() -> list[tuple[float, float]]:
    return [((c + 0.5) * STRIDE, (r + 0.5) * STRIDE) for r in range(ROWS) for c in range(COLUMNS)]


def bayesian_loops(density: list[float], heads: list[list[float]], sigma: float, away: float | None) -> float:
    if not heads:
        return abs(sum(density))
    expected = [0.0] * len(heads)
    nobody = 0.0
    for people, (x, y) in zip(density, centres(), strict=True):
        distances = [math.hypot(x - a, y - b) for a, b in heads]
        likelihoods = [math.exp(-(d**2) / (2 * sigma**2)) for d in distances]
        background = 0.0
        if away is not None:
            background = math.exp(-((away - min(distances)) ** 2) / (2 * sigma**2))
        total = sum(likelihoods) + background
        for n, likelihood in enumerate(likelihoods):
            expected[n] += people * likelihood / total
        nobody += people * background / total
    return sum(abs(1 - value) for value in expected) + abs(nobody)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize(("sigma", "away", "scale"), [(8.0, 115.0, 1.0), (12.0, 20.0, 100.0)])
def test_the_bayesian_loss(background: bool, sigma: float, away: float, scale: float) -> None:
    loss = BayesianLoss(sigma, background, away, scale)
    found = loss(DENSITY * scale, POINTS, STRIDE)["loss_bayesian"]
    parts = [
        bayesian_loops(cells.flatten().tolist(), heads.tolist(), sigma, away if background else None)
        for cells, heads in zip(DENSITY, POINTS, strict=True)
    ]
    assert float(found) == pytest.approx(sum(parts) / 3, rel=1e-5)


def exact(heads: np.ndarray, share: np.ndarray, cost: np.ndarray) -> float:
    """Optimal transport as a linear program."""
    n, m = cost.shape
    sums = np.zeros((n + m, n * m))
    for i in range(n):
        sums[i, i * m : (i + 1) * m] = 1
    for j in range(m):
        sums[n + j, j::m] = 1
    return float(linprog(cost.ravel(), A_eq=sums, b_eq=np.concatenate([heads, share])).fun)


def test_the_transport_is_that_of_a_linear_program() -> None:
    """At a small regularisation; the plan that the potentials give has the marginals."""
    cost = squared_distances(POINTS[0], (ROWS, COLUMNS), STRIDE).double()
    share = (DENSITY[0].flatten() / DENSITY[0].sum()).double()
    heads = torch.full((5,), 0.2, dtype=torch.float64)
    f, g = sinkhorn(heads, share, cost, 0.5, 5000)
    plan = heads[:, None] * share * ((f[:, None] + g - cost) / 0.5).exp()
    torch.testing.assert_close(plan.sum(0), share, rtol=0, atol=1e-3)
    torch.testing.assert_close(plan.sum(1), heads, rtol=0, atol=1e-3)
    expected = exact(heads.numpy(), share.numpy(), cost.numpy())
    assert float(f @ heads + g @ share) == pytest.approx(expected, rel=0.01)
    assert float((plan * cost).sum()) == pytest.approx(expected, rel=0.01)


def test_far_costs_and_empty_cells_stay_finite() -> None:
    """exp(-C / e) is 0 in double precision here, and two cells have no density."""
    cost = torch.tensor([[0.0, 1e6, 4e6], [1e6, 0.0, 1e6]])
    f, g = sinkhorn(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0, 0.0]), cost, 1.0)
    assert torch.isfinite(torch.cat([f, g])).all()
    assert float(f.mean() + g[0]) == pytest.approx(5e5, rel=1e-3)


def dm_count_loops(density: list[float], heads: list[list[float]]) -> tuple[float, float, float]:
    total = sum(density)
    if not heads:
        return total, 0.0, 0.0
    cost = np.array([[(x - a) ** 2 + (y - b) ** 2 for x, y in centres()] for a, b in heads])
    share = np.array(density) / total
    cells = [0.0] * len(density)
    for a, b in heads:
        cells[int(b // STRIDE) * COLUMNS + int(a // STRIDE)] += 1 / len(heads)
    variation = sum(abs(c - s) for c, s in zip(cells, share, strict=True)) / 2
    return abs(total - len(heads)), exact(np.full(len(heads), 1 / len(heads)), share, cost), len(heads) * variation


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_dm_count(scale: float) -> None:
    loss = DMCountLoss(0.1, tv_weight=0.01, regularisation=0.5, iterations=3000, label_scale=scale)
    found = loss(DENSITY * scale, POINTS, STRIDE)
    parts = np.mean(
        [dm_count_loops(c.flatten().tolist(), p.tolist()) for c, p in zip(DENSITY, POINTS, strict=True)], axis=0
    )
    expected = dict(zip(("loss_count", "loss_transport", "loss_variation"), parts * (1, 0.1, 0.01), strict=True))
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=0.01)


def test_the_gradient_of_the_transport() -> None:
    """By finite differences of the transport's cost, and not at all along the density itself: only shares matter."""
    loss = DMCountLoss(1.0, tv_weight=0.0, regularisation=20.0, iterations=3000, label_scale=1.0)

    def transport(density: torch.Tensor) -> torch.Tensor:
        return loss(density[None, None], POINTS[:1], STRIDE)["loss_transport"]

    density = DENSITY[0, 0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(transport(density), density)
    assert float((gradient * density.detach()).sum()) == pytest.approx(0, abs=1e-3)
    for place in ((0, 0), (2, 3), (3, 5)):
        step = torch.zeros_like(density)
        step[place] = 0.05
        difference = (transport(density.detach() + step) - transport(density.detach() - step)) / 0.1
        assert float(gradient[place]) == pytest.approx(float(difference), rel=0.05, abs=0.2)


@pytest.mark.parametrize("loss", [BayesianLoss(8.0, False, label_scale=1.0), DMCountLoss(label_scale=1.0)])
def test_descending_brings_the_count_and_the_place(loss: PointLoss) -> None:
    weights = torch.zeros(1, 1, ROWS, COLUMNS, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=0.1)
    for _ in range(300):
        density = nn.functional.softplus(weights - 3)
        total: torch.Tensor = sum(loss(density, POINTS[:1], STRIDE).values(), torch.zeros(()))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    density = density.detach()
    assert float(density.sum()) == pytest.approx(5, abs=0.3)
    at_heads = density[0, 0, 1, 2] + density[0, 0, 0, 0] + density[0, 0, 3, 5]
    assert float(at_heads) > 3 * 3 * 5 / (ROWS * COLUMNS)  # three times what an even spread has there


@pytest.mark.parametrize("loss", [BayesianLoss, DMCountLoss])
def test_precision_mistakes_and_empty_batches(loss: Callable[..., PointLoss]) -> None:
    found = loss()(DENSITY.bfloat16(), POINTS, STRIDE)
    assert {value.dtype for value in found.values()} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):  # products of matrices would lose digits, and overflow in float16
        mixed = loss()(DENSITY, POINTS, STRIDE)
    plain = loss()(DENSITY, POINTS, STRIDE)
    assert {k: float(v) for k, v in mixed.items()} == {k: float(v) for k, v in plain.items()}
    with pytest.raises(ValueError, match="points of 1 images for 3 density maps"):
        loss()(DENSITY, POINTS[:1], STRIDE)
    with pytest.raises(ValueError, match="label_scale must be positive"):
        loss(label_scale=0)
    zeros = loss()(torch.zeros(1, 1, 2, 2), [torch.tensor([[1.0, 1.0]])], STRIDE)
    assert all(torch.isfinite(value) for value in zeros.values())


def test_options_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"sigma and loss\.background_distance must be positive"):
        BayesianLoss(sigma=0)
    with pytest.raises(ValueError, match="must not be negative"):
        DMCountLoss(tv_weight=-1)
    with pytest.raises(ValueError, match="positive regularisation"):
        sinkhorn(torch.ones(1), torch.ones(1), torch.ones(1, 1), 0)
