"""Optimal transport with entropy by Sinkhorn's iterations, in the logarithms of the scaling vectors."""

from __future__ import annotations

import torch

from ean_core.errors import UserError

FACTOR = 0.25  # the regularisation shrinks by it from step to step, until it is the one wanted


def sinkhorn(
    source: torch.Tensor, target: torch.Tensor, cost: torch.Tensor, regularisation: float, iterations: int = 100
) -> tuple[torch.Tensor, torch.Tensor]:
    """The dual potentials of regularised optimal transport between two discrete distributions.

    They maximise the dual of ``min_P <P, C> + e KL(P | a b^T)`` over plans ``P`` with the marginals ``a`` and ``b``
    (Cuturi, NeurIPS 2013; Peyre and Cuturi, "Computational Optimal Transport", sec. 4.4). Sinkhorn's two steps in
    logarithms cannot overflow, and no entry of ``a`` or ``b`` has to be above 0::

        f_i = -e log sum_j b_j exp((g_j - C_ij) / e)
        g_j = -e log sum_i a_i exp((f_i - C_ij) / e)

    The regularisation ``e`` starts at the largest cost and shrinks to the one wanted (Schmitzer, 2019), since from the
    start at a small ``e`` the steps would be too short. It ends early where the marginals are met to 0.1 %.

    Args:
        source: ``a``, (n,), not negative, its sum is 1.
        target: ``b``, (m,), likewise.
        cost: ``C``, (n, m), not negative.
        regularisation: ``e``, in the unit of the costs.
        iterations: At most so many pairs of steps with the regularisation wanted.

    Returns:
        ``f`` (n,) and ``g`` (m,). ``f @ a + g @ b`` is the cost of the regularised transport; its gradient by
        ``b`` is ``g``, but for a constant.

    Raises:
        UserError: The regularisation or the number of iterations is not positive.
    """
    if not regularisation > 0 or iterations < 1:
        raise UserError(
            "Sinkhorn needs a positive regularisation and at least one iteration, got "
            f"{regularisation} and {iterations}"
        )
    log_source, log_target = source.log(), target.log()
    g = torch.zeros_like(target)
    level = max(float(cost.max()), regularisation)
    while level > regularisation:
        f = _step(g, log_target, cost, level)
        g = _step(f, log_source, cost.T, level)
        level = max(level * FACTOR, regularisation)
    for _ in range(iterations):
        f = _step(g, log_target, cost, regularisation)
        new = _step(f, log_source, cost.T, regularisation)
        # The second marginal of the plan before this step is b exp((g - new) / e).
        error = (target * ((g - new) / regularisation).exp() - target).abs().sum()
        g = new
        if error < 1e-3:
            break
    return f, g


def _step(potential: torch.Tensor, log_weight: torch.Tensor, cost: torch.Tensor, level: float) -> torch.Tensor:
    return -level * torch.logsumexp(log_weight + (potential - cost) / level, 1)
