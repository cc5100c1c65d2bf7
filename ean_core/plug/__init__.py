"""Plugging attention at chosen points of a network: Eq. 4, and what a network that can be plugged offers."""

from ean_core.plug.connect import Gate, connect
from ean_core.plug.pluggable import Connection, Pluggable, find_pluggable, output_channels
from ean_core.plug.walk import forward_schemes

__all__ = ["Connection", "Gate", "Pluggable", "connect", "find_pluggable", "forward_schemes", "output_channels"]
