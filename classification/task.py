"""Classification as a task of the command-line tools: a config's choices, the data check, the per-class results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from classification.datasets import SEARCH_PARTS, check_files, load_images
from classification.search import build_evaluator as build_evaluator
from classification.sources import CIFAR, PARTS, detect_layout, read_classes, read_source
from classification.splits import split_search
from classification.toy import make_toy
from ean_core.engine.config import read_class_names

RESULTS = {
    "checkpoint": "best.pth",
    "to resume": "last.pth",
    "metrics": "metrics.json",
    "curves": "curves.png",
}
CHECKED = 100_000  # folders with more images are not decoded before the training starts


def configure(cfg: Config, toy: bool = False, data_root: str | None = None, classes: str | None = None) -> None:
    """Turn the one-word choices of a config into the entries that MMEngine builds.

    ``layout``, ``image_size``, ``in_memory``, ``held_out`` and ``split_seed`` go to every data set; ``train_part`` and
    ``val_part`` say what is trained and validated on (see :func:`classification.datasets.build_dataset`). The number
    of classes follows the data, and the steps of the learning rate scale with ``train_cfg.max_epochs``.

    Args:
        cfg: The config, changed in place.
        toy: Make the toy data set and use it.
        data_root: A folder in any layout of :mod:`classification.sources`.
        classes: A file with one class folder's name a line: use these classes, in this order.

    Raises:
        ValueError: An unknown choice, or data that cannot be used.
        FileNotFoundError: There is no such data root or file of class names.
    """
    if cfg.layout not in ("folder", *CIFAR):
        raise ValueError(f"layout must be folder, {' or '.join(CIFAR)}, got {cfg.layout!r}")
    for key in ("train_part", "val_part"):
        if cfg[key] not in (*PARTS, *SEARCH_PARTS):
            raise ValueError(f"{key} must be one of {', '.join((*PARTS, *SEARCH_PARTS))}, got {cfg[key]!r}")
    if toy and data_root is None:
        data_root = str(make_toy(Path("data", "toy"), "folder" if cfg.layout == "folder" else "cifar100"))
    if data_root is not None:
        if not Path(data_root).is_dir():
            raise FileNotFoundError(f"data root '{data_root}' does not exist: name another, or try --toy")
        cfg.data_root, cfg.layout = data_root, detect_layout(data_root, cfg.layout)
    elif not _is_there(cfg):
        raise FileNotFoundError(
            f"no {cfg.layout} data in '{cfg.data_root}': {_advice(cfg)}, name your own with --data-root, or try --toy"
        )
    names = read_class_names(Path(classes)) if classes is not None else None
    cfg.model.num_classes = len(read_classes(cfg.data_root, cfg.layout, names))
    for loader, part in (
        (cfg.train_dataloader, cfg.train_part),
        (cfg.val_dataloader, cfg.val_part),
        (cfg.test_dataloader, cfg.get("test_part", "test")),
    ):
        loader.dataset.update(part=part, root=str(cfg.data_root), layout=cfg.layout, image_size=cfg.image_size)
        loader.dataset.update(in_memory=cfg.in_memory, held_out=cfg.held_out, split_seed=cfg.split_seed, classes=names)
    for scheduler in cfg.get("param_scheduler", []):
        if "milestones" in scheduler and "end" in scheduler:
            scale = cfg.train_cfg.max_epochs / scheduler.end
            scheduler.milestones = [max(1, round(epoch * scale)) for epoch in scheduler.milestones]


def check(cfg: Config, train: bool = True) -> None:
    """Find images that cannot be read, and splits that the data do not allow, before anything is trained.

    Folders of more than 100,000 images are not decoded here.

    Raises:
        ValueError: With the first problem, and how many there are.
    """
    sets = [cfg.train_dataloader.dataset, cfg.val_dataloader.dataset] if train else [cfg.test_dataloader.dataset]
    for dataset in sets:
        names = tuple(dataset.classes) if dataset.classes is not None else None
        part = "train" if dataset.part in SEARCH_PARTS else dataset.part
        if dataset.in_memory:
            source = load_images(dataset.root, dataset.layout, part, dataset.image_size, names)
        else:
            source = read_source(dataset.root, dataset.layout, part, names)
            if len(source.labels) <= CHECKED and not isinstance(source.items, np.ndarray):
                check_files(source)
        if dataset.part in SEARCH_PARTS:
            split_search(source.labels, dataset.held_out, dataset.split_seed, source.classes)


def details(runner: Any) -> dict[str, Any]:
    """The per-class table of a test, for its record."""
    from classification.metric import metric_of

    return {"per class": metric_of(runner).per_class}


def _is_there(cfg: Config) -> bool:
    root = Path(cfg.data_root)
    return root.is_dir() and (cfg.layout == "folder" or detect_layout(root, cfg.layout) == cfg.layout)


def _advice(cfg: Config) -> str:
    if cfg.layout in CIFAR:
        return f"fetch it with 'python tools/prepare_data.py {cfg.layout} --root {cfg.data_root}'"
    return "put train/CLASS/ and val/CLASS/ there"
