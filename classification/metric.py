"""Top-1 and top-5 accuracy: the maths, and their place in MMEngine's evaluators."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.registry import METRICS

from ean_core.errors import UserError
from ean_core.metric import Metric, SampleMetric


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


def count_hits(ranks: torch.Tensor, classes: int, topk: Sequence[int] = (1,)) -> torch.Tensor:
    """Numbers that add up over batches: samples, rows with a NaN, and for each k the labels among the best k.

    Args:
        ranks: From :func:`label_ranks`, (N,).
        classes: K; a k above it means K.
        topk: The values of k.
    """
    hits = [(ranks < min(k, classes)).sum() for k in topk]
    return torch.stack([ranks.new_tensor(len(ranks)), (ranks >= classes).sum(), *hits])


def accuracies(total: torch.Tensor, topk: Sequence[int] = (1,)) -> dict[str, float]:
    """``top1``, ``top5``, ... in percent from the sums of :func:`count_hits`; NaN without samples."""
    samples, _, *hits = total.tolist()
    return {f"top{k}": 100 * hit / samples if samples else math.nan for k, hit in zip(topk, hits, strict=True)}


def search_accuracy(total: torch.Tensor) -> dict[str, float]:
    """``top1`` as ``accuracy``; NaN, a failed candidate, if there was a NaN."""
    return {"accuracy": math.nan if total[1] else accuracies(total)["top1"]}


SEARCH_METRIC = Metric(
    count=lambda logits, labels: count_hits(label_ranks(logits, labels), logits.shape[1]), summarise=search_accuracy
)


@METRICS.register_module()
class TopK(SampleMetric):
    """Percent of the samples whose label is among the ``k`` highest scores, as ``top1``, ``top5``, ...

    A ``k`` above the number of classes means that number. Without samples the values are NaN. Its table, ``per class``,
    has ``top1`` and the number of images of each class.

    Args:
        topk: The values of k.
    """

    def __init__(self, topk: Sequence[int] = (1, 5)) -> None:
        super().__init__()
        if not topk or any(k < 1 for k in topk):
            raise UserError(f"topk must be positive numbers, got {tuple(topk)}")
        self.topk = tuple(topk)

    def process(self, data_batch: Mapping[str, Any], data_samples: Sequence[torch.Tensor]) -> None:
        """Note label, rank and number of classes of every sample of a batch."""
        logits = torch.stack(list(data_samples))
        labels = data_batch["labels"].to(logits.device)
        notes = torch.stack([labels, label_ranks(logits, labels), torch.full_like(labels, logits.shape[1])], 1)
        self.results += notes.tolist()

    def compute_metrics(self, results: list[list[int]]) -> dict[str, float]:
        """Accuracies of all samples."""
        labels, ranks, classes = torch.tensor(results, dtype=torch.int64).view(-1, 3).unbind(1)
        most = int(classes[0]) if len(classes) else 1
        rows = {}
        for label, name in enumerate((self.dataset_meta or {}).get("classes", ())):
            own = ranks[labels == label]
            accuracy = accuracies(count_hits(own, most))["top1"] if len(own) else None
            rows[name] = {"top1": accuracy, "images": len(own)}
        self.tables = {"per class": rows}
        return accuracies(count_hits(ranks, most, self.topk), self.topk)
