"""Models and backbones built from configs outside a runner."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from ean_core.backbones.plugged import WEIGHTS
from ean_core.errors import building
from ean_core.plug import find_plugged


def build_model(cfg: Config) -> nn.Module:
    """The model of a config with random weights; no pretrained ones are fetched, and no data has to exist.

    The modules that register its parts must have been imported, which :func:`~ean_core.application.find_application`
    does.

    Raises:
        UserError: An unknown type, or an option that does not fit.
    """
    options = copy.deepcopy(cfg.model)
    for part in (options, options.get("backbone", {})):
        _without_weights(part)
    with building("model"), DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine")):
        model: nn.Module = MODELS.build(options)
    return model


def blueprint(backbone: Mapping[str, Any]) -> Any:
    """The backbone of a config without memory for its weights, to be asked for its blocks, channels or names.

    Raises:
        UserError: An unknown type, or an option that does not fit.
    """
    options = {**copy.deepcopy(dict(backbone)), "init_cfg": None}
    _without_weights(options)
    with building("model.backbone"), torch.device("meta"):
        return MODELS.build(options)


def point_names(backbone: Mapping[str, Any]) -> list[str] | None:
    """The names of the points of a network that a config plugs; ``None`` for other backbones.

    Raises:
        UserError: An unknown type, or an option that does not fit.
    """
    plugs = find_plugged(blueprint({**backbone, "scheme": "none"})) if "network" in backbone else None
    return None if plugs is None else plugs.points.names


def _without_weights(options: dict[str, Any]) -> None:
    """Name no weights to begin with, neither in a config nor in that of the network that it plugs."""
    for part in (options, options.get("network")):
        for key in WEIGHTS:
            if isinstance(part, dict) and part.get(key):
                part[key] = None


def feature_channels(backbone: Mapping[str, Any]) -> list[int]:
    """The channels of the feature maps that the backbone of a config returns, counted on an image without memory.

    Raises:
        UserError: An unknown type, or an option that does not fit.
    """
    network = blueprint(backbone)
    network.eval()
    return [features.shape[1] for features in network(torch.empty(1, 3, 64, 64, device="meta"))]
