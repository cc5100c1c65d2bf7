"""Where classes are rare or pixels are easy: what the word ``loss`` chooses.

- ``"plain"``: cross-entropy as the head has it.
- ``"weighted"``: classes are weighted by median frequency balancing (Eigen and Fergus, ICCV 2015): ``w_c = median(f) /
  f_c``, where ``f_c`` is the share of class c's pixels in the training images in which it occurs, and the loss is the
  weighted mean. The masks of the training are read for it.
- ``"ohem"``: online hard example mining (Shrivastava et al., CVPR 2016) by MMSegmentation's sampler: of the decoder's
  pixels only those count whose true class has a probability below 0.7, at least a fifth of a crop's.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from numpy.typing import NDArray
from PIL import Image

from ean_core.errors import UserError
from segmentation.voc import IGNORE

Loss = Literal["plain", "weighted", "ohem"]
THRESHOLD, KEPT = 0.7, 5  # MMSegmentation's documents keep 100,000 pixels of 512x1024, about a fifth


def choose_loss(cfg: Config) -> None:
    """Write what ``cfg.loss`` chooses into the heads. Class weights that are there, as in a config as run, stay.

    Raises:
        FileNotFoundError, UserError: A class to be weighted occurs in no training mask, or a mask cannot be read.
    """
    word, decoder, auxiliary = cfg.get("loss", "plain"), cfg.model.decode_head, cfg.model.get("auxiliary_head")
    if word == "ohem":
        decoder.sampler = {"type": "OHEMPixelSampler", "thresh": THRESHOLD, "min_kept": cfg.crop_size**2 // KEPT}
    if word == "weighted":
        heads = [head for head in (decoder, auxiliary) if head]
        if all(len(head.loss_decode.get("class_weight") or ()) == head.num_classes for head in heads):
            return
        names = class_names(cfg.train_dataloader.dataset)
        weights = median_frequency(training_masks(cfg), names)
        for head in heads:
            # MMSegmentation divides by the weights of the pixels that are not ignored; with avg_non_ignore it fails.
            head.loss_decode.update(class_weight=weights, avg_non_ignore=False)


def class_names(dataset: Any) -> list[str]:
    """The names of a data set's classes, from its config."""
    from mmseg.registry import DATASETS  # imported without its warnings before (segmentation/stack.py)

    known = DATASETS.get(dataset.type).METAINFO.get("classes")
    return list((dataset.get("metainfo") or {}).get("classes") or known)


def training_masks(cfg: Config) -> Iterable[NDArray[np.integer]]:
    """The masks (H, W) that a training reads, as it understands them: 255 where a pixel has no class.

    Raises:
        FileNotFoundError, UserError: One is missing, or cannot be read.
    """
    from mmseg.registry import DATASETS

    with DefaultScope.overwrite_default_scope("mmseg"):
        dataset = DATASETS.build({**cfg.train_dataloader.dataset, "pipeline": []})
    for index in range(len(dataset)):
        path = Path(dataset.get_data_info(index)["seg_map_path"])
        if not path.is_file():
            raise FileNotFoundError(f"loss='weighted' reads the training masks, and '{path}' does not exist")
        try:
            labels = np.asarray(Image.open(path)).astype(np.int64)
        except Exception as error:  # Pillow raises many types for damaged files
            raise UserError(f"loss='weighted' reads the training masks, and '{path}' cannot be read") from error
        if cfg.train_dataloader.dataset.get("reduce_zero_label"):
            labels = np.where((labels == 0) | (labels == IGNORE), IGNORE, labels - 1)
        yield labels


def median_frequency(masks: Iterable[NDArray[np.integer]], names: list[str]) -> list[float]:
    """The weight of each class.

    Args:
        masks: Labels (H, W); 255 is ignored.
        names: Of the K classes, for messages.

    Raises:
        UserError: A class occurs in no mask.
    """
    pixels, room = torch.zeros(len(names), dtype=torch.float64), torch.zeros(len(names), dtype=torch.float64)
    for labels in masks:
        counts = torch.from_numpy(np.bincount(labels[labels != IGNORE].ravel(), minlength=len(names))[: len(names)])
        pixels += counts
        room += (counts > 0) * counts.sum()
    missing = [name for name, count in zip(names, pixels, strict=True) if not count]
    if missing:
        raise UserError(
            f"loss='weighted': {len(missing)} of {len(names)} classes occur in no training mask, first '{missing[0]}'; "
            "take loss='plain', or write class_weight into the heads' loss_decode"
        )
    shares = (pixels / room).numpy()
    return [round(float(np.median(shares) / share), 6) for share in shares]
