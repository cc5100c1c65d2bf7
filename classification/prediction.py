"""Prediction of image classes: the result, and its picture and row in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torchvision.transforms import v2

from ean_core.application import Share, View, class_names, require_finite
from ean_core.inference.drawing import fit, shorten

SHOWN = 5  # bars beside the picture, and columns of the table
PANEL, LINE, MARGIN = 320, 40, 12  # width of the bars, height of one with its label, white around
BAR, BEST, GROOVE = (120, 144, 180), (30, 90, 170), (232, 232, 236)


@dataclass(frozen=True)
class ClassificationResult:
    """Class probabilities of one image.

    Attributes:
        scores: float32 (K,), the softmax of the logits.
        classes: The K class names; numbers as text where the checkpoint knows none.
        size: Height and width of the image in pixels.
    """

    scores: NDArray[np.float32]
    classes: tuple[str, ...]
    size: tuple[int, int]

    @property
    def label(self) -> int:
        """The class with the highest score; of equal ones the first."""
        return int(self.scores.argmax())

    @property
    def name(self) -> str:
        """Its name."""
        return self.classes[self.label]

    def top(self, k: int = SHOWN) -> list[tuple[str, float]]:
        """The ``k`` best classes with their scores, the best first."""
        best = np.argsort(-self.scores, kind="stable")[:k]
        return [(self.classes[i], float(self.scores[i])) for i in best]


def crop(image: NDArray[np.uint8], size: int, in_memory: bool) -> NDArray[np.uint8]:
    """What the network sees of an image, as in validation.

    Args:
        image: RGB (H, W, 3).
        size: ``cfg.image_size``.
        in_memory: The whole shorter side, scaled to ``size`` (data sets held in memory); otherwise the centre of the
            image scaled so that its shorter side is ``size * 256 / 224`` (ImageNet).

    Returns:
        RGB (size, size, 3).
    """
    picture = Image.fromarray(image)
    if in_memory:
        if picture.size != (size, size):
            picture = ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)
    else:
        picture = v2.Compose([v2.Resize(size * 256 // 224), v2.CenterCrop(size)])(picture)
    return np.array(picture)


def predict(model: BaseModel, cfg: Config, images: Sequence[NDArray[np.uint8]]) -> list[ClassificationResult]:
    """Classify RGB images (H, W, 3)."""
    size, in_memory = cfg.get("image_size", 224), cfg.get("in_memory", False)
    batch = torch.from_numpy(np.stack([crop(image, size, in_memory) for image in images]))
    logits = model.test_step({"inputs": batch}).float()
    require_finite(logits)
    scores = logits.softmax(1).cpu().numpy()  # (N, K)
    names = class_names(model, scores.shape[1])
    return [ClassificationResult(s, names, i.shape[:2]) for s, i in zip(scores, images, strict=True)]


def row(result: ClassificationResult) -> dict[str, object]:
    """``class_1, score_1, ...``: the five best classes, the best first."""
    best = enumerate(result.top(), start=1)
    return {key: value for k, (name, score) in best for key, value in ((f"class_{k}", name), (f"score_{k}", score))}


def view(image: NDArray[np.uint8], result: ClassificationResult) -> View:
    """The best class, and the five best with their probabilities."""
    best = [Share(name, score) for name, score in result.top()]
    return View(f"{best[0].name}, {100 * result.scores.max():.1f} %", legend=best)


def draw(image: NDArray[np.uint8], result: ClassificationResult) -> Image.Image:
    """The image with bars of the five best classes beside it."""
    picture = fit(Image.fromarray(image))
    best = result.top()
    height = max(picture.height, LINE * len(best)) + 2 * MARGIN
    canvas = Image.new("RGB", (picture.width + PANEL + 3 * MARGIN, height), "white")
    canvas.paste(picture, (MARGIN, (height - picture.height) // 2))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    left, top = picture.width + 2 * MARGIN, (height - LINE * len(best)) // 2
    for i, (name, score) in enumerate(best):
        y = top + i * LINE
        percent = f"{100 * score:.1f} %"
        space = PANEL - int(pen.textlength(percent, font)) - 12
        pen.text((left, y), shorten(name, space, font), "black", font)
        pen.text((left + PANEL, y), percent, "black", font, anchor="ra")
        pen.rectangle((left, y + 21, left + PANEL, y + 30), GROOVE)
        if round(score * PANEL) > 0:
            pen.rectangle((left, y + 21, left + round(score * PANEL), y + 30), BAR if i else BEST)
    return canvas
