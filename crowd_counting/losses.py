"""Losses between density maps, and between the counts that they add up to."""

from __future__ import annotations

import torch
from mmengine.registry import MODELS
from torch import nn

from ean_core.errors import UserError


@MODELS.register_module()
class DensityLoss(nn.Module):
    """Squared error of the density, and optionally the absolute error of the count.

    With the network's output ``o``, the people ``d`` in each cell and the label scale ``s``, over the cells ``k`` of
    the ``N`` images of a batch::

        reduction="mean":  weight / (N K) sum (o_k - s d_k)^2         K cells an image
        reduction="sum":   weight / N     sum (o_k - s d_k)^2
        count_weight > 0:  + count_weight / N  sum_n |sum_k o_k / s - sum_k d_k|

    CSRNet's equation has a further 1/2 in front of the sum. C3F takes the mean over full-resolution maps.

    What this means for the learning rate: the sum is K times the mean (3,072 times for a crop of 384x512 at stride 8),
    so SGD needs a rate K times smaller, CSRNet's 1e-7; Adam divides gradients by their own size and takes the same
    rate for both. A cell of part B holds 0.01 people on average. The scale multiplies errors and targets alike, so it
    leaves the fit that SGD reaches with the same rate and a linear output unchanged, and the loss ``s^2`` times larger;
    with Adam, whose steps have a fixed length, a larger scale is further away, and a smaller one drowns in the
    steps. A softplus output starts at 0.69 and asks for a scale near 100. In front of batch norm or clipping, and for
    half precision, targets near 1 are the safe choice too.

    Args:
        reduction: ``"mean"`` or ``"sum"``.
        label_scale: ``s``; predictions are divided by it.
        weight: Of the density term.
        count_weight: Of the count term, in loss a person; it counts the crop's people by the sum of the density, which
            is their number.

    Raises:
        UserError: An option is out of range.
    """

    def __init__(
        self, reduction: str = "mean", label_scale: float = 100.0, weight: float = 1.0, count_weight: float = 0.0
    ) -> None:
        super().__init__()
        if reduction not in ("mean", "sum"):
            raise UserError(f"loss.reduction must be 'mean' or 'sum', got {reduction!r}")
        if not label_scale > 0 or weight < 0 or count_weight < 0 or not weight + count_weight > 0:
            raise UserError(
                "the loss needs a positive label_scale and weights of which one is above 0, got "
                f"label_scale={label_scale}, weight={weight}, count_weight={count_weight}"
            )
        self.reduction, self.label_scale = reduction, label_scale
        self.weight, self.count_weight = weight, count_weight

    def forward(self, output: torch.Tensor, density: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compare.

        Args:
            output: Of the network, label scale included, (N, 1, h, w).
            density: People in each cell, (N, 1, h, w).

        Returns:
            ``loss_density``, and with a count term ``loss_count``; scalars, in float32 whatever the precision.

        Raises:
            UserError: The maps differ in size.
        """
        if output.shape != density.shape:
            raise UserError(
                f"the network's density map is {_size(output)}, the data's {_size(density)}: give the data set the "
                "network's output stride"
            )
        error = output.float() - self.label_scale * density.float()
        squares = error.square().flatten(1)  # (N, K)
        per_image = squares.mean(1) if self.reduction == "mean" else squares.sum(1)
        losses = {"loss_density": self.weight * per_image.mean()}
        if self.count_weight:
            counts = error.flatten(1).sum(1) / self.label_scale  # (N,), in people
            losses["loss_count"] = self.count_weight * counts.abs().mean()
        return losses


def _size(maps: torch.Tensor) -> str:
    return "x".join(str(n) for n in maps.shape[-2:])
