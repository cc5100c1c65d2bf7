"""The decoder that a config's one word chooses, fitted to the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

from ean_core.engine.models import feature_channels
from ean_core.errors import UserError, building


def choose_head(cfg: Config) -> None:
    """Put the head that ``cfg.head`` names into ``cfg.model``, as wide as the backbone's feature maps are.

    The heads are written for a ResNet-50; their own channels grow and shrink with those of the map that they take, as
    in MMSegmentation's configs for a ResNet-18. A config that has made its choice passes unchanged.

    Raises:
        UserError: There is no such head, or the choice was made before.
    """
    if "heads" not in cfg:
        if "head" in cfg:
            raise UserError(
                f"head={cfg.head!r}: this config has made its choice of a head, as a training writes it; take the "
                "config that the training began with"
            )
        return
    if cfg.get("head") not in cfg.heads:
        raise UserError(f"unknown head {cfg.get('head')!r}: choose from {', '.join(cfg.heads)}")
    choice, model = cfg.heads[cfg.head], cfg.model
    model.backbone.update(choice.get("backbone", {}))
    found = feature_channels(model.backbone)
    for key in ("decode_head", "auxiliary_head"):
        with building(f"heads.{cfg.head}.{key}"):
            model[key] = choice[key]
            _fit_head(model[key], found)
    for key in ("head", "heads"):
        cfg.pop(key)


def _fit_head(head: Any, found: Sequence[int]) -> None:
    """Write the channels of the backbone's feature maps into the config of a head that takes some of them."""
    several = isinstance(head.in_channels, list | tuple)
    written, last = (head.in_channels[-1], head.in_index[-1]) if several else (head.in_channels, head.in_index)
    if last >= len(found):
        raise UserError(
            f"the head takes feature map {last}, counted from 0, and the backbone has {len(found)}: see "
            "model.backbone.out_indices"
        )
    head.channels = head.channels * found[last] // written
    head.in_channels = [found[i] for i in head.in_index] if several else found[last]
    if "c1_in_channels" in head:
        head.c1_in_channels = found[0]
