"""mIoU, mAcc and aAcc: the maths, and their place in MMEngine's evaluators."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.registry import METRICS
from torch.nn import functional as F

from ean_core.metric import SampleMetric
from segmentation.voc import IGNORE


def count_pixels(predicted: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Pixels by class that add up over images: right, predicted or labelled (the union), labelled.

    Pixels whose label is 255 do not count.

    Args:
        predicted: The predicted classes, of any shape.
        labels: The true ones, of the same shape.
        classes: K.

    Returns:
        int64 (3, K).
    """
    valid = labels != IGNORE
    truth, found = labels[valid].long(), predicted[valid].long()
    right = torch.bincount(truth[found == truth], minlength=classes)
    labelled = torch.bincount(truth, minlength=classes)
    return torch.stack([right, labelled + torch.bincount(found, minlength=classes) - right, labelled])


def scores(total: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """IoU and Acc of every class in percent, both (K,), from the sums of :func:`count_pixels`; NaN where 0 is 0/0.

    ``IoU = TP / (TP + FP + FN)``, ``Acc = TP / (TP + FN)``.
    """
    right, union, labelled = total.double()
    return 100 * right / union, 100 * right / labelled


def mean_scores(total: torch.Tensor) -> dict[str, float]:
    """mIoU, mAcc and aAcc in percent from the sums of :func:`count_pixels`.

    mIoU and mAcc are means over the classes for which the quotient exists, and aAcc is the share of correct pixels.
    """
    iou, acc = scores(total)
    right, _, labelled = total.double().sum(1)
    return {"mIoU": float(iou.nanmean()), "mAcc": float(acc.nanmean()), "aAcc": float(100 * right / labelled)}


def enlarge(logits: torch.Tensor, masks: torch.Tensor, align_corners: bool) -> torch.Tensor:
    """Logits (N, K, h, w) at the size of masks (N, H, W), as MMSegmentation's heads and post-processing do it."""
    return F.interpolate(logits, masks.shape[1:], mode="bilinear", align_corners=align_corners)


def count_logits(logits: torch.Tensor, masks: torch.Tensor, align_corners: bool) -> torch.Tensor:
    """:func:`count_pixels` of a decoder's logits, and the pixels with a NaN: int64 (4, K)."""
    enlarged = enlarge(logits, masks, align_corners)
    counts = count_pixels(enlarged.argmax(1), masks, enlarged.shape[1])
    broken = enlarged.isnan().any(1).sum().expand_as(counts[:1])
    return torch.cat([counts, broken])


def search_scores(total: torch.Tensor) -> dict[str, float]:
    """:func:`mean_scores` from the sums of :func:`count_logits`; NaN, a failed candidate, if there was a NaN."""
    found = mean_scores(total[:3])
    return dict.fromkeys(found, math.nan) if total[3].any() else found


@METRICS.register_module()
class VOCMetric(SampleMetric):
    """:func:`mean_scores` of a data set, summed exactly and reported unrounded.

    Its table, ``per class``, has IoU, Acc and the number of labelled pixels of each class.
    """

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Count the pixels of each image."""
        classes = len(self.dataset_meta["classes"])
        for sample in data_samples:
            predicted, labels = (sample[key]["data"] for key in ("pred_sem_seg", "gt_sem_seg"))
            self.results.append(count_pixels(predicted, labels.to(predicted.device), classes).cpu())

    def compute_metrics(self, results: list[torch.Tensor]) -> dict[str, float]:
        """The scores of all images."""
        total = torch.stack(results).sum(0)
        iou, acc = scores(total)
        rows = {
            name: {"IoU": _number(iou[k]), "Acc": _number(acc[k]), "pixels": int(total[2, k])}
            for k, name in enumerate(self.dataset_meta["classes"])
        }
        self.tables = {"per class": rows}
        return mean_scores(total)


def _number(value: torch.Tensor) -> float | None:
    return None if math.isnan(value) else float(value)
