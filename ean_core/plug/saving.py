"""A network plugged again from what a file says: plugged attention alone, or a checkpoint of a plugged network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from ean_core.attention.base import ATTENTION
from ean_core.checkpoint import read_checkpoint, weights_of
from ean_core.errors import UserError
from ean_core.plug.plugged import plug, unplug
from ean_core.plug.points import PlugPoint, Points

LIBRARIES = ("timm", "torchvision")


def plug_from(model: nn.Module, path: str | Path, *, trusted: bool = False) -> nn.Module:
    """Plug, in place, what :meth:`~ean_core.plug.Plugs.save` wrote, or what a plugged network's checkpoint says of it.

    Args:
        model: The network, not plugged; its own weights are not touched.
        path: The file.
        trusted: Whether an attention of another package than this, timm and torchvision may be imported because the
            file names it: importing runs code.

    Raises:
        UserError: The file holds nothing of the kind, or does not fit the network, which is then as it was.
    """
    weights = weights_of(read_checkpoint(path), path)
    key = next((name for name in weights if name.endswith("plugged.recipe")), None)
    try:
        recipe = json.loads(bytes(weights[key].tolist())) if key else {}
        example, connected = recipe.pop("example"), recipe.pop("connected")
        attention, found_points = recipe.pop("attention"), tuple(PlugPoint(**point) for point in recipe.pop("points"))
        kind, options = str(attention["type"]), {name: recipe[name] for name in ("scheme", "sharing", "start")}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(f"'{path}' does not hold plugged attention: plugged.save(file) writes such files") from None
    if kind not in ATTENTION.module_dict and kind.split(".")[0] not in LIBRARIES and not trusted:
        raise UserError(
            f"'{path}' names the attention {kind[:80]!r}, which would be imported: plug_from(..., trusted=True)"
        )
    plug(model, attention, Points(found_points, example=tuple(example) if example else None), **options)
    plugs: Any = model.plugged
    prefix = str(key).removesuffix("recipe")
    try:
        plugs.load_state_dict({name.removeprefix(prefix): weights[name] for name in weights if name.startswith(prefix)})
    except RuntimeError as error:
        unplug(model)
        raise UserError(f"'{path}': {str(error).splitlines()[-1].strip()}") from error
    plugs.set_scheme(connected)
    return model
