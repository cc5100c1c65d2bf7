"""Attention modules with one interface, built by name from one registry. Method cards: README.md beside this file."""

from ean_core.attention.base import ATTENTION, Attention, ChannelAttention, State, build_attention
from ean_core.attention.dia import DIA
from ean_core.attention.plugin import Plugin
from ean_core.attention.se import SE
from ean_core.attention.sge import SGE

__all__ = ["ATTENTION", "DIA", "SE", "SGE", "Attention", "ChannelAttention", "Plugin", "State", "build_attention"]
