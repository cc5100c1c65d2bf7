"""A checkpoint as a function from images to results."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from ean_core.application import Application, find_application
from ean_core.checkpoint import read_checkpoint
from ean_core.deploy import fuse as fuse_model
from ean_core.engine.config import read_config
from ean_core.engine.models import build_model
from ean_core.engine.runner import load_model
from ean_core.errors import UserError
from ean_core.inference.images import Picture, read_image, to_rgb
from ean_core.inference.stored_config import check_types, stored_config

Source = str | os.PathLike[str] | Image.Image | NDArray[Any]


class Predictor:
    """A trained model of any task, called with images.

    Attributes:
        model: The network, in evaluation mode.
        cfg: Its config.
        task: Its application, with ``draw(image, result)`` and ``row(result)``.
    """

    def __init__(self, model: nn.Module, cfg: Config, application: Application) -> None:
        self.model, self.cfg, self.task = model, cfg, application

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
                results += self.predict([_picture(source) for source in images[start : start + batch]])
            return results
        return self.predict([_picture(images)])[0]  # type: ignore[arg-type]

    def predict(self, pictures: Sequence[Picture]) -> list[Any]:
        """The results of RGB images, uint8 (H, W, 3), all at once."""
        with torch.inference_mode(), DefaultScope.overwrite_default_scope(self.cfg.get("default_scope", "mmengine")):
            return self.task.predict(self.model, self.cfg, pictures)


def load(
    config: str | os.PathLike[str] | Config | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    fuse: bool = False,
) -> Predictor:
    """Build a checkpoint's model for prediction. No data set has to exist.

    Args:
        config: A config file or a config; ``None``: the one that travels in the checkpoint.
        checkpoint: The weights, as training writes them.
        device: Such as ``"cpu"`` or ``"cuda:1"``; ``None``: a GPU if there is one.
        fuse: Fold batch norms into convolutions first: the same results up to rounding, faster.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: A file cannot be read, the weights do not fit, or there is no such device.
    """
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
    meta = content.get("meta")
    dataset_meta = dict(meta.get("dataset_meta") or {}) if isinstance(meta, dict) else {}
    application.configure_prediction(cfg, dataset_meta.get("classes") if config is not None else None)
    if config is None:
        check_types(cfg.model, name)
    model = build_model(cfg)
    try:
        load_model(model, content, name)
    except ValueError as error:
        own = config is not None and isinstance(meta, dict) and "cfg" in meta
        raise UserError(f"{error} Without CONFIG the checkpoint's own config is used." if own else str(error)) from None
    if fuse:
        model = fuse_model(model)
    model.dataset_meta = dataset_meta  # type: ignore[assignment]
    return Predictor(model.to(target).eval(), cfg, application)


def find_device(device: str | torch.device | None) -> torch.device:
    """The device of that name; ``None``: a GPU if there is one.

    Raises:
        UserError: It cannot be used here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError) as error:  # what torch raises depends on how it was built
        raise UserError(f"device '{device}' cannot be used here: leave --device out, or choose cpu") from error
    return target


def _picture(source: Source) -> Picture:
    if isinstance(source, str | os.PathLike):
        return read_image(source)
    return to_rgb(source if isinstance(source, Image.Image) else np.asarray(source))
