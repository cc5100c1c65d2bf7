"""Plugging attention at chosen points of a network: Eq. 4, and what a network that can be plugged offers."""

from ean_core.plug.connect import Gate, connect
from ean_core.plug.pluggable import Connection, Pluggable, Staged, find_pluggable, find_staged, output_channels
from ean_core.plug.plugged import Plugs, find_plugged, plug, unplug
from ean_core.plug.points import PlugPoint, Points, find_points
from ean_core.plug.saving import plug_from
from ean_core.plug.surgery import squeeze_excite
from ean_core.plug.walk import forward_schemes

__all__ = [
    "Connection",
    "Gate",
    "PlugPoint",
    "Pluggable",
    "Plugs",
    "Points",
    "Staged",
    "connect",
    "find_pluggable",
    "find_plugged",
    "find_points",
    "find_staged",
    "forward_schemes",
    "output_channels",
    "plug",
    "plug_from",
    "squeeze_excite",
    "unplug",
]
