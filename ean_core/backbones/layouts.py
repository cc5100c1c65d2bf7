"""Where in a checkpoint the weights of a ResNet lie: trainings wrap networks, and keep several of them in one file.

- MMPretrain's, MMSegmentation's, MMEngine's with an EMA: ``state_dict.backbone``, not ``ema_state_dict``, ``encoder_k``
- MoCo v1 and v2: ``module.encoder_q``, not ``module.encoder_k``
- MoCo v3: ``module.base_encoder``, not ``module.momentum_encoder``
- DINO: ``teacher``, not ``student``
- timm's, ConvNeXt's: ``state_dict`` or ``model``, not ``state_dict_ema`` or ``model_ema`` beside them
- any other: the one network that is there, under whatever prefix

The choices are those of the evaluations that come with these projects, timm's aside, which prefers the EMA.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from ean_core.checkpoint import weights_of
from ean_core.errors import UserError
from ean_core.terminal import tool

FIRST = re.compile(r"(?P<prefix>|.*\.)layer1\.(ModuleList\.)?0\.conv1\.weight")
"""A tensor that every ResNet has; what stands before it wraps the network."""
PLAIN = re.compile(r"((state_dict|model)\.?)?(module\.?)?(backbone)?")
TAKEN = ((r"encoder_q", r"encoder_k"), (r"base_encoder", r"momentum_encoder"), (r"^teacher\b", r"^student\b"))


def find_networks(checkpoint: Mapping[str, Any]) -> dict[str, dict[str, torch.Tensor]]:
    """The ResNets in a checkpoint: their tensors, by what wraps the network, such as ``state_dict.module.encoder_q``.

    Raises:
        UserError: A table of weights has a tensor that is not plain, dense and real.
    """
    tables = {"": checkpoint, **{key: value for key, value in checkpoint.items() if isinstance(value, Mapping)}}
    networks = {}
    for name, table in tables.items():
        found = [
            FIRST.fullmatch(key) for key, v in table.items() if isinstance(key, str) and isinstance(v, torch.Tensor)
        ]
        for prefix in [match["prefix"] for match in found if match]:
            state = weights_of({"state_dict": table})
            networks[".".join(filter(None, (name, prefix.rstrip("."))))] = {
                key.removeprefix(prefix): value
                for key, value in state.items()
                if key.startswith(prefix) and isinstance(value, torch.Tensor)
            }
    return networks


def choose_network(networks: Mapping[str, dict[str, torch.Tensor]], prefix: str | None) -> dict[str, torch.Tensor]:
    """One of the networks of :func:`find_networks`.

    Args:
        networks: At least one.
        prefix: The end of its name; ``None``: the only one, or the one that the list above names.

    Raises:
        UserError: There is none of that name, or none that is to be preferred; the message has the names.
    """
    names = list(networks)
    shown = ", ".join(f"'{name}'" for name in names[:8]) + (", ..." if len(names) > 8 else "")
    if prefix is not None:
        asked = prefix.strip(".")
        names = [name for name in names if name == asked or name.endswith(f".{asked}")]
        if len(names) != 1:
            raise UserError(f"the checkpoint has {len(names) or 'no'} network under '{asked}': there are {shown}")
        return networks[names[0]]
    plain = [name for name in names if PLAIN.fullmatch(name)]
    names = plain if len(plain) == 1 else names
    for taken, left in TAKEN:
        if any(re.search(taken, name) for name in names):
            names = [name for name in names if not re.search(left, name)]
    if len(names) > 1:
        raise UserError(
            f"the checkpoint holds {len(names)} networks: {shown}; choose one with --prefix of "
            f"'{tool('convert_weights')}', or with prefix in init_cfg"
        )
    return networks[names[0]]
