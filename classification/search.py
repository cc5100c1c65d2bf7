"""What a search on classification evaluates: the accuracy of schemes on D_val, which is decoded once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.registry import DATASETS
from torch.utils.data import DataLoader, Dataset, Subset

from classification.classifier import ImageClassifier
from classification.datasets import collate
from classification.metric import label_ranks
from ean_core.engine.runner import unwrap
from ean_core.search.evaluator import Batch, Evaluator, Metric


def count_right(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Of a batch: correct predictions (as :class:`classification.metric.TopK` has them), images, rows with a NaN."""
    right = (label_ranks(logits, labels) == 0).sum()
    return torch.stack([right, torch.as_tensor(len(labels), device=labels.device), logits.isnan().any(1).sum()])


def accuracy(total: torch.Tensor) -> dict[str, float]:
    """The percentage from the sums of :func:`count_right`; NaN, a failed candidate, if there was a NaN."""
    right, images, broken = total.tolist()
    return {"accuracy": math.nan if broken else 100 * right / images}


def build_evaluator(runner: Any, calibration: int = 0, **options: Any) -> Evaluator:
    """The evaluator of a runner's model on its validation set, which a search config makes D_val.

    Images stay uint8 in host memory, 3 bytes a pixel (15 GB for ImageNet's D_val), and go to the device by batches.
    Under ``torchrun`` every rank holds all of them, since ranks evaluate different schemes.

    Args:
        runner: Its model is an :class:`~classification.classifier.ImageClassifier`, its checkpoint loaded.
        calibration: If positive, so many batches, evenly spaced over D_train and not augmented, renew the statistics
            of the batch norms for every scheme.
        options: Of :class:`ean_core.search.Evaluator`.
    """
    model = unwrap(runner.model)
    if not isinstance(model, ImageClassifier):
        raise ValueError(f"a search on classification needs an ImageClassifier, got {type(model).__name__}")
    model.eval()
    device = next(model.parameters()).device
    loader = runner.cfg.val_dataloader
    batches = [(x, labels.to(device)) for x, labels in _read(runner.val_dataloader.dataset, loader)]
    inputs = None
    if calibration:
        dataset = DATASETS.build({**runner.cfg.train_dataloader.dataset, "augment": False})
        size = min(calibration * loader.batch_size, len(dataset))
        chosen = [i * len(dataset) // size for i in range(size)]
        inputs = [x for x, _ in _read(Subset(dataset, chosen), loader)]
    return Evaluator(
        model.backbone,
        lambda outs: model.classify(outs),
        batches,
        prepare=lambda x: model.data_preprocessor({"inputs": x})["inputs"],
        metric=Metric(count_right, accuracy),
        calibration=inputs,
        **options,
    )


def _read(dataset: Dataset[Any], loader: Any) -> Iterator[Batch]:
    """The batches of a whole data set, in its order."""
    workers = loader.get("num_workers", 0)
    for batch in DataLoader(dataset, loader.batch_size, num_workers=workers, collate_fn=collate):
        yield batch["inputs"], batch["labels"]
