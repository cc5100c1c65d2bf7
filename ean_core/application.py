"""What a task offers: one object that is found by the name in a config, once, and handed on to whoever needs it.

``task = "segmentation"`` in a config names a package. Its module ``application`` has an :class:`Application` called
``application``. A task of your own needs no more than that: ``docs/own_task.md`` shows one whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import KW_ONLY, dataclass, field
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from mmengine.config import Config
from numpy.typing import NDArray
from torch import nn

from ean_core.errors import UserError
from ean_core.metric import Metric

TASKS = ("classification", "segmentation", "crowd_counting")
"""The applications that come with this project; only these may be named by the config inside a checkpoint."""

RESULTS = {"checkpoint": "best.pth", "to resume": "last.pth", "metrics": "metrics.json", "curves": "curves.png"}
Outputs = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Evaluation:
    """How a search measures a model's backbone under a scheme.

    Attributes:
        head: From the backbone's outputs to predictions, e.g. logits.
        preprocess: From a batch's inputs to the backbone's, e.g. uint8 to normalised floats.
        read: From a data set to all its batches, in its order: inputs and targets, decoded. Inputs stay in host memory.
        plain_training: The config of the training images without augmentation, of which some renew the statistics of
            batch norms (``search.calibration``).
        metric: What to measure; the values that a validation reports under the same names.
        loss: From predictions and targets to a loss, for strategies that follow its gradient.
    """

    head: Callable[[Outputs], Any]
    _: KW_ONLY
    preprocess: Callable[[torch.Tensor], torch.Tensor]
    read: Callable[[Any], Iterable[tuple[torch.Tensor, Any]]]
    plain_training: Mapping[str, Any]
    metric: Metric
    loss: Callable[[Any, Any], torch.Tensor]


@dataclass(frozen=True)
class Target:
    """What Grad-CAM explains of one image.

    Attributes:
        name: For titles: a class, or what else is explained.
        weight: Like the network's output for the image; what is explained is the sum of ``weight * output``.
        score: What the network says of it, e.g. a probability.
        answer: The score in words.
        region: Where it says so, (H, W) as the network sees the image; drawn as an outline.
        size: Height and width of the image in the network's input, where there is padding at the right or the bottom.
        ask: The same question for another model, as ``--target`` takes it; ``None``: there is only one.
    """

    name: str
    _: KW_ONLY
    weight: torch.Tensor
    score: float
    answer: str
    region: NDArray[np.bool_] | None = None
    size: tuple[int, int] | None = None
    ask: str | None = None


class Share(NamedTuple):
    """A line of a legend.

    Attributes:
        name: What it is, such as a class.
        part: How much of the whole, in [0, 1], if it is a part of one.
        colour: RGB, 0..255; ``None``: it has none of its own.
    """

    name: str
    part: float | None = None
    colour: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class View:
    """What a page shows of a result beside the image.

    Attributes:
        answer: The result in a few words.
        legend: Its parts, the largest first, or what the colours of the layer mean.
        layer: Laid over the image, as opaque as the reader likes: RGBA, uint8 (H, W, 4).
        cells: A quantity in each cell of a grid over the image, (h, w): the page tells its sum inside a rectangle.
        cell: Pixels a cell, each way.
        unit: What the cells count, such as ``"people"``.
        files: The result as files, by name.
    """

    answer: str
    _: KW_ONLY
    legend: Sequence[Share] = ()
    layer: NDArray[np.uint8] | None = None
    cells: NDArray[np.floating] | None = None
    cell: int = 1
    unit: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)


@runtime_checkable
class Application(Protocol):
    """A task. Its class derives from this one and defines what it offers; the rest says that it is not offered.

    Attributes:
        name: The task's name, as in configs.
        results: What a training leaves in the work directory, to be listed at its end: labels and files.
        output: The network's output in words, with its shape, for exported files.
        over_time: Columns of :meth:`row` to draw as curves over the frames of a video.
        forms: In which results can be saved besides, such as ``"masks"`` (:meth:`saving`).
    """

    name: str
    results: Mapping[str, str] = RESULTS
    output: str = "see the task"
    over_time: Sequence[str] = ()
    forms: Sequence[str] = ()

    # -- configs and data

    def configure(self, cfg: Config, *, toy: bool, data_root: str | None, classes: str | None) -> None:
        """Turn the one-word choices of a config into the entries that MMEngine builds.

        Args:
            cfg: The config, changed in place.
            toy: Make the toy data set and use it.
            data_root: The folder of the data, instead of the config's.
            classes: A file with one class name a line.

        Raises:
            UserError, FileNotFoundError: An unknown choice, or data that are not there.
        """

    def check(self, cfg: Config, *, train: bool) -> None:
        """Find wrong data before anything is trained (or tested, without ``train``) on them.

        Raises:
            UserError: What is wrong, the first ten problems at most, and what to do.
        """

    def found_data(self, root: Path) -> Iterator[str]:
        """The task's data sets in a folder, each in words with its size, for ``tools/doctor.py``."""
        return iter(())

    # -- search

    def evaluation(self, model: nn.Module, cfg: Config) -> Evaluation:
        """How a search measures a model of this task.

        Raises:
            UserError: The model or the config cannot be searched.
        """
        raise UserError(
            f"the task '{self.name}' offers no search: its application lacks the method 'evaluation' (docs/own_task.md "
            "has one)"
        )

    # -- prediction

    def configure_prediction(self, cfg: Config, classes: Sequence[str] | None) -> None:
        """Make the choices of a config that its model needs, without any data.

        Args:
            cfg: The config, changed in place. One that comes from a checkpoint passes through: its choices are made.
            classes: For a config file the class names of the checkpoint, if it has some, so that the number of classes
                can follow them.
        """

    def predict(self, model: Any, cfg: Config, images: Sequence[NDArray[np.uint8]]) -> list[Any]:
        """Predict under ``torch.inference_mode`` with a model in evaluation mode.

        Args:
            model: Its ``data_preprocessor`` knows the device, its ``dataset_meta`` what the training data said of
                themselves, such as ``classes``.
            cfg: Its config. ``cfg.prediction`` has what :func:`ean_core.inference.load` was asked for: ``size``, the
                longer side that the network may see, ``whole`` and ``batch``.
            images: RGB (H, W, 3), upright, possibly of different sizes.

        Returns:
            A result for each image, in their order: a frozen dataclass of NumPy arrays and plain values, in the size of
            the image it belongs to.
        """
        raise UserError(f"the task '{self.name}' offers no prediction")

    def draw(self, image: NDArray[np.uint8], result: Any) -> Any:
        """A picture of a result to look at, a ``PIL.Image``. Images of one size give pictures of one size."""
        raise UserError(f"the task '{self.name}' draws no predictions")

    def row(self, result: Any) -> dict[str, object]:
        """The columns of ``predictions.csv``; the same keys in the same order for every result of a model."""
        return {}

    def choose_region(self, cfg: Config, region: Sequence[tuple[float, float]]) -> None:
        """Restrict predictions to a polygon, for ``--region``: change the config that :meth:`predict` gets.

        Args:
            cfg: The config, changed in place.
            region: The corners, x and y in pixels of an image, in order.
        """
        raise UserError(f"--region: the task '{self.name}' has no regions")

    def view(self, image: NDArray[np.uint8], result: Any) -> View:
        """The result as a page shows it (``tools/demo.py``); here :meth:`row` in words, beside its picture."""
        return View(", ".join(f"{name} {value}" for name, value in self.row(result).items()))

    def saving(self, kinds: Collection[str], out: Path) -> AbstractContextManager[Callable[[Path, Path, Any], None]]:
        """What to call with an image's path, its place below ``out`` and its result, to save it in further forms.

        Args:
            kinds: The forms, such as ``"masks"``.
            out: The folder.
        """
        raise UserError(f"the task '{self.name}' saves no further forms")

    def require_forms(self, kinds: Collection[str]) -> None:
        """Raise a ``UserError`` where results of this task cannot be saved in one of these forms."""
        for kind in kinds:
            if kind not in self.forms:
                known = ", ".join(self.forms) or "no further forms"
                raise UserError(f"the task '{self.name}' saves {known}: not {kind}")

    # -- the network as one function, for Grad-CAM and export

    def normalise(self, model: Any, images: torch.Tensor) -> torch.Tensor:
        """RGB images as float32 (N, 3, H, W) in 0..255 -> the network's inputs, padded if need be."""
        preprocessor = model.data_preprocessor
        mean, std = (getattr(preprocessor, key).view(1, -1, 1, 1) for key in ("mean", "std"))
        return (images - mean) / std

    def forward(self, model: Any, inputs: torch.Tensor) -> torch.Tensor:
        """Normalised images (N, 3, H, W) -> one tensor, which :attr:`output` describes."""
        output: torch.Tensor = model(inputs, mode="tensor")
        return output

    def exported(self, model: Any, images: torch.Tensor) -> torch.Tensor:
        """RGB images as float32 (N, 3, H, W) in 0..255 -> what an exported file returns."""
        return self.forward(model, self.normalise(model, images))

    def explain(
        self, model: Any, inputs: torch.Tensor, output: torch.Tensor, size: tuple[int, int], target: str | None
    ) -> Target:
        """What Grad-CAM explains of an image.

        Args:
            model: The model.
            inputs: The network's input, (1, 3, H, W).
            output: What :meth:`forward` makes of it, for this one image.
            size: Height and width of the image as it was given.
            target: What is asked for, e.g. a class by name or number; ``None``: what the model predicts.

        Raises:
            UserError: There is no such target.
        """
        raise UserError(f"the task '{self.name}' offers no Grad-CAM")


class NotFiniteError(UserError):
    """A network's output is NaN or infinite; :class:`ean_core.inference.Predictor` says more."""


def require_finite(output: torch.Tensor) -> None:
    """Look at a network's output before anything is concluded from it.

    Raises:
        NotFiniteError: A value is NaN or infinite.
    """
    if not output.isfinite().all():
        raise NotFiniteError("the network's output is not finite: train again with a lower learning rate")


def class_names(model: Any, count: int) -> tuple[str, ...]:
    """The names of a model's classes, numbers as text where its checkpoint knows none.

    Raises:
        UserError: There are more or fewer than ``count``, the network's.
    """
    names = tuple(model.dataset_meta.get("classes") or map(str, range(count)))
    if len(names) != count:
        raise UserError(f"the checkpoint names {len(names)} classes, and its network has {count}")
    return names


def find_application(cfg: Config) -> Application:
    """The application that a config names.

    Raises:
        UserError: It names none, or one that does not exist.
    """
    if "task" not in cfg:
        raise UserError(f"'{cfg.filename}' names no task: add task = 'segmentation', or another package's name")
    return load_application(str(cfg.task), f"'{cfg.filename}'")


def load_application(task: str, where: str = "the config") -> Application:
    """The application of a task's name; ``where`` is who names it, for the message.

    Raises:
        UserError: There is no such package, or it has no application.
    """
    module = f"{task}.application"
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise UserError(
            f"{where} names an unknown task '{task}': there is no module '{module}'; known are {', '.join(TASKS)}, and "
            "packages of your own whose parent folder is in PYTHONPATH"
        ) from error
    application: Application | None = getattr(found, "application", None)
    if not isinstance(application, Application):
        raise UserError(f"'{module}' has no application: let a class derive from ean_core.application.Application and "
                        "call its instance 'application'")  # fmt: skip
    return application


def class_index(target: str, classes: Sequence[str]) -> int:
    """The number of a class that is named, or given by its number.

    Raises:
        UserError: There is no such class; the message names a similar one.
    """
    if target in classes:
        return list(classes).index(target)
    if target.isdigit() and int(target) < len(classes):
        return int(target)
    close = (get_close_matches(target, classes, n=1) or [classes[0]])[0]
    raise UserError(
        f"--target '{target}' is none of the {len(classes)} classes (such as '{close}'), nor a number below it"
    )
