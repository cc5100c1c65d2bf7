"""Any registered backbone with attention plugged into it, for configs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ean_core.backbones.weights import load_pretrained
from ean_core.errors import UserError
from ean_core.plug import find_points, plug

WEIGHTS = ("init_cfg", "weights", "pretrained")
"""Options of networks that name their initial weights."""


@MODELS.register_module()
def Plugged(
    network: Mapping[str, Any],
    attention: Mapping[str, Any] | None = None,
    *,
    points: str | Mapping[str, Any] = "residual",
    scheme: str = "full",
    sharing: str = "stage",
    start: str = "paper",
    size: int | None = None,
    out_indices: Sequence[int] | None = None,
    frozen: bool = False,
    norm_eval: bool = False,
    init_cfg: Any = None,
) -> nn.Module:
    """Build a backbone and plug attention into it; what is returned is that backbone, its own keys unchanged.

    In a config::

        backbone=dict(
            type="ean_core.Plugged",
            network=dict(type="torchvision", name="regnet_y_400mf"),
            attention=dict(type="SE", reduction=16),
        )

    Args:
        network: The config of any registered backbone. ``type="torchvision"`` and ``type="timm"`` are those libraries'
            networks by name: see :func:`~ean_core.backbones.by_name.torchvision_features` and ``timm_features``.
        attention: The attention's config; ``None``: the network as it is, with its points, as the reference of Eq. 9.
        points: See :func:`~ean_core.plug.find_points`.
        scheme: See :func:`~ean_core.plug.plug`, as ``sharing`` and ``start``. For a supernet ``"full"``.
        sharing: ``"stage"`` or ``"point"``.
        start: ``"paper"`` or ``"identity"``.
        size: Side of the image with which the points are found; by default what the network is made for, or 224.
        out_indices: Handed to the network.
        frozen: The network's own weights and statistics stay as they are, and all of it but the attention is in
            evaluation mode.
        norm_eval: The network's batch norms stay in evaluation mode.
        init_cfg: ``dict(type="Pretrained", checkpoint=...)``: weights of the network, loaded completely or not at all;
            instead of those that the network's config names. Anything else is handed to the network.

    Returns:
        The backbone, whose handle is ``backbone.plugged`` (:class:`~ean_core.plug.Plugs`).

    Raises:
        UserError: The network cannot be plugged in this way.
    """
    if not isinstance(network, Mapping) or "type" not in network:
        raise UserError(f"Plugged: network is the config of a backbone, with its type, got {network!r}")
    if size is not None and not isinstance(size, int):
        raise UserError(f"Plugged: size is the side of a square image, got {size!r}")
    options = dict(network)
    if out_indices is not None:
        options["out_indices"] = out_indices
    pretrained = None
    if init_cfg is not None:
        options |= {key: None for key in WEIGHTS if key in options}
        if isinstance(init_cfg, Mapping) and init_cfg.get("type") == "Pretrained":
            pretrained = init_cfg.get("checkpoint")
        else:
            options["init_cfg"] = init_cfg
    with torch.device("cpu"):  # on the meta device not every network can be built
        backbone: nn.Module = MODELS.build(options)
    backbone.to(torch.empty(0).device)  # torch 2.7 knows of no `with torch.device` in its `get_default_device`
    example = _example(backbone, size)
    channels: list[int] = []
    handle = backbone.register_forward_hook(lambda module, args, output: channels.extend(_channels(output)))
    try:
        found = find_points(backbone, example, points)
    finally:
        handle.remove()
    plug(backbone, attention, found, scheme, sharing=sharing, start=start)
    plugs: Any = backbone.plugged
    plugs.map_channels = channels
    if pretrained is not None:
        # MMEngine calls a model's children; a network of a class of one's own may be none of its modules.
        home = plugs if hasattr(backbone, "init_weights") else backbone
        home.init_weights = partial(load_pretrained, backbone, pretrained)
    if frozen:
        for parameter in backbone.parameters():
            parameter.requires_grad_(False)
        plugs.requires_grad_(True)
    if frozen or norm_eval:
        plugs.held = Held(backbone, nn.Module if frozen else _BatchNorm)
        backbone.train(backbone.training)
    return backbone


class Held(nn.Module):
    """The last module of a network, which leaves others in evaluation mode whenever a mode is set.

    Args:
        network: The network.
        kind: The class of the modules; those plugged into the network are left alone.
    """

    def __init__(self, network: nn.Module, kind: type[nn.Module]) -> None:
        super().__init__()
        object.__setattr__(self, "network", network)  # not a child: it is the parent
        self.kind = kind

    def train(self, mode: bool = True) -> Held:
        """Set the mode of this module, and evaluation mode for the others."""
        network: Any = self.network
        plugged = set(network.plugged.modules())
        for module in network.modules():
            if isinstance(module, self.kind) and module not in plugged:
                module.training = False
        return super().train(mode)


def _example(backbone: nn.Module, size: int | None) -> torch.Tensor:
    side = size or int(getattr(backbone, "image_size", 224))
    like = next(backbone.parameters())
    return torch.zeros(1, 3, side, side, device=like.device, dtype=like.dtype)


def _channels(output: Any) -> list[int]:
    """Of the feature maps that a backbone returns."""
    maps = output if isinstance(output, list | tuple) else [output]
    return [x.shape[1] for x in maps if isinstance(x, torch.Tensor)]
