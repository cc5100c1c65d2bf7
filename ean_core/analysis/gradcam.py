"""Grad-CAM (Selvaraju et al., ICCV 2017, arXiv 1610.02391) of any task's model, several models side by side.

The maps come from the package ``grad-cam``: ``relu(sum_k alpha_k A_k)`` for the feature maps ``A`` of a stage, with
``alpha_k`` the mean over positions of the gradient of the target with respect to ``A_k``; enlarged bilinearly, and
shifted and scaled to [0, 1]. Each map has its own scale: colours tell where, scores tell how much. Where no position
speaks for the target the map is 0.

What is explained follows from the network's output:

- logits (N, K): the logit of the class, without softmax, as in the paper;
- logits (N, K, H, W): the sum of the class's logits over the pixels where it is predicted, and over all pixels where
  it is predicted nowhere (Vinogradova et al., 2020);
- a density map (N, 1, h, w): its sum, the count.

The target layer is the output of a stage. The attention module that a stage's blocks share is no target: it is called
by many blocks in one forward, so its feature map is not one map.
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from ean_core.backbones.base import StagedBackbone
from ean_core.files import write_atomic
from ean_core.inference import Predictor, load, read_image
from ean_core.search.supernet import find_backbone

PANEL = 3.2  # inches


@dataclass(frozen=True)
class Explanation:
    """Where a model looked.

    Attributes:
        name: The model's.
        seen: What the network saw, RGB uint8 (H, W, 3), without padding.
        heat: Grad-CAM in [0, 1], float32 (H, W).
        target: The class, or ``"count"``.
        score: The probability of the class; for pixels its mean over those that are explained; or the count.
        region: The pixels where the class is predicted, (H, W), for segmentation.
    """

    name: str
    seen: NDArray[np.uint8]
    heat: NDArray[np.float32]
    target: str
    score: float
    region: NDArray[np.bool_] | None = None


def explain_files(
    models: Sequence[Sequence[str]], image: str, path: Path, target: str | None = None, stage: int | None = None
) -> list[Explanation]:
    """Grad-CAM of one image under several models, drawn side by side.

    Args:
        models: Checkpoints, each alone or after its config.
        image: The image file.
        path: The PNG to write.
        target: A class by name or number; ``None``: the first model's prediction (of pixels: the class with the most,
            other than ``"background"``).
        stage: From 1; ``None``: each network's last.

    Raises:
        ValueError, FileNotFoundError: A file cannot be read, an unknown class or stage, or grad-cam is not installed.
    """
    picture = read_image(image)
    found: list[Explanation] = []
    for files in models:
        if len(files) > 2:
            raise ValueError(f"a model is a checkpoint, or a config and a checkpoint, got {' '.join(files)}")
        predictor = load(files[0] if len(files) == 2 else None, files[-1])
        name = "/".join(Path(files[-1]).with_suffix("").parts[-2:])
        found.append(explain(predictor, picture, target, stage, name))
        if target is None and found[0].target != "count":
            target = found[0].target  # the same question to all models
    draw(found, path)
    return found


def explain(
    predictor: Predictor,
    picture: NDArray[np.uint8],
    target: str | None = None,
    stage: int | None = None,
    name: str = "",
) -> Explanation:
    """Grad-CAM of one RGB image (H, W, 3); the arguments are those of :func:`explain_files`."""
    model, backbone = predictor.model, find_backbone(predictor.model)
    stage = max(backbone.out_indices) + 1 if stage is None else stage
    if not 1 <= stage <= max(backbone.out_indices) + 1:
        raise ValueError(f"--stage {stage}: the network uses stages 1 to {max(backbone.out_indices) + 1}")
    inputs = network_input(predictor, backbone, picture)
    network = _Network(predictor)
    with torch.no_grad():
        output = network(inputs)[0]  # (K,), (K, H, W) or (1, h, w)
    if output.ndim == 3 and len(output) == 1:
        if target is not None:
            raise ValueError("a crowd counter has no classes: leave --target out")
        cells = [-(-side * part // whole) for side, part, whole in
                 zip(picture.shape, output.shape[1:], inputs.shape[2:], strict=False)]  # fmt: skip
        weight = torch.zeros_like(output)
        weight[:, : cells[0], : cells[1]] = 1  # what lies beyond is padding
        heat = _heat(network, backbone.stages[stage - 1], inputs, _Sum(weight))
        height, width = picture.shape[:2]
        score = float((output * weight).sum())
        return Explanation(name, _seen(model, inputs)[:height, :width], heat[:height, :width], "count", score)
    meta: Any = model.dataset_meta
    classes = meta.get("classes") or [str(k) for k in range(len(output))]
    chances = output.float().softmax(0)
    if output.ndim == 1:
        k = _class(target, classes) if target is not None else int(output.argmax())
        weight = F.one_hot(torch.tensor(k, device=output.device), len(output))
        region, score = None, float(chances[k])
    else:
        labels = output.argmax(0)  # (H, W)
        k = _class(target, classes) if target is not None else _largest(labels, classes)
        mask = labels == k
        region = mask.cpu().numpy()
        explained = mask if mask.any() else torch.ones_like(mask)
        weight = torch.zeros_like(output)
        weight[k] = explained
        score = float(chances[k][explained].mean())
    heat = _heat(network, backbone.stages[stage - 1], inputs, _Sum(weight))
    return Explanation(name, _seen(model, inputs), heat, classes[k], score, region)


def network_input(predictor: Predictor, backbone: StagedBackbone, picture: NDArray[np.uint8]) -> torch.Tensor:
    """The normalised image (1, 3, H, W) that a prediction puts into the network.

    Raises:
        ValueError: A prediction cuts the image into several parts.
    """
    seen: list[torch.Tensor] = []
    handle = backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        predictor.predict([picture])
    finally:
        handle.remove()
    if len(seen) != 1:
        raise ValueError(
            f"the model looks at this image in {len(seen)} parts, and Grad-CAM explains a single one: take a smaller "
            "image, or a config that predicts images whole"
        )
    return seen[0].clone()  # out of the inference mode, so that gradients can flow


def draw(explanations: Sequence[Explanation], path: Path) -> None:
    """The image, then each model's map over what it saw, with its score; outlined where the class is predicted."""
    first = explanations[0]
    height = PANEL * min(max(first.seen.shape[0] / first.seen.shape[1], 0.4), 2.5)
    number = len(explanations) + 1
    figure = Figure(figsize=(number * (PANEL + 0.1), height + 0.7), layout="constrained")
    panels = figure.subplots(1, number, squeeze=False)[0]
    for axes in panels:
        axes.set_axis_off()
    panels[0].imshow(first.seen)
    panels[0].set_title(f"input\n{first.target}", fontsize=10)
    for axes, found in zip(panels[1:], explanations, strict=True):
        axes.imshow(found.seen)
        axes.imshow(found.heat, cmap="jet", alpha=0.5, vmin=0, vmax=1)
        if found.region is not None and found.region.any() and not found.region.all():
            axes.contour(found.region, [0.5], colors="white", linewidths=1)
        axes.set_title(f"{found.name}\n{caption(found)}", fontsize=10)
    png = io.BytesIO()
    figure.savefig(png, dpi=110, format="png", bbox_inches="tight", pad_inches=0.1)
    write_atomic(path, png.getvalue())


def caption(found: Explanation) -> str:
    """The score in words, and whether nothing speaks for the target."""
    empty = "" if found.heat.any() else "; empty map"
    if found.target == "count":
        return f"count {found.score:.1f}{empty}"
    if found.region is None:
        return f"P = {found.score:.3f}{empty}"
    if not found.region.any():
        return f"not predicted, mean P = {found.score:.3f}{empty}"
    return f"{100 * found.region.mean():.1f} % of the pixels, mean P = {found.score:.3f}{empty}"


class _Network(nn.Module):
    """The model as one function of its normalised input, as the task exports it."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.model, self.task = predictor.model, predictor.task

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if hasattr(self.task, "forward"):
            return self.task.forward(self.model, inputs)
        return self.model(inputs, mode="tensor")


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
        raise ValueError(f"Grad-CAM needs the package grad-cam: pip install 'ean[vis]' ({error})") from error
    # gradients reach the stage of a frozen network too when its input wants one
    with torch.enable_grad(), GradCAM(network, [stage]) as cam:
        heat = cam(inputs.requires_grad_(), [target])[0]
    network.zero_grad(set_to_none=True)
    return np.asarray(heat, np.float32)


def _seen(model: nn.Module, inputs: torch.Tensor) -> NDArray[np.uint8]:
    """The normalised input (1, 3, H, W) as an image again, (H, W, 3)."""
    prepare: Any = model.data_preprocessor
    image = inputs.detach()[0] * prepare.std.view(3, 1, 1) + prepare.mean.view(3, 1, 1)
    return image.clamp(0, 255).round().byte().permute(1, 2, 0).cpu().numpy()


def _largest(labels: torch.Tensor, classes: Sequence[str]) -> int:
    """The class with the most pixels; the background only where there is nothing else."""
    areas = labels.flatten().bincount(minlength=len(classes))
    if classes[0] == "background" and areas[1:].any():
        areas[0] = 0
    return int(areas.argmax())


def _class(name: str, classes: Sequence[str]) -> int:
    if name in classes:
        return list(classes).index(name)
    if name.isdigit() and int(name) < len(classes):
        return int(name)
    close, number = difflib.get_close_matches(name, classes, n=1) or [classes[0]], len(classes)
    raise ValueError(f"--target '{name}' is none of the {number} classes (such as '{close[0]}'), nor a number below it")
