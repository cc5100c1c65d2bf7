"""What losses of point supervision share: they compare a density map with head points, not with another map."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn

from ean_core.errors import UserError


class PointLoss(nn.Module, ABC):
    """A loss between density maps and head points; :class:`crowd_counting.counter.CrowdCounter` hands it both.

    Args:
        label_scale: The network's output is people in each cell times this number. A softplus output starts at 0.69
            and asks for a scale near 100 (:class:`crowd_counting.losses.DensityLoss`); the loss itself is in people.

    Attributes:
        of_points: Tells it from losses between maps: the data set makes no target map for it.

    Raises:
        UserError: The scale is not positive.
    """

    of_points = True

    def __init__(self, label_scale: float = 100.0) -> None:
        super().__init__()
        if not label_scale > 0:
            raise UserError(f"loss.label_scale must be positive, got {label_scale}")
        self.label_scale = label_scale

    def forward(self, output: torch.Tensor, points: Sequence[torch.Tensor], stride: int) -> dict[str, torch.Tensor]:
        """Compare.

        Args:
            output: Of the network, label scale included, (N, 1, h, w).
            points: The heads of each image, (n, 2), x and y in pixels of the network's input.
            stride: Pixels a cell, each way.

        Returns:
            Losses by name, each the mean over the images; scalars, in float32 whatever the precision.

        Raises:
            UserError: There are more or fewer sets of points than images.
        """
        if len(points) != len(output):
            raise UserError(f"the loss got the points of {len(points)} images for {len(output)} density maps")
        with torch.autocast(output.device.type, enabled=False):
            density = output[:, 0].float() / self.label_scale
            images = [self.image(cells, heads.float(), stride) for cells, heads in zip(density, points, strict=True)]
            return {name: torch.stack([losses[name] for losses in images]).mean() for name in images[0]}

    @abstractmethod
    def image(self, density: torch.Tensor, points: torch.Tensor, stride: int) -> dict[str, torch.Tensor]:
        """The losses of one image: people in each cell, float32 (h, w), against its heads (n, 2)."""


def squared_distances(points: torch.Tensor, cells: Sequence[int], stride: int) -> torch.Tensor:
    """Squared distances of points to the centres of cells, in pixels squared.

    Args:
        points: (n, 2), x and y in pixels.
        cells: Rows and columns; the centre of cell ``k`` along an axis lies at ``(k + 1/2) stride``.
        stride: Pixels a cell, each way.

    Returns:
        (n, rows * columns), row by row.
    """
    rows, columns = ((torch.arange(count, device=points.device) + 0.5) * stride for count in cells)
    across = (points[:, 0, None] - columns).square()
    down = (points[:, 1, None] - rows).square()
    return (down[:, :, None] + across[:, None, :]).flatten(1)
