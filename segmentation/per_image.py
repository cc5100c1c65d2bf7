"""What mIoU does not show: how well outlines fit, which images are bad, which classes are taken for which."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.registry import METRICS
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from ean_core.metric import SampleMetric
from segmentation.metric import count_pixels, mean_scores
from segmentation.voc import IGNORE

TOLERANCE = 0.0075
"""Of the image's diagonal: 0.75 %, as Csurka et al. (2013) take it, and MATLAB's ``bfscore``."""

Labels = NDArray[np.integer]


def boundaries(labels: Labels) -> NDArray[np.bool_]:
    """Pixels with a neighbour (left, right, above, below) of another label; labels and result are (H, W)."""
    found = np.zeros(labels.shape, bool)
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differs = labels[here] != labels[there]
        found[here] |= differs
        found[there] |= differs
    return found


def boundary_scores(predicted: Labels, truth: Labels, tolerance: float = TOLERANCE) -> dict[int, float]:
    """The boundary F-score of every class in one image.

    Csurka, Larlus and Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013:
    ``P`` is the share of the predicted class's boundary pixels that lie within ``tolerance`` of the true class's
    boundary, ``R`` the share of the true ones that lie within it of the predicted, and ``F = 2 P R / (P + R)``.
    Distances are Euclidean. A class with a boundary in one of the two alone scores 0, one without any is left out.

    Pixels of 255 take, in both, the label of the nearest pixel that counts. So an outline under a band of 255, as VOC
    has one around every object, lies in its middle, and nothing is said of an object that is 255 as a whole.

    Args:
        predicted: Classes (H, W).
        truth: Classes (H, W), or 255.
        tolerance: As a share of the image's diagonal.

    Returns:
        In [0, 1], by class.
    """
    ignored = truth == IGNORE
    if ignored.all():
        return {}
    nearest = tuple(distance_transform_edt(ignored, return_distances=False, return_indices=True))
    predicted, truth = predicted[nearest], truth[nearest]
    reach = tolerance * math.hypot(*truth.shape)
    outlines = boundaries(predicted), boundaries(truth)
    classes = {
        int(k) for labels, edge in zip((predicted, truth), outlines, strict=True) for k in np.unique(labels[edge])
    }
    scores = {}
    for k in sorted(classes):
        found, wanted = (edge & (labels == k) for labels, edge in zip((predicted, truth), outlines, strict=True))
        if not found.any() or not wanted.any():
            scores[k] = 0.0
            continue
        precision = (distance_transform_edt(~wanted)[found] <= reach).mean()
        recall = (distance_transform_edt(~found)[wanted] <= reach).mean()
        scores[k] = float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0
    return scores


COLUMNS = ("image", "mIoU", "aAcc", "BF", "worst class", "its IoU")
"""Of the table of images."""


@METRICS.register_module()
class ImageMetric(SampleMetric):
    """``BF``, the boundary F-score in percent: its mean over the classes of an image, and over the images.

    Attributes:
        rows: After an evaluation, a row for every image, the worst mIoU first. An image's mIoU is the mean over the
            classes that are in its truth or its prediction.
        confusion: Pixels by true and by predicted class, int64 (K, K).
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []
        self.confusion: NDArray[np.int64] = np.zeros((0, 0), np.int64)

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Measure each image."""
        names = self.dataset_meta["classes"]
        classes = len(names)
        for sample in data_samples:
            predicted, truth = (sample[key]["data"].squeeze(0).cpu() for key in ("pred_sem_seg", "gt_sem_seg"))
            counts = count_pixels(predicted, truth, classes)
            outlines = boundary_scores(predicted.numpy(), truth.numpy())
            iou = (counts[0].double() / counts[1]).nan_to_num(nan=math.inf)
            worst = int(iou.argmin())
            means = mean_scores(counts)
            row = {
                "image": sample.get("img_path", ""),
                **{name: round(means[name], 4) for name in ("mIoU", "aAcc")},
                "BF": round(100 * sum(outlines.values()) / len(outlines), 4) if outlines else "",
                "worst class": names[worst],
                "its IoU": round(100 * float(iou[worst]), 4),
            }
            valid = truth != IGNORE
            pairs = truth[valid].long() * classes + predicted[valid].long()
            places, pixels = torch.unique(pairs, return_counts=True)
            self.results.append((row, places.numpy(), pixels.numpy()))

    def compute_metrics(self, results: list[tuple[dict[str, Any], Any, Any]]) -> dict[str, float]:
        """The mean of all images."""
        classes = len(self.dataset_meta["classes"])
        flat = np.zeros(classes * classes, np.int64)
        for _, places, pixels in results:
            flat[places] += pixels
        self.confusion = flat.reshape(classes, classes)
        self.rows = sorted((row for row, *_ in results), key=lambda row: (row["mIoU"], row["image"]))
        found = [row["BF"] for row in self.rows if row["BF"] != ""]
        return {"BF": sum(found) / len(found) if found else math.nan}
