"""mIoU, mAcc and aAcc, with the per-class table kept for the record."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import METRICS

from segmentation.stack import import_mmseg

import_mmseg()

from mmseg.evaluation import IoUMetric  # noqa: E402  (quiet only after the line above)


@METRICS.register_module()
class VOCMetric(IoUMetric):
    """MMSegmentation's ``IoUMetric``, summed exactly and reported unrounded, in percent.

    Over the pixels whose label is not 255, for class ``k``: ``IoU = TP / (TP + FP + FN)``, ``Acc = TP / (TP + FN)``;
    mIoU and mAcc are means over the classes for which the quotient exists, and aAcc is the share of correct pixels.
    MMSegmentation sums pixel counts in float32, which is inexact beyond 2^24 pixels; here they are float64.

    Attributes:
        per_class: After an evaluation, IoU, Acc and the number of labelled pixels of each class.
    """

    default_prefix = ""
    per_class: dict[str, dict[str, float | int | None]]

    def compute_metrics(self, results: list[tuple[torch.Tensor, ...]]) -> dict[str, float]:
        """Metrics of all images; ``results`` holds (intersection, union, predicted, labelled) areas of each."""
        intersect, union, _, label = (torch.stack(areas).double().sum(0) for areas in zip(*results, strict=True))
        iou, acc = 100 * intersect / union, 100 * intersect / label  # NaN where a class does not occur
        self.per_class = {
            name: {"IoU": _number(iou[k]), "Acc": _number(acc[k]), "pixels": int(label[k])}
            for k, name in enumerate(self.dataset_meta["classes"])
        }
        return mean_scores(intersect, union, label)


def mean_scores(intersect: torch.Tensor, union: torch.Tensor, label: torch.Tensor) -> dict[str, float]:
    """mIoU, mAcc and aAcc in percent from the pixels of every class, (K,): right; predicted or labelled; labelled."""
    return {
        "mIoU": float((100 * intersect / union).nanmean()),
        "mAcc": float((100 * intersect / label).nanmean()),
        "aAcc": float(100 * intersect.sum() / label.sum()),
    }


def _number(value: torch.Tensor) -> float | None:
    return None if torch.isnan(value) else float(value)


def metric_of(runner: Any) -> VOCMetric:
    """The metric of a runner's test evaluator."""
    return next(m for m in runner.test_evaluator.metrics if isinstance(m, VOCMetric))
