"""Grad-CAM (Selvaraju et al., ICCV 2017, arXiv 1610.02391) of any task's model, several models on one image.

The maps come from the package ``grad-cam``: ``relu(sum_k alpha_k A_k)`` for the feature maps ``A`` of a stage, with
``alpha_k`` the mean over positions of the gradient of the target with respect to ``A_k``; enlarged bilinearly, and
shifted and scaled to [0, 1]. Each map has its own scale: colours tell where, scores tell how much. Where no position
speaks for the target the map is 0.

What is explained, the task says (:meth:`ean_core.application.Application.explain`). The target layer is the output of a
stage. The attention module that a stage's blocks share is no target: it is called by many blocks in one forward, so its
feature map is not one map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ean_core.errors import UserError
from ean_core.inference import Predictor, load, read_image
from ean_core.plug import Staged, find_staged


@dataclass(frozen=True)
class Explanation:
    """Where a model looked.

    Attributes:
        name: The model's.
        seen: What the network saw, RGB uint8 (H, W, 3), without padding.
        heat: Grad-CAM in [0, 1], float32 (H, W).
        target: What is explained, e.g. a class.
        score: What the model says of it, e.g. a probability.
        answer: The score in words, and whether nothing speaks for the target.
        region: Where the model predicts it, (H, W), where the task tells.
        ask: The same question for another model; ``None``: there is only one.
    """

    name: str
    _: KW_ONLY
    seen: NDArray[np.uint8]
    heat: NDArray[np.float32]
    target: str
    score: float
    answer: str
    region: NDArray[np.bool_] | None = None
    ask: str | None = None


def explain_files(
    models: Sequence[Sequence[str]],
    image: str,
    target: str | None = None,
    stage: int | None = None,
    trust: Sequence[str] = (),
) -> list[Explanation]:
    """Grad-CAM of one image under several models.

    Args:
        models: Checkpoints, each alone or after its config.
        image: The image file.
        target: What is asked for, e.g. a class by name or number; ``None``: the first model's prediction.
        stage: From 1; ``None``: each network's last.
        trust: See :func:`ean_core.inference.load`.

    Raises:
        UserError, FileNotFoundError: A file cannot be read, an unknown target or stage, or grad-cam is not installed.
    """
    picture = read_image(image)
    found: list[Explanation] = []
    for files in models:
        if len(files) > 2:
            raise UserError(f"a model is a checkpoint, or a config and a checkpoint, got {' '.join(files)}")
        predictor = load(files[0] if len(files) == 2 else None, files[-1], trust=trust)
        name = "/".join(Path(files[-1]).with_suffix("").parts[-2:])
        found.append(explain(predictor, picture, target, stage, name))
        target = target if target is not None else found[0].ask  # the same question to all models
    return found


def explain(
    predictor: Predictor,
    picture: NDArray[np.uint8],
    target: str | None = None,
    stage: int | None = None,
    name: str = "",
) -> Explanation:
    """Grad-CAM of one RGB image (H, W, 3); the arguments are those of :func:`explain_files`."""
    model, backbone = predictor.model, find_staged(predictor.model)
    last = max(backbone.out_indices) + 1
    stage = last if stage is None else stage
    if not 1 <= stage <= last:
        raise UserError(f"--stage {stage}: the network uses stages 1 to {last}")
    inputs = network_input(predictor, backbone, picture)
    network = _Network(predictor)
    with torch.no_grad():
        output = network(inputs)[0]  # (K,), (K, H, W) or (1, h, w)
    size = (picture.shape[0], picture.shape[1])
    asked = predictor.task.explain(model, inputs, output, size, target)
    heat = _heat(network, backbone.stages[stage - 1], inputs, _Sum(asked.weight))
    height, width = asked.size or inputs.shape[2:]
    answer = asked.answer if heat.any() else f"{asked.answer}; empty map"
    seen = _seen(model, inputs)[:height, :width]
    heat = heat[:height, :width]
    return Explanation(
        name,
        seen=seen,
        heat=heat,
        target=asked.name,
        score=asked.score,
        answer=answer,
        region=asked.region,
        ask=asked.ask,
    )


def network_input(predictor: Predictor, backbone: Staged, picture: NDArray[np.uint8]) -> torch.Tensor:
    """The normalised image (1, 3, H, W) that a prediction puts into the network.

    Raises:
        UserError: A prediction cuts the image into several parts.
    """
    seen: list[torch.Tensor] = []
    handle = backbone.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        predictor.predict([picture])
    finally:
        handle.remove()
    if len(seen) != 1:
        raise UserError(
            f"the model looks at this image in {len(seen)} parts, and Grad-CAM explains a single one: take a smaller "
            "image, or a config that predicts images whole"
        )
    return seen[0].clone()  # out of the inference mode, so that gradients can flow


class _Network(nn.Module):
    """The model as one function of its normalised input, as the task defines it."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.model, self.task = predictor.model, predictor.task

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.task.forward(self.model, inputs)


class _Sum:
    """A target: the weighted sum of a network's output of one image."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight = weight

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return (output * self.weight).sum()


def _heat(network: nn.Module, stage: nn.Module, inputs: torch.Tensor, target: _Sum) -> NDArray[np.float32]:
    try:
        from pytorch_grad_cam import GradCAM
    except ImportError as error:
        raise UserError(f"Grad-CAM needs the package grad-cam: pip install 'ean[vis]' ({error})") from error
    # gradients reach the stage of a frozen network too when its input wants one
    with torch.enable_grad(), GradCAM(network, [stage]) as cam:
        heat = cam(inputs.requires_grad_(), [target])[0]
    network.zero_grad(set_to_none=True)
    return np.asarray(heat, np.float32)


def _seen(model: nn.Module, inputs: torch.Tensor) -> NDArray[np.uint8]:
    """The normalised input (1, 3, H, W) as an image again, (H, W, 3)."""
    preprocessor: Any = model.data_preprocessor
    image = inputs.detach()[0] * preprocessor.std.view(3, 1, 1) + preprocessor.mean.view(3, 1, 1)
    return image.clamp(0, 255).round().byte().permute(1, 2, 0).cpu().numpy()
