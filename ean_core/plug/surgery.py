"""Squeeze-and-Excitation behind the wide convolutions of any CNN: Composer's surgery by forward hooks.

As Composer's method of that name (MosaicML), with what hurt its users changed: the network's own keys stay, so
pretrained weights load; a depthwise convolution and the 1x1 convolutions of an SE module that is there already are left
alone; ``start="identity"`` does not disturb a trained network; and every checkpoint says how to do it again
(:func:`~ean_core.plug.plug_from`).
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from ean_core.errors import UserError
from ean_core.plug.plugged import find_plugged, plug
from ean_core.plug.points import PlugPoint, Points


def squeeze_excite(
    model: nn.Module, min_channels: int = 128, latent_channels: float = 64, start: str = "paper"
) -> nn.Module:
    """Plug an SE module, without biases, behind every wide convolution, before its norm; in place.

    A second call changes nothing.

    Args:
        model: Any CNN.
        min_channels: A convolution is wide if it has at least this many input and output channels.
        latent_channels: Width of the modules' hidden layer; below 1 as a fraction of the output channels.
        start: See :func:`~ean_core.plug.plug`.

    Returns:
        ``model``; :func:`~ean_core.plug.unplug` takes the modules away again.

    Raises:
        UserError: No convolution is wide, or the network is plugged in another way.
    """
    attention = {"type": "SE", "width": latent_channels, "bias": False}
    convolutions = list(_wide(model, "", min_channels))
    if not convolutions:
        raise UserError(f"{type(model).__name__} has no convolution with {min_channels} channels or more on both sides")
    points: list[PlugPoint] = []
    for name, channels in convolutions:
        same = bool(points) and points[-1].channels == channels
        stage = points[-1].stage + (not same) if points else 0
        points.append(PlugPoint(stage, name, channels, stride=0))  # nothing is run, so strides are not known
    there = find_plugged(model)
    if there is not None and there.attention == attention and list(there.points) == points:
        return model
    return plug(model, attention, Points(tuple(points)), sharing="point", start=start)


def _wide(module: nn.Module, name: str, min_channels: int) -> Iterator[tuple[str, int]]:
    """Names and output channels of the wide convolutions."""
    if _is_squeeze_excite(module):
        return
    for child_name, child in module.named_children():
        full = f"{name}.{child_name}".lstrip(".")
        if isinstance(child, nn.Conv2d):
            depthwise = child.groups > 1 and child.groups == child.in_channels
            if min(child.in_channels, child.out_channels) >= min_channels and not depthwise:
                yield full, child.out_channels
        else:
            yield from _wide(child, full, min_channels)


def _is_squeeze_excite(module: nn.Module) -> bool:
    """Whether a module has exactly two layers, both 1x1 convolutions, the second back to the first one's channels."""
    layers = [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    if len(layers) != 2 or not all(isinstance(layer, nn.Conv2d) for layer in layers):
        return False
    first, second = layers
    pointwise = first.kernel_size == second.kernel_size == (1, 1)
    gates = any("sigmoid" in type(part).__name__.lower() for part in module.modules())
    return bool(pointwise and first.in_channels == second.out_channels and gates)
