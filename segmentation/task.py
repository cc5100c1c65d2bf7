"""Segmentation as a task of the command-line tools: a config's choices, the data check, the per-class results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config

from ean_core.backbones.resnet import ARCHITECTURES
from ean_core.engine.config import read_class_names
from segmentation.check import check_voc, detect_suffix
from segmentation.search import build_evaluator as build_evaluator
from segmentation.stack import import_mmseg
from segmentation.toy import make_toy_voc
from segmentation.voc import MASK_DIRS, list_path, palette, read_list

RESULTS = {
    "checkpoint": "best.pth",
    "to resume": "last.pth",
    "metrics": "metrics.json",
    "curves": "curves.png",
    "pictures": "preview.png",
}


def configure(cfg: Config, toy: bool = False, data_root: str | None = None, classes: str | None = None) -> None:
    """Turn the one-word choices of a config into the entries that MMEngine builds.

    ``head`` is a key of ``heads``, ``train_list`` an image list, ``inference`` is ``"whole"`` or ``"slide"``, and
    ``crop_size`` the side of the training crops in pixels. The heads' channels follow the backbone's depth.

    Args:
        cfg: The config, changed in place.
        toy: Make the toy data set and use it.
        data_root: A folder in VOC layout.
        classes: A file with one class name a line.

    Raises:
        ValueError: An unknown choice, or a file of class names that is empty.
        FileNotFoundError: There is no such data root, list or file of class names.
    """
    import_mmseg()
    choose_head(cfg)
    if toy and data_root is None:
        data_root = str(make_toy_voc(Path("data", "toy")))
    if data_root is not None:
        cfg.data_root = data_root
    if not Path(cfg.data_root).is_dir():
        raise FileNotFoundError(
            f"data root '{cfg.data_root}' does not exist: make it with 'python tools/prepare_data.py voc2012 --root "
            "data', name your own with --data-root, or try --toy"
        )
    own_data = data_root is not None and not toy
    train_list = cfg.train_list
    if own_data and train_list == "train_aug" and not list_path(cfg.data_root, train_list).is_file():
        train_list = "train"  # train_aug exists for VOC alone
    names = read_class_names(Path(classes)) if classes is not None else None
    _fill_data(cfg, train_list, names)
    size = int(cfg.crop_size)
    if cfg.inference not in ("whole", "slide"):
        raise ValueError(f"inference must be 'whole' or 'slide', got {cfg.inference!r}")
    cfg.model.test_cfg = {"mode": "whole"}
    if cfg.inference == "slide":
        cfg.model.test_cfg = {"mode": "slide", "crop_size": (size, size), "stride": (size * 2 // 3,) * 2}
    cfg.model.data_preprocessor.size = (size, size)
    for step in cfg.train_dataloader.dataset.pipeline:
        if step.type == "RandomCrop":
            step.crop_size = (size, size)


def check(cfg: Config, train: bool = True) -> None:
    """Find wrong images and masks before anything is trained on them.

    Raises:
        ValueError: With the first ten problems and their number.
    """
    splits = [cfg.train_dataloader, cfg.val_dataloader] if train else [cfg.test_dataloader]
    for dataset in (loader.dataset for loader in splits):
        name = Path(dataset.ann_file).stem
        masks = dataset.data_prefix.seg_map_path
        check_voc(cfg.data_root, {name: masks}, cfg.model.decode_head.num_classes, img_suffix=dataset.img_suffix)


def details(runner: Any) -> dict[str, Any]:
    """The per-class table of a test, for its record."""
    from segmentation.metric import metric_of

    return {"per class": metric_of(runner).per_class}


def choose_head(cfg: Config) -> None:
    """Put the head that ``cfg.head`` names into ``cfg.model``, with the channels of the backbone's depth.

    Raises:
        ValueError: There is no such head.
    """
    if cfg.head not in cfg.heads:
        raise ValueError(f"unknown head {cfg.head!r}: choose from {', '.join(cfg.heads)}")
    choice = cfg.heads[cfg.head]
    model = cfg.model
    for key in ("decode_head", "auxiliary_head"):
        model[key] = choice[key]
    model.backbone.update(choice.get("backbone", {}))
    block, _ = ARCHITECTURES.get(model.backbone.get("depth", 50), ARCHITECTURES[50])
    if block.expansion == 1:  # the heads are written for bottlenecks; MMSegmentation's ResNet-18 heads are 4x narrower
        for head in (model.decode_head, model.auxiliary_head):
            for key in ("in_channels", "channels", "c1_in_channels"):
                if key in head:
                    value = head[key]
                    head[key] = [v // 4 for v in value] if isinstance(value, list | tuple) else value // 4
    for key in ("head", "heads"):
        cfg.pop(key)


def _fill_data(cfg: Config, train_list: str, names: list[str] | None) -> None:
    meta = {}
    if names:
        first = 0 if names[0] == "background" else 1  # black is for the background alone
        meta = {"classes": names, "palette": palette(len(names) + first)[first:]}
        for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
            head.num_classes = len(names)
    for loader, image_list in (
        (cfg.train_dataloader, train_list),
        (cfg.val_dataloader, cfg.val_list),
        (cfg.test_dataloader, cfg.val_list),
    ):
        ids = read_list(cfg.data_root, image_list)
        loader.dataset.update(
            data_root=cfg.data_root,
            ann_file=f"ImageSets/Segmentation/{image_list}.txt",
            data_prefix={"img_path": "JPEGImages", "seg_map_path": MASK_DIRS.get(image_list, "SegmentationClass")},
            img_suffix=detect_suffix(cfg.data_root, ids),
        )
        if meta:
            loader.dataset.update(type="BaseSegDataset", metainfo=meta)  # PascalVOCDataset insists on VOC's classes
