"""Checkpoints of small random networks as a training leaves them, config and class names inside, without a training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from ean_testing.references import randomize

ROOT = Path(__file__).resolve().parents[2]
SEG = str(ROOT / "configs" / "seg" / "ean_se_voc.py")
CROWD = str(ROOT / "configs" / "crowd" / "ean_se_shb.py")
CLS = str(ROOT / "configs" / "cls" / "resnet164_ean_se_cifar100.py")


def segmentation_config(head: str = "fcn", classes: int = 21) -> Config:
    from segmentation.application import application

    cfg = Config.fromfile(SEG)
    cfg.merge_from_dict({"head": head, "model.backbone.depth": 18, "model.backbone.scheme": "10-01-11-10"})
    application.configure_prediction(cfg, [str(k) for k in range(classes)])
    return cfg


def classification_config(classes: int = 7, in_memory: bool = True) -> Config:
    import classification.application  # noqa: F401

    cfg = Config.fromfile(CLS)
    cfg.merge_from_dict({"model.backbone.depth": 11, "model.backbone.scheme": "1-0-1", "model.num_classes": classes})
    cfg.merge_from_dict({"image_size": 16, "in_memory": in_memory})
    return cfg


def crowd_config() -> Config:
    from crowd_counting.application import application

    cfg = Config.fromfile(CROWD)
    cfg.merge_from_dict({"model.backbone.depth": 18, "model.backbone.scheme": "10-01-11-10"})
    cfg.heads.csrnet.channels = (16, 8)
    application.configure_prediction(cfg, None)
    return cfg


def build(cfg: Config) -> torch.nn.Module:
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    randomize(model)
    return model.eval()


def save(path: Path, cfg: Config, classes: Sequence[str], palette: Any = None) -> Path:
    """Write a checkpoint of ``cfg`` with random weights."""
    meta: dict[str, Any] = {"cfg": cfg.dump(), "dataset_meta": {"classes": tuple(classes)}}
    if palette:
        meta["dataset_meta"]["palette"] = palette
    torch.save({"meta": meta, "state_dict": build(cfg).state_dict()}, path)
    return path
