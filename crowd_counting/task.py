"""Crowd counting as a task of the command-line tools: a config's choices, the data check, the details of a test."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from mmengine.config import Config

from crowd_counting.check import check_crowd
from crowd_counting.search import build_evaluator as build_evaluator
from crowd_counting.shanghaitech import detect_part
from crowd_counting.toy import make_toy_crowd

RESULTS = {
    "checkpoint": "best.pth",
    "to resume": "last.pth",
    "metrics": "metrics.json",
    "curves": "curves.png",
    "pictures": "preview.png",
}
BACKBONE_STRIDE = 8


def configure(cfg: Config, toy: bool = False, data_root: str | None = None, classes: str | None = None) -> None:
    """Turn the one-word choices of a config into the entries that MMEngine builds.

    ``part`` is ``"A"`` or ``"B"`` of ShanghaiTech; the other words are those of :func:`choose_model`.

    Args:
        cfg: The config, changed in place.
        toy: Make the toy data set and use it.
        data_root: A folder with ShanghaiTech's parts, one of the parts, or images and points of one's own.
        classes: Must be ``None``.

    Raises:
        ValueError: An unknown choice.
        FileNotFoundError: There is no such data root, or no crowd data in it.
    """
    if classes is not None:
        raise ValueError("--classes: crowd counting has no classes, leave it out")
    choose_model(cfg)
    if toy and data_root is None:
        data_root = str(make_toy_crowd(Path("data", "toy"), cfg.part or "B"))
    if data_root is not None:
        cfg.data_root = data_root
    if not Path(cfg.data_root).is_dir():
        raise FileNotFoundError(
            f"data root '{cfg.data_root}' does not exist: download ShanghaiTech into it, name your own with "
            "--data-root, or try --toy"
        )
    cfg.part = detect_part(cfg.data_root, cfg.part)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.update(root=cfg.data_root, part=cfg.part, stride=cfg.model.stride)
    policy = cfg.train_dataloader.dataset.get("out_of_frame", "drop")
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.update(
            stride=cfg.model.stride, baseline={"root": cfg.data_root, "part": cfg.part, "out_of_frame": policy}
        )


def choose_model(cfg: Config) -> None:
    """Make the choices that need no data: ``head``, ``schedule``, ``output_stride`` and ``inference``.

    A config that comes out of here passes through unchanged.

    Raises:
        ValueError: An unknown choice.
    """
    for word in ("head", "schedule"):
        known = cfg.get(f"{word}s", {})
        if known and cfg[word] not in known:
            raise ValueError(f"unknown {word} {cfg[word]!r}: choose from {', '.join(known)}")
    if "schedules" in cfg:
        chosen = copy.deepcopy(cfg.schedules[cfg.schedule])
        cfg.train_dataloader.setdefault("batch_size", chosen.pop("batch_size"))
        _lay_under(cfg, chosen)
    if "heads" in cfg:
        _lay_under(cfg, {"model": {"head": copy.deepcopy(cfg.heads[cfg.head])}})
    for key in ("schedules", "schedule", "heads", "head"):
        cfg.pop(key, None)
    if "output_stride" in cfg:
        stride = cfg.pop("output_stride")
        if stride not in (1, 2, 4, 8):
            raise ValueError(f"output_stride must be 1, 2, 4 or 8, got {stride!r}")
        cfg.model.stride, cfg.model.head.upsample = stride, BACKBONE_STRIDE // stride
    if "inference" in cfg:
        word, tiling = cfg.pop("inference"), cfg.get("tiling")
        if word not in ("whole", "tiled"):
            raise ValueError(f"inference must be 'whole' or 'tiled', got {word!r}")
        cfg.model.tiling = dict(tiling) if word == "tiled" else None


def check(cfg: Config, train: bool = True) -> None:
    """Find wrong images and annotations before anything is trained on them.

    Raises:
        ValueError: With the first ten problems and their number.
    """
    check_crowd(cfg.data_root, cfg.part, ("train", "val") if train else ("test",))


def details(runner: Any) -> dict[str, Any]:
    """The errors of regions and by crowd size of a test, for its record."""
    from crowd_counting.metric import metric_of

    metric = metric_of(runner)
    return {"by region": {"all": metric.game}, "by crowd size": metric.by_size}


def _lay_under(cfg: Config, lower: dict[str, Any]) -> None:
    """Merge ``lower`` into the config where the config itself says nothing."""
    merged = Config(dict(lower))
    merged.merge_from_dict({key: cfg[key] for key in lower if key in cfg})
    cfg.update(merged.to_dict())
