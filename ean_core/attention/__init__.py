"""Attention modules with one interface, built by name from one registry. Method cards: README.md beside this file."""

from ean_core.attention.a2 import A2
from ean_core.attention.bam import BAM
from ean_core.attention.base import ATTENTION, Attention, ChannelAttention, State, build_attention
from ean_core.attention.cbam import CBAM
from ean_core.attention.coord_att import CoordAtt
from ean_core.attention.dia import DIA
from ean_core.attention.eca import ECA
from ean_core.attention.gc import GC
from ean_core.attention.ge import GE
from ean_core.attention.plugin import Plugin
from ean_core.attention.se import SE
from ean_core.attention.sge import SGE
from ean_core.attention.simam import SimAM

__all__ = [
    "A2",
    "ATTENTION",
    "BAM",
    "CBAM",
    "DIA",
    "ECA",
    "GC",
    "GE",
    "SE",
    "SGE",
    "Attention",
    "ChannelAttention",
    "CoordAtt",
    "Plugin",
    "SimAM",
    "State",
    "build_attention",
]
