"""How a network was plugged, as a part of its state dict: what a checkpoint says, and what is compared with it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from ean_core.errors import UserError

if TYPE_CHECKING:
    from ean_core.plug.plugged import Plugs


def write_recipe(plugs: Plugs, state: dict[str, Any], prefix: str, _: Any) -> None:
    """What :func:`~ean_core.plug.plug_from` reads, as bytes of JSON."""
    recipe = {
        "points": [asdict(point) for point in plugs.points],
        "example": plugs.points.example,
        "attention": plugs.attention,
        "scheme": plugs.built,
        "connected": str(plugs.scheme or plugs.built),
        "sharing": plugs.sharing,
        "start": plugs.start,
    }
    try:
        text = json.dumps(recipe)
    except TypeError as error:
        raise UserError(f"attention {plugs.attention}: checkpoints take plain values only: {error}") from error
    state[f"{prefix}recipe"] = torch.tensor(list(text.encode()), dtype=torch.uint8)


def compare_recipe(plugs: Plugs, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Weights that were trained at other points are not loaded; their scheme is not looked at.

    Raises:
        UserError: They were. Names may have more in front, where a network is a part of another.
    """
    saved = state.pop(f"{prefix}recipe", None)
    try:
        names = [point["name"] for point in json.loads(bytes(saved.tolist()))["points"]] if saved is not None else None
    except (AttributeError, KeyError, TypeError, ValueError):
        return  # damaged, as by an average of checkpoints
    own = plugs.points.names
    if names is None or (len(names) == len(own) and all(map(_is_part, names, own))):
        return
    raise UserError(f"the checkpoint's network was plugged at other points: {', '.join(names)}, not {', '.join(own)}")


def may_be_missing(plugs: Plugs, keys: Any) -> None:
    """A checkpoint of the network as it was has nothing for what was plugged into it: that keeps its values."""
    found = [key for key in keys.missing_keys if f".{key}".rpartition(".plugged.")[1]]
    if len(found) == sum(key != "recipe" for key in plugs.state_dict()):
        keys.missing_keys[:] = [key for key in keys.missing_keys if key not in found]


def _is_part(a: str, b: str) -> bool:
    """Whether one of two names has only more in front than the other."""
    return f".{a}".endswith(f".{b}") or f".{b}".endswith(f".{a}")
