"""``orientation="stored"``: masks that were drawn on the pixels as stored are turned as their images are."""

from __future__ import annotations

import copy
from typing import Any

from mmengine.config import Config, ConfigDict


def turn_masks(cfg: Config) -> None:
    """Let every pipeline of a config turn the masks that it has read; one that does already stays as it is."""
    step = ConfigDict(type="segmentation.transforms.TurnMask")
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        _insert(loader.dataset.pipeline, step, {"type": "LoadAnnotations"})
    for augmentation in cfg.get("tta_pipeline", ()):
        if "transforms" in augmentation:  # each a list of alternatives
            _insert(augmentation.transforms, [step], [{"type": "LoadAnnotations"}])


def _insert(steps: list[Any], new: Any, after: Any) -> None:
    """Put a step of a pipeline behind another one, unless it is there."""
    if after in steps and new not in steps:
        steps.insert(steps.index(after) + 1, copy.deepcopy(new))
