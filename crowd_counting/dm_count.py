"""DM-Count: the count, and the distribution of the people by optimal transport."""

from __future__ import annotations

import torch
from mmengine.registry import MODELS

from crowd_counting.point_losses import PointLoss, squared_distances
from crowd_counting.transport import sinkhorn
from ean_core.errors import UserError

TINY = 1e-8  # people in a cell: what is everywhere 0 is no distribution


@MODELS.register_module()
class DMCountLoss(PointLoss):
    """Wang et al., "Distribution Matching for Crowd Counting", NeurIPS 2020, arXiv 2009.13077, sec. 3.

    With the heads ``z``, one in its cell each, and the predicted density ``D``, without any Gaussian::

        loss_count     = | |D| - |z| |
        loss_transport = ot_weight W(z / |z|, D / |D|)                 W: of optimal transport, squared distances
        loss_variation = tv_weight |z| 1/2 || z / |z| - D / |D| ||_1

    ``|.|`` is a sum. The transport takes the heads where they are, and the densities at the centres of their cells; its
    gradient with respect to ``D / |D|`` is the dual potential (:func:`crowd_counting.transport.sinkhorn`), which the
    chain rule turns into the paper's ``b / |D| - <b, D> / |D|^2``. Images without heads have the first loss alone.

    Deviations from the authors' code: the entropy is relative to the product of the marginals, so cells without any
    density need no floor; Sinkhorn stops where it has converged; the half of the total variation is the paper's, not
    the code's; losses are means over images. A negative density counts as 0 in the second and the third loss.

    It costs heads times cells: a crop of 512x512 pixels with 500 heads has 2 million distances, which is nothing to a
    GPU and seconds an iteration on one CPU thread.

    Args:
        ot_weight: The paper's 0.1.
        tv_weight: The paper's 0.01.
        regularisation: Of the entropy, in pixels squared; the authors' code's 10.
        iterations: Of Sinkhorn, at most; the authors' code's 100.
        label_scale: See :class:`~crowd_counting.point_losses.PointLoss`.

    Raises:
        UserError: A weight is negative.
    """

    def __init__(
        self,
        ot_weight: float = 0.1,
        *,
        tv_weight: float = 0.01,
        regularisation: float = 10.0,
        iterations: int = 100,
        label_scale: float = 100.0,
    ) -> None:
        super().__init__(label_scale)
        if ot_weight < 0 or tv_weight < 0:
            raise UserError(f"loss.ot_weight and loss.tv_weight must not be negative, got {ot_weight} and {tv_weight}")
        self.ot_weight, self.tv_weight = ot_weight, tv_weight
        self.regularisation, self.iterations = regularisation, iterations

    def image(self, density: torch.Tensor, points: torch.Tensor, stride: int) -> dict[str, torch.Tensor]:
        """``loss_count``, ``loss_transport`` and ``loss_variation`` of one image."""
        count = (density.sum() - len(points)).abs()
        if not len(points):
            return {"loss_count": count, "loss_transport": 0 * count, "loss_variation": 0 * count}
        positive = density.clamp_min(0).flatten() + TINY
        share = positive / positive.sum()
        cost = squared_distances(points, density.shape, stride)
        heads = torch.full((len(points),), 1 / len(points), device=density.device)
        with torch.no_grad():
            of_heads, of_cells = sinkhorn(heads, share, cost, self.regularisation, self.iterations)
        transport = of_heads @ heads + of_cells @ share
        variation = 0.5 * (self._cells(points, density, stride) / len(points) - share).abs().sum()
        return {
            "loss_count": count,
            "loss_transport": self.ot_weight * transport,
            "loss_variation": self.tv_weight * len(points) * variation,
        }

    @staticmethod
    def _cells(points: torch.Tensor, density: torch.Tensor, stride: int) -> torch.Tensor:
        """How many heads lie in each cell, (h * w,)."""
        rows, columns = density.shape
        x, y = (points / stride).long().T
        place = y.clamp(0, rows - 1) * columns + x.clamp(0, columns - 1)
        return torch.zeros(rows * columns, device=density.device).index_add_(0, place, torch.ones_like(points[:, 0]))
