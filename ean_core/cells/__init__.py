"""Networks of searched cells, with an attention on every edge (Att-DARTS), and the supernet in which they are found."""

from ean_core.cells.genotype import PUBLISHED, Edge, Genotype
from ean_core.cells.network import CellNetwork
from ean_core.cells.operations import OPERATIONS
from ean_core.cells.supernet import ATTENTIONS, CellSupernet

__all__ = ["ATTENTIONS", "OPERATIONS", "PUBLISHED", "CellNetwork", "CellSupernet", "Edge", "Genotype"]
