"""Crowd counting on any backbone: a density map whose sum is the number of people."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS

from crowd_counting.tiling import check_tiling, tiled
from ean_core.errors import UserError
from ean_core.plug import output_channels

Done = Callable[[int, int], None]


@MODELS.register_module()
class CrowdCounter(BaseModel):
    """A backbone, one of its feature maps, a density head and a loss.

    Any registered backbone will do that returns a feature map (N, C, H / 8, W / 8) or a tuple of them: ours with
    ``num_stages=3, out_indices=(2,), strides=(1, 2, 1, 1)``, or an MMSegmentation or MMPretrain one.

    Args:
        backbone: Its config.
        head: Config of the head, such as :class:`crowd_counting.head.CSRNetHead`. Its ``in_channels`` may be left out
            where the backbone has ``out_channels`` (ours do).
        loss: Config of :class:`crowd_counting.losses.DensityLoss`, or of a loss of point supervision
            (:class:`crowd_counting.point_losses.PointLoss`).
        data_preprocessor: Config of :class:`crowd_counting.preprocess.CrowdPreprocessor`.
        stride: Pixels a cell of the density map, each way, after the head.
        in_index: Which of the backbone's outputs the head takes.
        tiling: ``dict(tile=1024, overlap=192, batch=1)``: evaluate in tiles images with more pixels than ``tile *
            tile`` (see :func:`crowd_counting.tiling.tiled`); ``None``: always whole images.
        init_cfg: MMEngine initialisation.

    Raises:
        UserError: An option is wrong, or the channels of the backbone are not known.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        *,
        head: Mapping[str, Any],
        loss: Mapping[str, Any],
        data_preprocessor: Mapping[str, Any] | None = None,
        stride: int = 8,
        in_index: int = -1,
        tiling: Mapping[str, int] | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(dict(data_preprocessor) if data_preprocessor else None, init_cfg)
        self.backbone = MODELS.build(dict(backbone))
        head = dict(head)
        if head.get("in_channels") is None:
            head["in_channels"] = output_channels(self.backbone, in_index, "head.in_channels")
        self.head = MODELS.build(head)
        self.loss = MODELS.build(dict(loss))
        self.stride, self.in_index = stride, in_index
        self.tiling = None if tiling is None else dict(tiling)
        if self.tiling is not None:
            check_tiling(self.tiling["tile"], self.tiling["overlap"], self.multiple)

    @property
    def multiple(self) -> int:
        """Tiles begin at multiples of this many pixels."""
        return math.lcm(self.stride, getattr(self.data_preprocessor, "pad_size_divisor", 1))

    def output(self, inputs: torch.Tensor) -> torch.Tensor:
        """Normalised images (N, 3, H, W) -> the head's output, label scale included, (N, 1, h, w)."""
        features = self.backbone(inputs)
        if isinstance(features, (tuple, list)):  # torch 2.7 does not compile `isinstance` of a union
            features = features[self.in_index]
        return self.head(features)

    def density(self, inputs: torch.Tensor) -> torch.Tensor:
        """Normalised images (N, 3, H, W) -> people in each cell, float32 (N, 1, h, w)."""
        return self.output(inputs).float() / self.loss.label_scale

    def predict(
        self, images: torch.Tensor, tiling: Mapping[str, int] | None = None, done: Done = lambda tiles, total: None
    ) -> torch.Tensor:
        """People in each cell of uint8 images, without more of them normalised at a time than a tile.

        Args:
            images: (N, 3, H, W), RGB, on any device.
            tiling: Instead of the model's own; see the class.
            done: Called with the number of tiles done and of all.

        Returns:
            float32 (N, 1, ceil(H / stride), ceil(W / stride)).
        """

        def function(part: torch.Tensor) -> torch.Tensor:
            return self._cut(self.density(self.data_preprocessor({"inputs": part})["inputs"]), part.shape[-2:])

        return self._in_tiles(function, images, tiling, done)

    def forward(
        self,
        inputs: torch.Tensor,
        density: torch.Tensor | None = None,
        size: tuple[int, int] | None = None,
        mode: str = "tensor",
        points: Sequence[torch.Tensor] | None = None,
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """Count in normalised images (N, 3, H, W).

        Args:
            inputs: What :class:`~crowd_counting.preprocess.CrowdPreprocessor` returns.
            density: People in each cell, (N, 1, h, w), for a loss between maps.
            size: Height and width without padding; what lies beyond is cut off the density map.
            mode: ``"loss"``: a dict with the losses, and ``count_error``, the mean absolute error of the batch's
                counts. ``"predict"`` and ``"tensor"``: people in each cell, (N, 1, h, w).
            points: The heads of each image, (n, 2), for a loss of point supervision.

        Raises:
            UserError: An unknown mode, no density or points for a loss, maps that do not fit, or a loss that is not
                finite.
        """
        if mode == "loss":
            truth, name = (points, "points") if self._of_points else (density, "density maps")
            if truth is None:
                raise UserError(f"mode 'loss' needs the {name} of the images")
            return self._losses(self._cut(self.output(inputs), size or inputs.shape[-2:]), truth)
        if mode == "predict":
            density = self._in_tiles(lambda x: self._cut(self.density(x), x.shape[-2:]), inputs, None)
            return self._cut(density, size or inputs.shape[-2:])
        if mode == "tensor":
            return self.density(inputs)
        raise UserError(f"mode must be 'loss', 'predict' or 'tensor', got {mode!r}")

    @property
    def _of_points(self) -> bool:
        """Whether the loss compares with points; losses of others' between maps need not say that they do not."""
        return getattr(self.loss, "of_points", False)

    def _losses(self, output: torch.Tensor, truth: Any) -> dict[str, torch.Tensor]:
        if self._of_points:
            losses = self.loss(output, truth, self.stride)
            people = torch.tensor([len(heads) for heads in truth], device=output.device)
        else:
            losses = self.loss(output, truth)
            people = truth.float().flatten(1).sum(1)
        total = sum(value.detach() for value in losses.values())
        if not math.isfinite(total):
            raise UserError(
                f"the loss is {float(total)}: the training has diverged. Lower optim_wrapper.optimizer.lr, or clip the "
                "gradients (optim_wrapper.clip_grad.max_norm=1)"
            )
        counts = output.detach().float().flatten(1).sum(1) / self.loss.label_scale
        return {**losses, "count_error": (counts - people).abs().mean()}

    def _in_tiles(
        self,
        function: Any,
        images: torch.Tensor,
        tiling: Mapping[str, int] | None,
        done: Done = lambda tiles, total: None,
    ) -> torch.Tensor:
        tiling = self.tiling if tiling is None else tiling
        if tiling is None or images.shape[-2] * images.shape[-1] <= tiling["tile"] ** 2:
            return function(images)
        tile, overlap, batch = tiling["tile"], tiling["overlap"], tiling.get("batch", 1)
        return tiled(function, images, tile, overlap, self.stride, self.multiple, batch=batch, done=done)

    def cells(self, size: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of the density map of an image of this height and width, without padding."""
        height, width = size
        return (height + self.stride - 1) // self.stride, (width + self.stride - 1) // self.stride

    def _cut(self, maps: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        """Maps without the cells that lie beyond an image of this height and width."""
        rows, columns = self.cells(size)
        return maps[..., :rows, :columns]
