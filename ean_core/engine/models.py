"""Models and backbones built from configs outside a runner."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from ean_core.errors import building


def build_model(cfg: Config) -> nn.Module:
    """The model of a config with random weights; no pretrained ones are fetched, and no data has to exist.

    The modules that register its parts must have been imported, which :func:`~ean_core.application.find_application`
    does.

    Raises:
        UserError: An unknown type, or an option that does not fit.
    """
    options = copy.deepcopy(cfg.model)
    for part in (options, options.get("backbone", {})):
        for key in ("init_cfg", "pretrained"):
            if part.get(key):
                part[key] = None
    with building("model"), DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine")):
        model: nn.Module = MODELS.build(options)
    return model


def blueprint(backbone: Mapping[str, Any]) -> Any:
    """The backbone of a config without memory for its weights, to be asked for its blocks, channels or names.

    Raises:
        UserError: An unknown type, or an option that does not fit.
    """
    with building("model.backbone"), torch.device("meta"):
        return MODELS.build({**copy.deepcopy(dict(backbone)), "init_cfg": None})


def feature_channels(backbone: Mapping[str, Any]) -> list[int]:
    """The channels of the feature maps that the backbone of a config returns, counted on an image without memory.

    Raises:
        UserError: An unknown type, or an option that does not fit.
    """
    return [features.shape[1] for features in blueprint(backbone).eval()(torch.empty(1, 3, 64, 64, device="meta"))]
