"""What a search on crowd counting evaluates: the count errors of schemes on D_val, which is decoded once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from crowd_counting.counter import CrowdCounter
from ean_core.engine.runner import unwrap
from ean_core.search.evaluator import Evaluator, Metric


def count_sums(density: torch.Tensor, people: torch.Tensor) -> torch.Tensor:
    """Of a batch: the sum of absolute errors of the counts, the sum of their squares, and the number of images."""
    error = (density.double().flatten(1).sum(1) - people).abs()
    return torch.stack([error.sum(), error.square().sum(), error.new_tensor(len(error))])


def count_metrics(total: torch.Tensor) -> dict[str, float]:
    """MAE and MSE (RMSE) from the sums of :func:`count_sums`; NaN, a failed candidate, if there was a NaN."""
    absolute, squared, images = total.tolist()
    return {"MAE": absolute / images, "MSE (RMSE)": math.sqrt(squared / images)}


def count_loss(density: torch.Tensor, people: torch.Tensor) -> torch.Tensor:
    """The mean absolute error of the counts, for strategies that differentiate (DARTS)."""
    return (density.flatten(1).sum(1) - people).abs().mean()


def build_evaluator(runner: Any, calibration: int = 0, **options: Any) -> Evaluator:
    """The evaluator of a runner's model on its validation set, by ``MAE`` and ``MSE (RMSE)``.

    A reward takes them with ``direction="down"``, for example ``dict(metric="MAE", direction="down")``. Images stay
    uint8 in memory, whole and one to a batch, since they differ in size.

    Args:
        runner: Its model is a :class:`~crowd_counting.counter.CrowdCounter`, its checkpoint loaded.
        calibration: If positive, so many images, the first of the training set as a training sees them, renew the
            statistics of the batch norms for every scheme.
        options: Of :class:`ean_core.search.Evaluator`.
    """
    model = unwrap(runner.model)
    if not isinstance(model, CrowdCounter):
        raise ValueError(f"a search on crowd counting needs a CrowdCounter, got {type(model).__name__}")
    model.eval()
    device = next(model.parameters()).device
    dataset = runner.val_dataloader.dataset
    items = [dataset[index] for index in range(len(dataset))]
    batches = [(item["inputs"][None], torch.tensor([len(item["points"])], device=device)) for item in items]
    inputs = None
    if calibration:
        train = runner.train_dataloader.dataset
        inputs = [train[index]["inputs"][None] for index in range(min(calibration, len(train)))]
    size = [0, 0]  # of the images that were prepared last: their density maps come next

    def prepare(images: torch.Tensor) -> torch.Tensor:
        size[:] = images.shape[-2:]
        return model.data_preprocessor.prepare(images)

    def density(outs: Sequence[torch.Tensor]) -> torch.Tensor:
        maps = model.head(outs[model.in_index]).float() / model.loss.label_scale
        return maps[..., : -(-size[0] // model.stride), : -(-size[1] // model.stride)]

    return Evaluator(
        model.backbone,
        density,
        batches,
        prepare=prepare,
        metric=Metric(count_sums, count_metrics),
        loss=count_loss,
        calibration=inputs,
        **options,
    )
