"""Top-1 and top-5 accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS


def label_ranks(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """How many classes come before the true one: a prediction is among the best k exactly if this is below k.

    Of equal scores the lower class comes first. A row with a NaN ranks its label last, whatever k: K, the number of
    classes, is not below any k that :class:`TopK` asks for.

    Args:
        logits: Scores, (N, K).
        labels: int64 (N,).

    Returns:
        int64 (N,), in 0..K.
    """
    scores = logits.double()
    own = scores.gather(1, labels[:, None])  # (N, 1)
    before = torch.arange(scores.shape[1], device=scores.device)[None] < labels[:, None]
    ranks = ((scores > own) | ((scores == own) & before)).sum(1)
    return torch.where(scores.isnan().any(1), scores.shape[1], ranks)


@METRICS.register_module()
class TopK(BaseMetric):
    """Percent of the samples whose label is among the ``k`` highest scores, as ``top1``, ``top5``, ...

    Every sample counts once: results are kept a sample, so that MMEngine drops what a distributed sampler repeats. A
    ``k`` above the number of classes means that number. Without samples the values are NaN.

    Args:
        topk: The values of k.

    Attributes:
        per_class: After an evaluation, ``top1`` and the number of images of each class.
    """

    default_prefix = ""
    per_class: dict[str, dict[str, float | int | None]]

    def __init__(self, topk: Sequence[int] = (1, 5)) -> None:
        super().__init__(prefix="")
        if not topk or any(k < 1 for k in topk):
            raise ValueError(f"topk must be positive numbers, got {tuple(topk)}")
        self.topk = tuple(topk)
        self.per_class = {}

    def process(self, data_batch: Mapping[str, Any], data_samples: Sequence[torch.Tensor]) -> None:
        """Note label, rank and number of classes of every sample of a batch."""
        logits = torch.stack(list(data_samples))
        labels = data_batch["labels"].to(logits.device)
        classes = logits.shape[1]
        pairs = zip(labels.tolist(), label_ranks(logits, labels).tolist(), strict=True)
        self.results += [(label, rank, classes) for label, rank in pairs]

    def compute_metrics(self, results: list[tuple[int, int, int]]) -> dict[str, float]:
        """Accuracies of all samples."""
        names = (self.dataset_meta or {}).get("classes", ())
        counts = {name: [0, 0] for name in names}
        for label, rank, _ in results:
            if names:
                counts[names[label]][0] += rank == 0
                counts[names[label]][1] += 1
        self.per_class = {n: {"top1": 100 * hit / of if of else None, "images": of} for n, (hit, of) in counts.items()}
        if not results:
            return {f"top{k}": math.nan for k in self.topk}
        return {
            f"top{k}": 100 * sum(rank < min(k, classes) for _, rank, classes in results) / len(results)
            for k in self.topk
        }


def metric_of(runner: Any) -> TopK:
    """The metric of a runner's test evaluator."""
    return next(m for m in runner.test_evaluator.metrics if isinstance(m, TopK))
