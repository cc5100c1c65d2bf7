"""Segmentation as a task: a config's choices, the data check, what a search measures, predictions, explanations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.config import Config
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ean_core.application import RESULTS, Application, Evaluation, Outputs, Target, class_index
from ean_core.data_check import print_notes
from ean_core.engine.config import read_class_names
from ean_core.engine.schema import Entries, ImageModel, Loader, Options, Positive, check_entries
from ean_core.errors import UserError
from ean_core.metric import Metric
from ean_core.terminal import tool
from segmentation.check import check_voc, detect_suffix
from segmentation.heads import choose_head
from segmentation.layouts import LAYOUTS, Data, below, check_layout, default_root, fill_layout, refuse
from segmentation.losses import Loss, choose_loss
from segmentation.metric import count_logits, enlarge, search_scores
from segmentation.orientation import turn_masks
from segmentation.prediction import draw, predict, row, view
from segmentation.saving import FORMS, saving
from segmentation.stack import import_mmseg
from segmentation.toy_scenes import make_toy_voc
from segmentation.voc import IGNORE, MASK_DIRS, count_ids, list_path, palette, read_list

VOC_ROOT = "data/VOCdevkit/VOC2012"  # what the configs name


class Heads(Entries):
    """What the model of this task is chosen by; a config that has made its choice lacks both."""

    head: str = ""
    heads: dict[str, Options] | None = None


class Words(Heads):
    """What this task reads in a config besides."""

    model: ImageModel
    data: Data = "voc"
    loss: Loss = "plain"
    data_root: str
    train_list: str
    val_list: str
    crop_size: Positive
    orientation: Literal["upright", "stored"] = "upright"
    inference: Literal["whole", "slide"]
    train_dataloader: Loader
    val_dataloader: Loader
    test_dataloader: Loader


class Segmentation(Application):
    """Semantic segmentation; what is not described here, :class:`~ean_core.application.Application` describes."""

    name = "segmentation"
    results = RESULTS | {"pictures": "preview.png"}
    output = "logits (N, K, H, W)"
    predict, draw, row, view = staticmethod(predict), staticmethod(draw), staticmethod(row), staticmethod(view)
    forms, saving = FORMS, staticmethod(saving)

    def configure(self, cfg: Config, *, toy: bool, data_root: str | None, classes: str | None) -> None:
        """Turn the one-word choices of a config into the entries that MMEngine builds.

        ``head`` is a key of ``heads``, ``train_list`` an image list, ``inference`` is ``"whole"`` or ``"slide"``,
        ``crop_size`` the side of the training crops in pixels, and ``orientation`` the view in which the masks were
        drawn, ``"upright"`` or ``"stored"``, where an image's EXIF tag turns it. The heads' channels follow the
        backbone's. ``data`` is ``"voc"``, for a folder in VOC layout, or a layout of :mod:`segmentation.layouts`;
        ``loss`` is described in :mod:`segmentation.losses`.
        """
        import_mmseg()
        check_entries(cfg, Words)
        choose_head(cfg)
        layout = LAYOUTS.get(cfg.get("data", "voc"))
        if layout is not None:
            refuse(cfg.data, toy=toy, classes=classes)
            data_root = default_root(cfg, layout, data_root, VOC_ROOT)
        if toy and data_root is None:
            data_root = str(make_toy_voc(Path("data", "toy")))
        if data_root is not None:
            cfg.data_root = data_root
        if not Path(cfg.data_root).is_dir():
            raise FileNotFoundError(
                f"data root '{cfg.data_root}' does not exist: make it with '{tool('prepare_data')} voc2012 "
                "--root data', name your own with --data-root, or try --toy"
            )
        if layout is not None:
            fill_layout(cfg, layout)
        else:
            _choose_voc(cfg, classes, own_data=data_root is not None and not toy)
        if cfg.get("orientation") == "stored":
            turn_masks(cfg)
        _set_size(cfg)
        choose_loss(cfg)

    def check(self, cfg: Config, *, train: bool) -> None:
        """Find wrong images and masks before anything is trained on them."""
        splits = [cfg.train_dataloader, cfg.val_dataloader] if train else [cfg.test_dataloader]
        for dataset in (loader.dataset for loader in splits):
            orientation, number = cfg.get("orientation", "upright"), cfg.model.decode_head.num_classes
            if cfg.get("data", "voc") in LAYOUTS:
                notes = check_layout(dataset, Path(cfg.data_root), number, orientation)
            else:
                masks = {Path(dataset.ann_file).stem: dataset.data_prefix.seg_map_path}
                notes = check_voc(cfg.data_root, masks, number, img_suffix=dataset.img_suffix, orientation=orientation)
            print_notes(notes)

    def found_data(self, root: Path) -> Iterator[str]:
        """VOC 2012 in the place that the configs name."""
        voc = root / "VOCdevkit" / "VOC2012"
        lists = {name: list_path(voc, name) for name in ("train", "train_aug", "val")}
        if lists["val"].parent.is_dir():
            sizes = [f"{name} {count_ids(path)}" for name, path in lists.items() if path.is_file()]
            yield f"VOC2012 ({', '.join(sizes)}; SBD {'' if lists['train_aug'].is_file() else 'not '}merged)"

    def evaluation(self, model: Any, cfg: Config) -> Evaluation:
        """mIoU, mAcc and aAcc on the validation images, as validation reports them.

        Images and masks stay uint8 in host memory, 4 bytes a pixel, and go to the device one batch at a time.

        Raises:
            UserError: The model evaluates by sliding windows, whose batches overlap.
        """
        if model.test_cfg.get("mode", "whole") != "whole":
            raise UserError("a search on segmentation evaluates whole images: set inference = 'whole'")
        align_corners: bool = model.decode_head.align_corners
        loader = cfg.val_dataloader

        def read(dataset: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            workers = loader.get("num_workers", 0)
            for batch in DataLoader(dataset, loader.batch_size, num_workers=workers, collate_fn=list):
                masks = torch.stack([item["data_samples"].gt_sem_seg.data[0] for item in batch])
                yield torch.stack([item["inputs"] for item in batch]), masks.to(torch.uint8)

        def loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(enlarge(logits, masks, align_corners), masks.long(), ignore_index=IGNORE)

        return Evaluation(
            head=_Head(model),
            preprocess=lambda images: model.data_preprocessor({"inputs": list(images)})["inputs"],
            read=read,
            plain_training={**cfg.train_dataloader.dataset, "pipeline": loader.dataset.pipeline},
            metric=Metric(partial(count_logits, align_corners=align_corners), search_scores),
            loss=loss,
        )

    def configure_prediction(self, cfg: Config, classes: Sequence[str] | None) -> None:
        """Choose the head that a config file asks for; the number of classes follows the checkpoint."""
        import_mmseg()
        check_entries(cfg, Heads)
        choose_head(cfg)
        if classes:
            for key in ("decode_head", "auxiliary_head"):
                if cfg.model.get(key):
                    cfg.model[key].num_classes = len(classes)

    def normalise(self, model: Any, images: torch.Tensor) -> torch.Tensor:
        """RGB in 0..255 -> the network's inputs.

        MMSegmentation's preprocessor describes BGR images, which it turns; without the turn the network takes BGR.
        """
        bgr = getattr(model.data_preprocessor, "_channel_conversion", True) is False
        return super().normalise(model, images.flip(1) if bgr else images)

    def forward(self, model: Any, inputs: torch.Tensor) -> torch.Tensor:
        """Normalised images (N, 3, H, W) -> logits (N, K, H, W)."""
        return enlarge(model(inputs, mode="tensor"), inputs[:, 0], model.align_corners)

    def explain(
        self, model: Any, inputs: torch.Tensor, output: torch.Tensor, size: tuple[int, int], target: str | None
    ) -> Target:
        """The sum of a class's logits over the pixels where it is predicted (Vinogradova et al., 2020).

        Where it is predicted nowhere, over all pixels. Without a target the class with the most pixels, the background
        only where there is nothing else.
        """
        classes = model.dataset_meta.get("classes") or [str(k) for k in range(len(output))]
        labels = output.argmax(0)  # (H, W)
        k = class_index(target, classes) if target is not None else _largest(labels, classes)
        predicted = labels == k
        explained = predicted if predicted.any() else torch.ones_like(predicted)
        weight = torch.zeros_like(output)
        weight[k] = explained
        score = float(output.float().softmax(0)[k][explained].mean())
        share = f"{100 * float(predicted.double().mean()):.1f} % of the pixels" if predicted.any() else "not predicted"
        answer = f"{share}, mean P = {score:.3f}"
        region = predicted.cpu().numpy()
        return Target(classes[k], weight=weight, score=score, answer=answer, region=region, ask=classes[k])


application = Segmentation()


class _Head(nn.Module):
    """The backbone's outputs -> logits (N, K, h, w)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.neck = model.neck if model.with_neck else nn.Identity()
        self.decode_head = model.decode_head

    def forward(self, outs: Outputs) -> torch.Tensor:
        return self.decode_head(self.neck(outs))


def _largest(labels: torch.Tensor, classes: Sequence[str]) -> int:
    """The class with the most pixels; the background only where there is nothing else."""
    areas = labels.flatten().bincount(minlength=len(classes))
    if classes[0] == "background" and areas[1:].any():
        areas[0] = 0
    return int(areas.argmax())


def _choose_voc(cfg: Config, classes: str | None, *, own_data: bool) -> None:
    """Let the loaders read VOC, or data of one's own in its layout."""
    if not list_path(cfg.data_root, "").parent.is_dir():
        hint = below(Path(cfg.data_root), "ImageSets/Segmentation")
        if hint:
            raise FileNotFoundError(f"'{cfg.data_root}' has no folder 'ImageSets/Segmentation'{hint}")
    if own_data and cfg.train_list == "train_aug" and not list_path(cfg.data_root, cfg.train_list).is_file():
        cfg.train_list = "train"  # train_aug exists for VOC alone
    _fill_data(cfg, cfg.train_list, read_class_names(Path(classes)) if classes is not None else None)


def _set_size(cfg: Config) -> None:
    """Write ``crop_size`` wherever the model and the pipeline need it, and what ``inference`` chooses."""
    size = cfg.crop_size
    cfg.model.test_cfg = {"mode": "whole"}
    if cfg.inference == "slide":
        cfg.model.test_cfg = {"mode": "slide", "crop_size": (size, size), "stride": (size * 2 // 3,) * 2}
    cfg.model.data_preprocessor.size = (size, size)
    for step in cfg.train_dataloader.dataset.pipeline:
        if step.type == "RandomCrop":
            step.crop_size = (size, size)


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
