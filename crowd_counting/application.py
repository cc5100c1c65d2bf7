"""Crowd counting as a task: a config's choices, the data check, what a search measures, predictions, explanations."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from pydantic import Field
from torch import nn
from torch.nn import functional as F

import crowd_counting.bayesian_loss
import crowd_counting.dm_count
import crowd_counting.head
import crowd_counting.losses
import crowd_counting.preprocess  # noqa: F401
from crowd_counting.check import check_crowd
from crowd_counting.counter import CrowdCounter
from crowd_counting.density_files import files
from crowd_counting.layouts import LAYOUTS, counted, find_layout, layout_samples
from crowd_counting.metric import SEARCH_METRIC, Truth, count_loss
from crowd_counting.prediction import CrowdCount, draw, predict, row, view
from crowd_counting.shanghaitech import PARTS, detect_part
from crowd_counting.toy_crowds import make_toy_crowd
from ean_core.application import RESULTS, Application, Evaluation, Outputs, Target
from ean_core.data_check import print_notes
from ean_core.engine.schema import Entries, ImageModel, Loader, Options, check_entries
from ean_core.errors import UserError, building
from ean_core.files import write_atomic

BACKBONE_STRIDE = 8
PLURALS = {"schedule": "schedules", "head": "heads", "loss": "losses"}
"""The words that choose one of several dicts of options, and the entries that have these."""


class Counter(ImageModel):
    """The model of this task."""

    head: Options


class Choices(Entries):
    """What the model of this task is chosen by; a config that has made its choices lacks them."""

    head: str = ""
    heads: dict[str, Options] | None = None
    loss: str = ""
    losses: dict[str, Options] | None = None
    schedule: str = ""
    schedules: dict[str, Options] | None = None
    output_stride: Literal[1, 2, 4, 8] = 8
    inference: Literal["whole", "tiled"] = "whole"
    tiling: Options | None = None


class Words(Choices):
    """What this task reads in a config besides."""

    model: Counter
    data_root: str
    part: str | None
    longest: Annotated[int, Field(ge=1)] | None = None
    orientation: Literal["upright", "stored"] = "upright"
    train_dataloader: Loader
    val_dataloader: Loader
    test_dataloader: Loader
    val_evaluator: Options
    test_evaluator: Options


class CrowdCounting(Application):
    """Crowd counting; what is not described here, :class:`~ean_core.application.Application` describes."""

    name = "crowd_counting"
    results = RESULTS | {"pictures": "preview.png"}
    output = "people in each cell (N, 1, h, w); their sum is the count"
    over_time = ("count", "in_region")
    forms = ("density",)
    predict, draw, row, view = staticmethod(predict), staticmethod(draw), staticmethod(row), staticmethod(view)

    def configure(self, cfg: Config, *, toy: bool, data_root: str | None, classes: str | None) -> None:
        """Turn the one-word choices of a config into the entries that MMEngine builds.

        ``part`` is ``"A"`` or ``"B"`` of ShanghaiTech, or a name of :data:`crowd_counting.layouts.LAYOUTS`; ``longest``
        limits the sides of images (:class:`crowd_counting.dataset.CrowdDataset`); ``orientation`` says in which view
        the points were made, ``"upright"`` or ``"stored"``, where an image's EXIF tag turns it; the other words are
        those of :func:`choose_model`. ``data_root`` is a folder with that data set, or images and points of one's own.
        """
        if classes is not None:
            raise UserError("--classes: crowd counting has no classes, leave it out")
        check_entries(cfg, Words)
        if cfg.part not in (*PARTS, *LAYOUTS, None):
            raise UserError(
                f"unknown part {cfg.part!r}: choose from {', '.join((*PARTS, *LAYOUTS))}, or None for your own data"
            )
        choose_model(cfg)
        if toy and data_root is None:
            cfg.part = cfg.part if cfg.part in PARTS else "B"
            data_root = str(make_toy_crowd(Path("data", "toy"), cfg.part))
        if data_root is not None:
            cfg.data_root = data_root
        if not Path(cfg.data_root).is_dir():
            raise FileNotFoundError(
                f"data root '{cfg.data_root}' does not exist: download ShanghaiTech into it, name your own with "
                "--data-root, or try --toy"
            )
        cfg.part = detect_part(cfg.data_root, cfg.part)
        data = {"root": cfg.data_root, "part": cfg.part, "orientation": cfg.get("orientation", "upright")}
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            loader.dataset.update(data, stride=cfg.model.stride, longest=cfg.get("longest"))
        if getattr(MODELS.get(cfg.model.loss.get("type", "")), "of_points", False):
            cfg.train_dataloader.dataset.density = None  # nothing is compared with a map
        policy = cfg.train_dataloader.dataset.get("out_of_frame", "drop")
        for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
            evaluator.update(stride=cfg.model.stride, baseline=data | {"out_of_frame": policy})

    def check(self, cfg: Config, *, train: bool) -> None:
        """Find wrong images and annotations before anything is trained on them."""
        splits = ("train", "val") if train else ("test",)
        policy = cfg.test_dataloader.dataset.get("out_of_frame", "drop")
        notes = check_crowd(
            cfg.data_root, cfg.part, splits, orientation=cfg.get("orientation", "upright"), out_of_frame=policy
        )
        print_notes(notes)

    def found_data(self, root: Path) -> Iterator[str]:
        """The parts of ShanghaiTech and the data sets of ``LAYOUTS``, in a folder or one folder further down."""
        parts = {path for part in PARTS for path in (*root.glob(f"part_{part}*"), *root.glob(f"*/part_{part}*"))}
        for part in sorted(parts):
            sizes = [f"{n} {len(list(part.glob(f'{n}_data/images/IMG_*.jpg')))}" for n in ("train", "test")]
            yield f"ShanghaiTech {part.name} ({', '.join(sizes)})"
        for name, layout in LAYOUTS.items():
            if name[-1] not in "2345" and (folder := find_layout(root, name)) is not None:  # the folds share a folder
                total = sum(len(layout_samples(root, name, split)) for split in counted(layout))
                yield f"{layout.title.split(',')[0]} in {folder.name} ({total} images)"

    def evaluation(self, model: nn.Module, cfg: Config) -> Evaluation:
        """MAE, MSE (RMSE) and NAE on the validation images, as validation reports them.

        A reward takes them with ``direction="down"``, for example ``dict(metric="MAE", direction="down")``. Images stay
        uint8 in memory, whole and one to a batch, since they differ in size.
        """
        if not isinstance(model, CrowdCounter):
            raise UserError(f"a search on crowd counting needs a CrowdCounter, got {type(model).__name__}")

        def read(dataset: Any) -> Iterator[tuple[torch.Tensor, Truth]]:
            for item in (dataset[index] for index in range(len(dataset))):
                people = torch.tensor([len(item["points"])], device=model.data_preprocessor.device)
                yield item["inputs"][None], Truth(people, model.cells(item["inputs"].shape[-2:]))

        def density(outs: Outputs) -> torch.Tensor:
            return model.head(outs[model.in_index]).float() / model.loss.label_scale

        return Evaluation(
            head=density,
            preprocess=lambda images: model.data_preprocessor({"inputs": images})["inputs"],
            read=read,
            plain_training={**cfg.train_dataloader.dataset, "augment": None, "density": None},
            metric=SEARCH_METRIC,
            loss=count_loss,
        )

    def configure_prediction(self, cfg: Config, classes: Sequence[str] | None) -> None:
        """Choose the head and the output stride that a config file asks for; there are no classes."""
        check_entries(cfg, Choices)
        choose_model(cfg)

    def choose_region(self, cfg: Config, region: Sequence[tuple[float, float]]) -> None:
        """Count in a polygon besides."""
        cfg.region = [list(corner) for corner in region]

    @contextmanager
    def saving(self, kinds: Collection[str], out: Path) -> Iterator[Callable[[Path, Path, CrowdCount], None]]:
        """``"density"``: people in each cell, as an array and as a 16-bit picture beside the image's picture."""

        def save(path: Path, place: Path, result: CrowdCount) -> None:
            for ending, content in files(result.density).items() if "density" in kinds else ():
                write_atomic(out / place.with_name(f"{place.stem}-density{ending}"), content)

        yield save

    def normalise(self, model: CrowdCounter, images: torch.Tensor) -> torch.Tensor:
        """RGB in 0..255 -> the network's inputs, padded as its preprocessor does it."""
        multiple = model.data_preprocessor.pad_size_divisor
        height, width = images.shape[-2:]
        return F.pad(super().normalise(model, images), (0, -width % multiple, 0, -height % multiple))

    def exported(self, model: CrowdCounter, images: torch.Tensor) -> torch.Tensor:
        """RGB in 0..255 -> people in each cell, without the padding."""
        rows, columns = model.cells(images.shape[-2:])
        return super().exported(model, images)[..., :rows, :columns]

    def explain(
        self, model: CrowdCounter, inputs: torch.Tensor, output: torch.Tensor, size: tuple[int, int], target: str | None
    ) -> Target:
        """The sum of the density map, the count."""
        if target is not None:
            raise UserError("a crowd counter has no classes: leave --target out")
        rows, columns = model.cells(size)
        weight = torch.zeros_like(output)
        weight[:, :rows, :columns] = 1  # what lies beyond is padding
        count = float((output * weight).sum())
        return Target("count", weight=weight, score=count, answer=f"count {count:.1f}", size=size)


application = CrowdCounting()


def choose_model(cfg: Config) -> None:
    """Make the choices that need no data: ``head``, ``loss``, ``schedule``, ``output_stride`` and ``inference``.

    A config that comes out of here passes through unchanged.

    Raises:
        UserError: An unknown choice, or one that was made before.
    """
    for word, several in PLURALS.items():
        if word in cfg and several not in cfg:
            raise UserError(
                f"{word}={cfg[word]!r}: this config has made its choice of a {word}, as a training writes it; take the "
                "config that the training began with"
            )
        known = cfg.get(several, {})
        if known and cfg.get(word) not in known:
            raise UserError(f"unknown {word} {cfg.get(word)!r}: choose from {', '.join(known)}")
    if "schedules" in cfg:
        with building(f"schedules.{cfg.schedule}"):
            chosen = copy.deepcopy(cfg.schedules[cfg.schedule])
            cfg.train_dataloader.setdefault("batch_size", chosen.pop("batch_size"))
            _lay_under(cfg, chosen)
    for word in ("head", "loss"):
        if PLURALS[word] in cfg:
            _lay_under(cfg, {"model": {word: copy.deepcopy(cfg[PLURALS[word]][cfg[word]])}})
    for key in (*PLURALS, *PLURALS.values()):
        cfg.pop(key, None)
    if "output_stride" in cfg:
        stride = cfg.pop("output_stride")
        cfg.model.stride, cfg.model.head.upsample = stride, BACKBONE_STRIDE // stride
    if "inference" in cfg:
        word, tiling = cfg.pop("inference"), cfg.get("tiling")
        cfg.model.tiling = dict(tiling) if word == "tiled" else None


def _lay_under(cfg: Config, lower: dict[str, Any]) -> None:
    """Merge ``lower`` into the config where the config itself says nothing."""
    merged = Config(dict(lower))
    merged.merge_from_dict({key: cfg[key] for key in lower if key in cfg})
    cfg.update(merged.to_dict())
