"""Networks of torchvision and timm as backbones, by name without a class: the types ``torchvision`` and ``timm``."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ean_core.backbones.features import Features
from ean_core.errors import UserError


@MODELS.register_module(name="torchvision")
def torchvision_features(
    name: str,
    weights: str | None = None,
    *,
    out: Sequence[str] | None = None,
    out_indices: Sequence[int] | None = None,
    output_stride: int | None = None,
    norm_momentum: float | None = None,
    init_cfg: Any = None,
    **options: Any,
) -> Features:
    """A CNN of torchvision as a backbone: ``dict(type="torchvision", name="regnet_y_400mf")``.

    Args:
        name: The network's name in ``torchvision.models``.
        weights: A file with its weights, or ``"DEFAULT"``, torchvision's; the same as a ``Pretrained`` ``init_cfg``.
        out: See :class:`Features`, as the other arguments.
        out_indices: ...
        output_stride: ...
        norm_momentum: Of the batch norms, instead of torchvision's: its MobileNetV3 has 0.01, too slow for a short
            training from random weights.
        init_cfg: ...
        options: Of torchvision's function.

    Raises:
        UserError: There is no such network, or an option does not fit it.
    """
    from torchvision import models

    names = models.list_models(module=models)
    if name not in names:
        raise UserError(f"torchvision has no network '{name}'{_near(name, names)}")
    weights = f"torchvision://{name}" if weights == "DEFAULT" else weights
    with torch.device("cpu"):  # some compute numbers of layers with tensors, which must have values
        network = _built(models.get_model, name, options)
        features = Features(
            network, out=out, out_indices=out_indices, output_stride=output_stride, name=name,
            init_cfg=_pretrained(weights, init_cfg),
        )  # fmt: skip
    features.torchvision = name
    for norm in (module for module in features.modules() if isinstance(module, _BatchNorm)):
        norm.momentum = norm.momentum if norm_momentum is None else norm_momentum
    return features.to(torch.empty(0).device)  # as in `Plugged`


@MODELS.register_module(name="timm")
def timm_features(
    name: str,
    pretrained: bool | str = False,
    *,
    out: Sequence[str] | None = None,
    out_indices: Sequence[int] | None = None,
    output_stride: int | None = None,
    init_cfg: Any = None,
    **options: Any,
) -> Features:
    """A CNN of timm as a backbone: ``dict(type="timm", name="convnext_nano", pretrained=True)``.

    Args:
        name: The network's name in timm.
        pretrained: ``True``: timm's weights, fetched when a training begins. Or a file with the network's weights.
        out: See :class:`Features`, as the other arguments; timm's own feature maps by default.
        out_indices: ...
        output_stride: ...
        init_cfg: ...
        options: Of ``timm.create_model``.

    Raises:
        UserError: timm is missing, there is no such network, or an option does not fit it.
    """
    try:
        import timm
    except ImportError as error:
        raise UserError(f"the network '{name}' is timm's, which is not installed: pip install timm") from error
    if not timm.is_model(name.split(".")[0]):
        raise UserError(f"timm has no network '{name}'{_near(name, timm.list_models())}")
    weights = f"timm://{name}" if pretrained is True else pretrained or None
    with torch.device("cpu"):
        network = _built(timm.create_model, name, {"pretrained": False, **options})
        known = [info["module"] for info in getattr(network, "feature_info", [])]
        features = Features(
            network, out=out or known or None, out_indices=out_indices, output_stride=output_stride, name=name,
            init_cfg=_pretrained(weights, init_cfg),
        )  # fmt: skip
    return features.to(torch.empty(0).device)  # as in `Plugged`


def _built(build: Any, name: str, options: dict[str, Any]) -> nn.Module:
    try:
        return build(name, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{name}: {str(error).splitlines()[0]}") from error


def _pretrained(weights: str | None, init_cfg: Any) -> Any:
    return init_cfg if weights is None else {"type": "Pretrained", "checkpoint": weights}


def _near(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, 3)
    return f"; near: {', '.join(near)}" if near else ""
