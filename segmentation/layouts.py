"""Data sets in other layouts than VOC's, read by MMSegmentation's own classes: what the word ``data`` chooses.

Classes, colours and the way labels are stored are those of the class; folders are where MMSegmentation's documents have
them. docs/segmentation_data.md shows each.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal

from mmengine.config import Config

from ean_core.errors import UserError
from segmentation.check import check_pairs

Data = Literal["voc", "ade20k", "cityscapes", "coco_stuff10k", "coco_stuff164k", "loveda"]


@dataclass(frozen=True)
class Layout:
    """Where a data set has its files.

    Attributes:
        dataset: The name of MMSegmentation's class.
        root: The folder of the data, unless ``data_root`` names another.
        images: Folders of the training and the validation images.
        masks: Folders of their masks.
        suffixes: How names of images and of their masks end, after what is common to both.
        zero_is_ignored: Label 0 is no class: labels are lowered by one, and 0 becomes 255.
        note: How to make masks of this kind, for whom they are missing.
    """

    dataset: str
    _: KW_ONLY
    root: str
    images: tuple[str, str]
    masks: tuple[str, str]
    suffixes: tuple[str, str]
    zero_is_ignored: bool = False
    note: str = ""


def _coco(year: str, validation: str, note: str, zero_is_ignored: bool = False) -> dict[str, Any]:
    parts = (f"train{year}", validation)
    return {
        "images": tuple(f"images/{part}" for part in parts),
        "masks": tuple(f"annotations/{part}" for part in parts),
        "suffixes": (".jpg", "_labelTrainIds.png"),
        "zero_is_ignored": zero_is_ignored,
        "note": f"MMSegmentation's tools/dataset_converters/{note}.py writes them",
    }


LAYOUTS = {
    "ade20k": Layout(
        "ADE20KDataset",
        root="data/ade/ADEChallengeData2016",
        images=("images/training", "images/validation"),
        masks=("annotations/training", "annotations/validation"),
        suffixes=(".jpg", ".png"),
        zero_is_ignored=True,
    ),
    "cityscapes": Layout(
        "CityscapesDataset",
        root="data/cityscapes",
        images=("leftImg8bit/train", "leftImg8bit/val"),
        masks=("gtFine/train", "gtFine/val"),
        suffixes=("_leftImg8bit.png", "_gtFine_labelTrainIds.png"),
        note="csCreateTrainIdLabelImgs of cityscapesscripts writes them",
    ),
    "coco_stuff10k": Layout(
        "COCOStuffDataset", root="data/coco_stuff10k", **_coco("2014", "test2014", "coco_stuff10k", True)
    ),
    "coco_stuff164k": Layout(
        "COCOStuffDataset", root="data/coco_stuff164k", **_coco("2017", "val2017", "coco_stuff164k")
    ),
    "loveda": Layout(
        "LoveDADataset",
        root="data/loveDA",
        images=("img_dir/train", "img_dir/val"),
        masks=("ann_dir/train", "ann_dir/val"),
        suffixes=(".png", ".png"),
        zero_is_ignored=True,
        note="MMSegmentation's tools/dataset_converters/loveda.py writes the folders",
    ),
}


def fill_layout(cfg: Config, layout: Layout) -> None:
    """Let a config's loaders read the data set in ``cfg.data_root``, and its heads have as many classes.

    Raises:
        FileNotFoundError: The data lack a folder.
    """
    from mmseg.registry import DATASETS

    root = Path(cfg.data_root)
    for folder in (*layout.images, *layout.masks):
        if not (root / folder).is_dir():
            raise FileNotFoundError(
                f"'{root}' has no folder '{folder}'{below(root, folder)}; {layout.note}".rstrip("; ")
            )
    classes = DATASETS.get(layout.dataset).METAINFO["classes"]
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        head.num_classes = len(classes)
    for loader, part in ((cfg.train_dataloader, 0), (cfg.val_dataloader, 1), (cfg.test_dataloader, 1)):
        loader.dataset.update(
            type=layout.dataset,
            data_root=cfg.data_root,
            ann_file="",
            data_prefix={"img_path": layout.images[part], "seg_map_path": layout.masks[part]},
            img_suffix=layout.suffixes[0],
            seg_map_suffix=layout.suffixes[1],
            reduce_zero_label=layout.zero_is_ignored,
        )


def check_layout(dataset: Any, root: Path, num_classes: int, orientation: str = "upright") -> list[str]:
    """Check the images and masks that a loader filled by :func:`fill_layout` reads; what is worth knowing of them.

    Raises:
        FileNotFoundError: There are no images.
        UserError: Problems were found, as :func:`segmentation.check.check_voc` reports them.
    """
    images, masks = dataset.data_prefix.img_path, dataset.data_prefix.seg_map_path
    ends = dataset.img_suffix, dataset.seg_map_suffix
    names = _names(root / images, ends[0])
    if not names:
        raise FileNotFoundError(f"'{root / images}' holds no image whose name ends in '{ends[0]}'")
    pairs = [(f"{images}/{name}{ends[0]}", f"{masks}/{name}{ends[1]}") for name in names]
    labels = num_classes + 1 if dataset.reduce_zero_label else num_classes
    return check_pairs(root, pairs, labels, "correct them, or move them out of the folders", orientation)


def _names(folder: Path, suffix: str) -> Sequence[str]:
    found = (os.path.relpath(os.path.join(path, f), folder) for path, _, files in os.walk(folder) for f in files)
    return sorted(name.removesuffix(suffix) for name in found if name.endswith(suffix))


def below(root: Path, mark: str) -> str:
    """Words that name a folder, one or two levels below ``root``, in which a path lies that ``root`` itself lacks."""
    found = sorted({*root.glob(f"*/{mark}"), *root.glob(f"*/*/{mark}")}) if root.is_dir() else []
    inner = [Path(str(path).removesuffix(mark)) for path in found]
    if not inner:
        return ""
    return f"; '{inner[0]}' has one: name it with --data-root" + (
        f" (or one of {len(inner) - 1} more)" * (len(inner) > 1)
    )


def default_root(cfg: Config, layout: Layout, given: str | None, voc_root: str) -> str:
    """The folder of the data: what was given, or what the config says, which names VOC's until somebody changes it."""
    return given or (layout.root if cfg.data_root == voc_root else cfg.data_root)


def refuse(data: str, *, toy: bool, classes: str | None) -> None:
    """Say which choices do not go with another layout than VOC's.

    Raises:
        UserError: One was made.
    """
    if toy:
        raise UserError(f"--toy generates data in VOC's layout: leave data={data} out")
    if classes is not None:
        raise UserError(f"--classes: MMSegmentation knows the classes of {data}, leave it out")
