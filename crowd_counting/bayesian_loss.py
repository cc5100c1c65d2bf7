"""The Bayesian loss: each annotated head should be expected once."""

from __future__ import annotations

import torch
from mmengine.registry import MODELS

from crowd_counting.point_losses import PointLoss, squared_distances
from ean_core.errors import UserError


@MODELS.register_module()
class BayesianLoss(PointLoss):
    """Ma et al., "Bayesian Loss for Crowd Count Estimation with Point Supervision", ICCV 2019, arXiv 1908.03684.

    A cell with its centre at ``x_m`` belongs to head ``y_n`` with the posterior probability of a Gaussian likelihood
    and equal priors, and the people of all cells, shared out by it, should be one a head::

        p(n | m) = exp(-|x_m - z_n|^2 / (2 sigma^2)) / sum_k exp(-|x_m - z_k|^2 / (2 sigma^2))
        E[c_n]   = sum_m p(n | m) D(m)
        loss     = sum_n |1 - E[c_n]|                               "Bayesian"
                   + |0 - E[c_0]|                                   with the background, "Bayesian+"

    The background is one more point for every cell, ``d`` pixels from the cell's nearest head ``z_m`` on the line
    through the cell, so its distance to the cell is ``d - |x_m - z_m|``. Nobody is expected there. An image without
    heads has the loss ``sum_m D(m)``: all of it is background.

    Deviations from the authors' code: ``d`` is a number of pixels (theirs: a share of the image's shorter side, in the
    paper 15 %); a head in the crop counts as one (theirs as less where its neighbourhood reaches over the border).

    Args:
        sigma: Of the likelihood, in pixels; the paper's 8.
        background: Whether there is a background point.
        background_distance: ``d``, in pixels of the network's input; 15 % of part B's 768 pixels. Smaller images want a
            smaller one, but not one near ``sigma``: then most of the picture is background, and a network that cannot
            tell people from it yet predicts nobody.
        label_scale: See :class:`~crowd_counting.point_losses.PointLoss`.

    Raises:
        UserError: An option is not positive.
    """

    def __init__(
        self,
        sigma: float = 8.0,
        background: bool = True,
        background_distance: float = 115.0,
        label_scale: float = 100.0,
    ) -> None:
        super().__init__(label_scale)
        if not (sigma > 0 and background_distance > 0):
            raise UserError(
                f"loss.sigma and loss.background_distance must be positive, got {sigma} and {background_distance}"
            )
        self.sigma, self.background, self.background_distance = sigma, background, background_distance

    def image(self, density: torch.Tensor, points: torch.Tensor, stride: int) -> dict[str, torch.Tensor]:
        """``loss_bayesian`` of one image."""
        if not len(points):
            return {"loss_bayesian": density.sum().abs()}
        distance = squared_distances(points, density.shape, stride)  # (n, m)
        expected = torch.ones(len(points), device=density.device)
        if self.background:
            away = self.background_distance - distance.amin(0).sqrt()
            distance = torch.cat([distance, away.square()[None]])
            expected = torch.cat([expected, expected.new_zeros(1)])
        posterior = (-distance / (2 * self.sigma**2)).softmax(0)
        return {"loss_bayesian": (expected - posterior @ density.flatten()).abs().sum()}
