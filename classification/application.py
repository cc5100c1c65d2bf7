"""Classification as a task: a config's choices, the data check, what a search measures, predictions, explanations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from mmengine.config import Config
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from classification.classifier import ImageClassifier
from classification.datasets import SEARCH_PARTS, check_files, collate, load_images
from classification.metric import SEARCH_METRIC
from classification.prediction import draw, predict, row, view
from classification.sources import CIFAR, detect_layout, read_classes, read_source
from classification.splits import split_search
from classification.toy_shapes import make_toy
from ean_core.application import Application, Evaluation, Target, class_index
from ean_core.engine.config import read_class_names
from ean_core.engine.schema import Count, Entries, Epochs, ImageModel, Loader, Positive, check_entries
from ean_core.errors import UserError
from ean_core.terminal import tool

CHECKED = 100_000  # folders with more images are not decoded before the training starts
Part = Literal["train", "val", "test", "search_train", "search_val"]


class Words(Entries):
    """What this task reads in a config besides."""

    model: ImageModel
    train_cfg: Epochs
    data_root: str
    layout: Literal["folder", "cifar10", "cifar100"]
    image_size: Positive
    orientation: Literal["upright"] = "upright"  # a label has no view that could be another than the image's
    in_memory: bool
    held_out: Positive
    split_seed: Count | None
    train_part: Part
    val_part: Part
    train_dataloader: Loader
    val_dataloader: Loader
    test_dataloader: Loader


class Classification(Application):
    """Image classification; what is not described here, :class:`~ean_core.application.Application` describes."""

    name = "classification"
    output = "logits (N, K)"
    predict, draw, row, view = staticmethod(predict), staticmethod(draw), staticmethod(row), staticmethod(view)

    def configure(self, cfg: Config, *, toy: bool, data_root: str | None, classes: str | None) -> None:
        """Turn the one-word choices of a config into the entries that MMEngine builds.

        ``layout``, ``image_size``, ``in_memory``, ``held_out`` and ``split_seed`` go to every data set; ``train_part``
        and ``val_part`` say what is trained and validated on (see :func:`classification.datasets.build_dataset`). The
        number of classes follows the data, and the steps of the learning rate scale with ``train_cfg.max_epochs``.
        ``classes`` names class folders: these are used, in this order.
        """
        check_entries(cfg, Words)
        if toy and data_root is None:
            data_root = str(make_toy(Path("data", "toy"), "folder" if cfg.layout == "folder" else "cifar100"))
        if data_root is not None:
            if not Path(data_root).is_dir():
                raise FileNotFoundError(f"data root '{data_root}' does not exist: name another, or try --toy")
            cfg.data_root, cfg.layout = data_root, detect_layout(data_root, cfg.layout)
        elif not _is_there(cfg):
            raise FileNotFoundError(
                f"no {cfg.layout} data in '{cfg.data_root}': {_advice(cfg)}, name your own with --data-root, or try "
                "--toy"
            )
        names = read_class_names(Path(classes)) if classes is not None else None
        cfg.model.num_classes = len(read_classes(cfg.data_root, cfg.layout, names))
        for loader, part in (
            (cfg.train_dataloader, cfg.train_part),
            (cfg.val_dataloader, cfg.val_part),
            (cfg.test_dataloader, cfg.get("test_part", "test")),
        ):
            common = {"root": str(cfg.data_root), "layout": cfg.layout, "image_size": cfg.image_size}
            common |= {"in_memory": cfg.in_memory, "held_out": cfg.held_out, "split_seed": cfg.split_seed}
            loader.dataset.update(part=part, classes=names, **common)
        schedulers: Any = cfg.get("param_scheduler") or []
        listed: list[Any] = [schedulers] if isinstance(schedulers, dict) else schedulers
        for scheduler in listed:
            if "milestones" in scheduler and math.isfinite(scheduler.get("end", math.inf)):
                scale = cfg.train_cfg.max_epochs / scheduler.end
                scheduler.milestones = [max(1, round(epoch * scale)) for epoch in scheduler.milestones]

    def check(self, cfg: Config, *, train: bool) -> None:
        """Find images that cannot be read, and splits that the data do not allow, before anything is trained.

        Folders of more than 100,000 images are not decoded here. The message has the first problem, and how many.
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

    def found_data(self, root: Path) -> Iterator[str]:
        """CIFAR and ImageNet in the places that the configs name."""
        for name, form in (("CIFAR-100", CIFAR["cifar100"]), ("CIFAR-10", CIFAR["cifar10"])):
            if (root / form.folder).is_dir():
                whole = all((root / form.folder / file).is_file() for file in (*form.train, *form.test, form.meta))
                yield name if whole else f"{name} (incomplete)"
        parts = [root / "imagenet" / part for part in ("train", "val")]
        if parts[0].parent.is_dir():
            sizes = [f"{p.name} {sum(c.is_dir() for c in p.iterdir())} classes" for p in parts if p.is_dir()]
            yield f"ImageNet ({', '.join(sizes) or 'no train or val'})"

    def evaluation(self, model: nn.Module, cfg: Config) -> Evaluation:
        """The accuracy on the validation images, which a search's config makes D_val.

        Images stay uint8 in host memory, 3 bytes a pixel (15 GB for ImageNet's D_val). Under ``torchrun`` every rank
        holds all of them, since ranks evaluate different schemes.
        """
        if not isinstance(model, ImageClassifier):
            raise UserError(f"a search on classification needs an ImageClassifier, got {type(model).__name__}")
        loader = cfg.val_dataloader

        def read(dataset: Any) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
            workers = loader.get("num_workers", 0)
            batches = DataLoader(dataset, loader.batch_size, num_workers=workers, collate_fn=collate)
            return ((batch["inputs"], batch["labels"]) for batch in batches)

        return Evaluation(
            head=model.classify,
            preprocess=lambda images: model.data_preprocessor({"inputs": images})["inputs"],
            read=read,
            plain_training={**cfg.train_dataloader.dataset, "augment": False},
            metric=SEARCH_METRIC,
            loss=F.cross_entropy,
        )

    def configure_prediction(self, cfg: Config, classes: Sequence[str] | None) -> None:
        """The number of classes follows the checkpoint, as it followed the data in training."""
        if classes:
            cfg.model.num_classes = len(classes)

    def explain(
        self, model: Any, inputs: torch.Tensor, output: torch.Tensor, size: tuple[int, int], target: str | None
    ) -> Target:
        """The logit of a class, without softmax, as in the paper."""
        classes = model.dataset_meta.get("classes") or [str(k) for k in range(len(output))]
        k = class_index(target, classes) if target is not None else int(output.argmax())
        weight = F.one_hot(torch.tensor(k, device=output.device), len(output))
        score = float(output.float().softmax(0)[k])
        return Target(classes[k], weight=weight, score=score, answer=f"P = {score:.3f}", ask=classes[k])


application = Classification()


def _is_there(cfg: Config) -> bool:
    root = Path(cfg.data_root)
    return root.is_dir() and (cfg.layout == "folder" or detect_layout(root, cfg.layout) == cfg.layout)


def _advice(cfg: Config) -> str:
    if cfg.layout in CIFAR:
        return f"fetch it with '{tool('prepare_data')} {cfg.layout} --root {cfg.data_root}'"
    return "put train/CLASS/ and val/CLASS/ there"
