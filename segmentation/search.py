"""What a search on segmentation evaluates: the mIoU of schemes on the validation images, which are decoded once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.registry import DATASETS
from torch import nn
from torch.nn.functional import cross_entropy, interpolate
from torch.utils.data import DataLoader, Dataset, Subset

from ean_core.engine.runner import unwrap
from ean_core.search.evaluator import Batch, Evaluator, Metric

IGNORED = 255


class Enlarge:
    """Logits at the size of the masks, as MMSegmentation's heads and post-processing give them.

    Args:
        align_corners: Of the decoder.
    """

    def __init__(self, align_corners: bool) -> None:
        self.align_corners = align_corners

    def __call__(self, logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """(N, K, h, w) and masks (N, H, W) -> (N, K, H, W)."""
        return interpolate(logits, masks.shape[1:], mode="bilinear", align_corners=self.align_corners)

    def count(self, logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Of a batch, pixels by class: right, predicted or labelled (the union), labelled; and pixels with a NaN.

        Pixels whose label is 255 do not count. int64, shape (4, K).
        """
        enlarged = self(logits, masks)
        classes = enlarged.shape[1]
        valid = masks != IGNORED
        labels, predicted = masks[valid].long(), enlarged.argmax(1)[valid]
        right = torch.bincount(labels[predicted == labels], minlength=classes)
        labelled = torch.bincount(labels, minlength=classes)
        union = labelled + torch.bincount(predicted, minlength=classes) - right
        broken = torch.zeros_like(right) + enlarged.isnan().any(1).sum()
        return torch.stack([right, union, labelled, broken])

    def loss(self, logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """The mean cross entropy of the labelled pixels."""
        return cross_entropy(self(logits, masks), masks.long(), ignore_index=IGNORED)


def summarise(total: torch.Tensor) -> dict[str, float]:
    """mIoU, mAcc and aAcc in % from the sums of :meth:`Enlarge.count`; NaN, a failed candidate, if there was a NaN."""
    from segmentation.metric import mean_scores  # which imports all of MMSegmentation

    right, union, labelled, broken = total.cpu()
    scores = mean_scores(right.double(), union.double(), labelled.double())
    return dict.fromkeys(scores, math.nan) if broken.any() else scores


def build_evaluator(runner: Any, calibration: int = 0, **options: Any) -> Evaluator:
    """The evaluator of a runner's model on its validation images, with their values as validation reports them.

    Images and masks stay uint8 in host memory, 4 bytes a pixel, and go to the device one batch at a time.

    Args:
        runner: Its model is one of MMSegmentation's, its checkpoint loaded.
        calibration: If positive, so many training images, evenly spaced and not augmented, renew the statistics of
            the batch norms for every scheme.
        options: Of :class:`ean_core.search.Evaluator`.

    Raises:
        ValueError: The model evaluates by sliding windows, whose batches overlap.
    """
    model: Any = unwrap(runner.model)
    if model.test_cfg.get("mode", "whole") != "whole":
        raise ValueError("a search on segmentation evaluates whole images: set inference = 'whole'")
    model.eval()
    loader = runner.cfg.val_dataloader
    inputs = None
    if calibration:
        dataset = DATASETS.build({**runner.cfg.train_dataloader.dataset, "pipeline": loader.dataset.pipeline})
        size = min(calibration * loader.batch_size, len(dataset))
        chosen = [i * len(dataset) // size for i in range(size)]
        inputs = [x for x, _ in _read(Subset(dataset, chosen), loader)]
    device = next(model.parameters()).device
    enlarge = Enlarge(model.decode_head.align_corners)
    return Evaluator(
        model.backbone,
        _Head(model),
        [(x, masks.to(device)) for x, masks in _read(runner.val_dataloader.dataset, loader)],
        prepare=lambda x: model.data_preprocessor({"inputs": list(x)})["inputs"],
        metric=Metric(enlarge.count, summarise),
        loss=enlarge.loss,
        calibration=inputs,
        **options,
    )


class _Head(nn.Module):
    """The backbone's outputs -> logits (N, K, h, w)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.neck = model.neck if model.with_neck else nn.Identity()
        self.decode_head = model.decode_head

    def forward(self, outs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return self.decode_head(self.neck(outs))


def _read(dataset: Dataset[Any], loader: Any) -> Iterator[Batch]:
    """Images (N, 3, H, W) and masks (N, H, W) of a whole data set, uint8, in its order."""
    for batch in DataLoader(dataset, loader.batch_size, num_workers=loader.get("num_workers", 0), collate_fn=list):
        images = torch.stack([item["inputs"] for item in batch])
        masks = torch.stack([item["data_samples"].gt_sem_seg.data[0] for item in batch])
        yield images, masks.to(torch.uint8)
