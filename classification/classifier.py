"""A backbone, global average pooling and a linear layer; and the preparation of its batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel, ImgDataPreprocessor
from mmengine.registry import MODELS
from torch import nn
from torch.nn import functional as F

from classification.augment import crop_and_flip, cut_out, draw_augmentation
from ean_core.errors import UserError
from ean_core.plug import output_channels


@MODELS.register_module()
class ImagePreprocessor(ImgDataPreprocessor):
    """MMEngine's preprocessor, which moves uint8 images to the device and normalises them, with augmentation there.

    Args:
        mean: Of each channel, in 0..255.
        std: Of each channel, in 0..255.
        padding: Random crops of images padded by this many pixels; 0 for none.
        flip: Probability of mirroring an image.
        cutout: Side of the square that is left out of an image; 0 for none.
    """

    def __init__(
        self, mean: Sequence[float], *, std: Sequence[float], padding: int = 0, flip: float = 0.0, cutout: int = 0
    ) -> None:
        super().__init__(mean, std, non_blocking=True)
        if cutout < 0 or cutout % 2:
            raise UserError(f"cutout is the side of a square, an even number of pixels, got {cutout}")
        if not isinstance(padding, int) or padding < 0:
            raise UserError(f"padding is a number of pixels, got {padding!r}")
        if not 0 <= flip <= 1:
            raise UserError(f"flip is a probability, got {flip}")
        self.padding, self.flip, self.cutout = padding, flip, cutout

    def forward(self, data: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        """``inputs`` uint8 (N, H, W, 3) -> float32 (N, 3, H, W); the other entries only change their device."""
        data = self.cast_data(data)
        images = data["inputs"]
        if training and (self.padding or self.flip):
            images = crop_and_flip(images, *draw_augmentation(len(images), self.padding, self.flip), self.padding)
        else:
            images = images.permute(0, 3, 1, 2)
        ready = super().forward({**data, "inputs": images.contiguous()}, training)
        del ready["data_samples"]  # an entry of None that MMEngine adds
        if training and self.cutout:
            n, _, height, width = ready["inputs"].shape
            centres = torch.stack([torch.randint(size, (n,)) for size in (height, width)], 1)
            ready["inputs"] = cut_out(ready["inputs"], centres, self.cutout)
        return ready


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """Image classification on any backbone: global average pooling of its last feature map, then ``head.fc``.

    The parameters are ``backbone.*``, ``head.fc.weight`` and ``head.fc.bias``, so that a checkpoint's backbone loads
    into every other model (``--pretrained``).

    Args:
        backbone: Config of a backbone that returns a feature map (N, C, H, W) or a tuple of them.
        num_classes: Number of classes.
        label_smoothing: The target gives ``1 - s + s / K`` to the label and ``s / K`` to each of the other classes
            (Szegedy et al., 2016).
        auxiliary: Weight of the loss of a second classifier, which networks of cells have for the training: the
            backbone makes it (``auxiliary_head``), and it takes the map behind the second reduction. 0: none.
        in_channels: C; needed only where the backbone has no ``out_channels`` (ours have).
        data_preprocessor: Config of :class:`ImagePreprocessor`.
        init_cfg: MMEngine initialisation.

    Raises:
        UserError: Fewer than two classes, a smoothing outside [0, 1), unknown channels, or a backbone without a second
            classifier.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        *,
        num_classes: int,
        label_smoothing: float = 0.0,
        auxiliary: float = 0.0,
        in_channels: int | None = None,
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(dict(data_preprocessor) if data_preprocessor else None, init_cfg)
        if num_classes < 2:
            raise UserError(f"num_classes must be at least 2, got {num_classes}")
        if not 0 <= label_smoothing < 1:
            raise UserError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
        self.backbone = MODELS.build(dict(backbone))
        if in_channels is None:
            in_channels = output_channels(self.backbone, -1, "model.in_channels")
        self.head = nn.ModuleDict({"fc": nn.Linear(in_channels, num_classes)})
        self.label_smoothing, self.auxiliary_weight = label_smoothing, auxiliary
        if auxiliary:
            if not hasattr(self.backbone, "auxiliary_head"):
                raise UserError(f"auxiliary={auxiliary}: {type(self.backbone).__name__} has no second classifier")
            self.auxiliary = self.backbone.auxiliary_head(num_classes)

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> (N, K)."""
        return self.classify(self.backbone(inputs))

    def classify(self, features: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
        """The backbone's output -> (N, K)."""
        last = features if isinstance(features, torch.Tensor) else features[-1]
        return self.head["fc"](last.mean((2, 3)))

    def forward(
        self, inputs: torch.Tensor, labels: torch.Tensor | None = None, mode: str = "tensor"
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """Classify normalised images (N, 3, H, W).

        Args:
            inputs: What :class:`ImagePreprocessor` returns.
            labels: int64 (N,), for the loss.
            mode: ``"loss"``: a dict with the mean cross entropy ``loss`` and the batch's accuracy ``top1`` in percent.
                ``"predict"`` and ``"tensor"``: the logits (N, K).

        Raises:
            UserError: An unknown mode, or no labels for a loss.
        """
        if mode not in ("loss", "predict", "tensor"):
            raise UserError(f"mode must be 'loss', 'predict' or 'tensor', got {mode!r}")
        if mode != "loss":
            return self.logits(inputs)
        if labels is None:
            raise UserError("mode 'loss' needs labels")
        if self.auxiliary_weight:
            features, side = self.backbone.maps(inputs)
            logits = self.classify(features)
        else:
            logits = self.logits(inputs)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        if self.auxiliary_weight:
            other = F.cross_entropy(self.auxiliary(side), labels, label_smoothing=self.label_smoothing)
            loss = loss + self.auxiliary_weight * other
        return {"loss": loss, "top1": 100 * (logits.detach().argmax(1) == labels).float().mean()}


@MODELS.register_module()
class FlipTTA(BaseModel):
    """Average the class probabilities of every image and its mirror image (``tools/test.py --tta``).

    Args:
        module: Config of the classifier.
    """

    def __init__(self, module: Mapping[str, Any]) -> None:
        super().__init__()
        self.module = MODELS.build(dict(module))

    def merge_preds(self, predictions: Sequence[torch.Tensor]) -> torch.Tensor:
        """Logits of each version, (N, K) -> mean probabilities (N, K)."""
        return torch.stack([logits.softmax(1) for logits in predictions]).mean(0)

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor | None = None, mode: str = "tensor") -> torch.Tensor:
        """Normalised images (N, 3, H, W) -> probabilities (N, K)."""
        return self.merge_preds([self.module.logits(images) for images in (inputs, inputs.flip(3))])

    def test_step(self, data: Mapping[str, Any]) -> torch.Tensor:
        """A batch of the loader -> probabilities (N, K)."""
        return self(**self.module.data_preprocessor(data, False), mode="predict")
