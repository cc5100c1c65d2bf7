"""A checkpoint as a function from images to results."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from ean_core.application import Application, NotFiniteError, find_application
from ean_core.checkpoint import meta_of, read_checkpoint
from ean_core.deploy import fuse as fuse_model
from ean_core.engine.config import read_config
from ean_core.engine.loading import load_model
from ean_core.engine.models import build_model
from ean_core.engine.progress import describe
from ean_core.errors import UserError
from ean_core.images import Picture, read_image, to_rgb
from ean_core.inference.admission import check_model
from ean_core.inference.stored_config import building_stored, stored_config
from ean_core.notebook import facts, scheme_svg
from ean_core.plug.pluggable import Pluggable

Source = str | os.PathLike[str] | Image.Image | NDArray[Any]


class Predictor:
    """A trained model of any task, called with images.

    Attributes:
        model: The network, in evaluation mode.
        cfg: Its config.
        task: Its application, with ``draw(image, result)`` and ``row(result)``.
        name: The checkpoint's path, for messages.
    """

    def __init__(self, model: nn.Module, cfg: Config, application: Application, name: str = "") -> None:
        self.model, self.cfg, self.task, self.name = model, cfg, application, name

    def __call__(self, images: Source | Sequence[Source], batch: int = 1) -> Any:
        """Predict.

        Args:
            images: A path, a PIL image, an array (see :func:`ean_core.inference.to_rgb`), or a list of these.
            batch: How many images of a list go through the network at once.

        Returns:
            The result of the image; for a list of images a list of results.

        Raises:
            FileNotFoundError: There is no such file.
            UserError: An image cannot be read.
        """
        if isinstance(images, list | tuple):
            results: list[Any] = []
            for start in range(0, len(images), batch):
                some = images[start : start + batch]
                results += self.predict([_picture(source) for source in some], [_name(source) for source in some])
            return results
        return self.predict([_picture(images)], [_name(images)])[0]  # type: ignore[arg-type]

    def predict(self, pictures: Sequence[Picture], names: Sequence[str] = ()) -> list[Any]:
        """The results of RGB images, uint8 (H, W, 3), all at once; ``names`` are the images', for messages.

        Raises:
            UserError: The network's output is not finite.
        """
        with torch.inference_mode(), DefaultScope.overwrite_default_scope(self.cfg.get("default_scope", "mmengine")):
            try:
                return self.task.predict(self.model, self.cfg, pictures)
            except NotFiniteError as error:
                raise self.not_finite(names) from error
            except (RuntimeError, MemoryError) as error:
                if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(error):
                    raise
                sizes = ", ".join(sorted({f"{picture.shape[1]}x{picture.shape[0]}" for picture in pictures}))
                raise UserError(
                    f"images of {sizes} pixels do not fit into the memory of {_device(self.model)}: set a smaller "
                    "--size or --batch, and leave --whole out"
                ) from error

    def _repr_html_(self) -> str:
        rows = {"checkpoint": self.name, "task": self.task.name, **describe(self.model, self.cfg)}
        classes = getattr(self.model, "dataset_meta", {}).get("classes")
        rows |= {"classes": ", ".join(classes)} if classes else {}
        network = next((part for part in self.model.modules() if isinstance(part, Pluggable)), None)
        scheme = network.scheme if network is not None and network.attention else None
        return facts(rows) + ("" if scheme is None else scheme_svg(scheme.stages))

    def not_finite(self, names: Sequence[str] = ()) -> UserError:
        """The error of a network whose output is not finite, which names the first such weight."""
        state = self.model.state_dict().items()
        wrong = next((k for k, v in state if isinstance(v, torch.Tensor) and not torch.isfinite(v).all()), None)
        images = f" for {', '.join(repr(name) for name in names if name)}" if any(names) else ""
        why = f": its weights hold values that are not finite ('{wrong}')" if wrong else ", though its weights are"
        advice = "train again with a lower learning rate" if wrong else "is it an image like those of the training?"
        return UserError(f"checkpoint '{self.name}' predicts values that are not finite{images}{why}: {advice}")


def load(
    config: str | os.PathLike[str] | Config | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    fuse: bool = False,
    *,
    trust: Collection[str] = (),
    size: int | None = None,
    whole: bool = False,
    batch: int = 1,
) -> Predictor:
    """Build a checkpoint's model for prediction. No data set has to exist.

    Args:
        config: A config file or a config; ``None``: the one that travels in the checkpoint.
        checkpoint: The weights, as training writes them.
        device: Such as ``"cpu"`` or ``"cuda:1"``; ``None``: a GPU if there is one.
        fuse: Fold batch norms into convolutions first: the same results up to rounding, faster.
        trust: Types, such as ``"module.Class"``, that the config in the checkpoint may import and build besides those
            of this project and its libraries. That runs their code, with options of the checkpoint's author.
        size: Reduce an image whose longer side has more pixels than this before the network sees it.
        whole: Send large images through the network in one piece, at their own size: neither in tiles, as a crowd
            counter else does, nor reduced, as a segmentation else is. Memory then grows with the image.
        batch: Tiles of a large image that go through the network together.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: A file cannot be read, the weights do not fit, there is no such device, or the config in the
            checkpoint builds what is not trusted.
    """
    if isinstance(trust, str):
        raise UserError(f"trust is a list of types, got the text {trust!r}: trust=({trust!r},)")
    if checkpoint is None:
        raise UserError("load needs a checkpoint: load(checkpoint='work_dirs/.../best.pth')")
    name = os.fspath(checkpoint)
    target = find_device(device)
    content = read_checkpoint(name)
    if config is None:
        cfg = stored_config(content, name)
    else:
        cfg = config.copy() if isinstance(config, Config) else read_config(Path(config))
    application = find_application(cfg)
    meta = meta_of(content)
    dataset_meta = _dataset_meta(meta, name)
    with building_stored(name) if config is None else nullcontext():
        application.configure_prediction(cfg, dataset_meta.get("classes") if config is not None else None)
        if config is None:
            check_model(cfg, name, trust)
        model = build_model(cfg)
    try:
        load_model(model, content, name)
    except ValueError as error:
        own = config is not None and "cfg" in meta
        raise UserError(f"{error} Without CONFIG the checkpoint's own config is used." if own else str(error)) from None
    if fuse:
        model = fuse_model(model)
    model.dataset_meta = dataset_meta  # type: ignore[assignment]
    cfg.prediction = {"size": size, "whole": whole, "batch": batch}
    return Predictor(model.to(target).eval(), cfg, application, name)


def _dataset_meta(meta: dict[Any, Any], name: str) -> dict[str, Any]:
    """What the training data said of themselves.

    Raises:
        UserError: It is of another form.
    """
    found = meta.get("dataset_meta") or {}
    classes = found.get("classes") if isinstance(found, Mapping) else 0
    colours = found.get("palette") if isinstance(found, Mapping) else None
    named = classes is None or (isinstance(classes, list | tuple) and all(isinstance(c, str) for c in classes))
    try:
        coloured = colours is None or np.asarray(colours, np.uint8).shape[1:] == (3,)
    except (OverflowError, TypeError, ValueError):
        coloured = False
    if not named or not coloured:
        raise UserError(f"checkpoint '{name}' holds class names that are no list of texts, or colours that are no RGB")
    return dict(found)


def find_device(device: str | torch.device | None) -> torch.device:
    """The device of that name; ``None``: a GPU if there is one.

    Raises:
        UserError: It cannot be used here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
        float(torch.ones(2, device=target).sum())  # some devices exist and compute nothing, as "meta"
    except Exception as error:  # what torch raises depends on how it was built
        raise UserError(f"device '{device}' cannot be used here: leave --device out, or choose cpu") from error
    return target


def _device(model: nn.Module) -> str:
    parameter = next(model.parameters(), None)
    return "this machine" if parameter is None else str(parameter.device)


def _picture(source: Source) -> Picture:
    if isinstance(source, str | os.PathLike):
        return read_image(source)
    return to_rgb(source if isinstance(source, Image.Image) else np.asarray(source))


def _name(source: Source) -> str:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else ""
