"""From the probabilities of a supernet of cells to a genotype, and what can be said of them in numbers.

``probabilities`` has the rows of all edges, in the supernet's order, as ``cells.jsonl`` writes them:
``["operations"]["normal"][e][o]`` is softmax(alpha) of operation ``o`` on edge ``e`` of the normal cell,
``["attentions"]["normal"][e][a]`` is softmax(beta) of attention ``a``, and where the supernet has weights of edges
``["edges"]["normal"][e]`` is that of ``e``, which add up to 1 over the edges into a node. The same of ``"reduce"``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from ean_core.cells.genotype import Edge, Genotype

Rows = list[list[float]]
Probabilities = Mapping[str, Mapping[str, Any]]
TABLES = {"operations": "alpha", "attentions": "beta", "edges": "edge"}
"""What probabilities are of, and the supernet's names for it."""
CELLS = ("normal", "reduce")
NONE, SKIP = "none", "skip_connect"


@dataclass(frozen=True)
class Space:
    """What a search chooses from.

    Attributes:
        edges: ``(node, source)`` of every edge of a cell, node by node; nodes count from 2.
        operations: Names of the candidate operations.
        attentions: Names of the candidate attentions; ``none`` for none.
    """

    edges: Sequence[tuple[int, int]]
    _: KW_ONLY
    operations: Sequence[str]
    attentions: Sequence[str]

    @property
    def nodes(self) -> dict[int, list[int]]:
        """The indices of the edges that lead into each node."""
        nodes: dict[int, list[int]] = {}
        for index, (node, _) in enumerate(self.edges):
            nodes.setdefault(node, []).append(index)
        return nodes


def read_probabilities(supernet: Any) -> dict[str, dict[str, Any]]:
    """Of a supernet, as lists; nine digits, with which a float32 can be written and read back."""
    tables = supernet.probabilities()
    return {
        name: {cell: _numbers(tables[f"{prefix}_{cell}"].tolist()) for cell in CELLS}
        for name, prefix in TABLES.items()
        if f"{prefix}_normal" in tables
    }


def select(probabilities: Probabilities, space: Space, max_skips: int | None = None) -> Genotype:
    """The genotype of the largest probabilities.

    An edge is as strong as the best of its operations other than ``none``, times the weight of the edge where there is
    one (PC-DARTS). A node keeps its two strongest edges, the stronger first, as in DARTS; each has its best operation
    and its best attention. Of equals the first wins.

    Args:
        probabilities: See above.
        space: What they are of.
        max_skips: Skip connections that the normal cell keeps at most (:func:`limit_skips`); ``None``: any number.
    """
    cells = []
    for cell in CELLS:
        weights = operation_weights(probabilities, space, cell)
        if cell == "normal" and max_skips is not None:
            weights = limit_skips(weights, space, max_skips)
        chosen = []
        for edges in strongest(weights, space):
            first, second = (
                Edge(
                    space.edges[e][1],
                    space.operations[_best(weights[e])],
                    _attention(space.attentions[_best(probabilities["attentions"][cell][e])]),
                )
                for e in edges
            )
            chosen.append((first, second))
        cells.append(tuple(chosen))
    return Genotype(*cells)


def operation_weights(probabilities: Probabilities, space: Space, cell: str) -> Rows:
    """The strength of each operation on each edge of a cell: 0 for ``none``, times the edge's weight for others."""
    factors = probabilities["edges"][cell] if "edges" in probabilities else [1.0] * len(space.edges)
    return [
        [0.0 if name == NONE else p * factor for name, p in zip(space.operations, row, strict=True)]
        for row, factor in zip(probabilities["operations"][cell], factors, strict=True)
    ]


def strongest(weights: Rows, space: Space) -> list[tuple[int, int]]:
    """The two strongest edges into each node, the stronger first."""
    pairs = []
    for edges in space.nodes.values():
        first, second, *_ = sorted(edges, key=lambda e: -max(weights[e]))
        pairs.append((first, second))
    return pairs


def limit_skips(weights: Rows, space: Space, most: int) -> Rows:
    """Weights under which a cell keeps at most ``most`` skip connections: P-DARTS (arXiv 1904.12760, section 3.3).

    While the cell has more, the weakest of them gets the weight 0 and the cell is chosen anew, so that its edge falls
    back to its next best operation, or gives way to another edge. One that nothing can replace stays.
    """
    if SKIP not in space.operations:
        return weights
    skip = space.operations.index(SKIP)
    weights = [list(row) for row in weights]
    while True:
        chosen = [e for pair in strongest(weights, space) for e in pair if _best(weights[e]) == skip]
        if len(chosen) <= most:
            return weights
        for e in sorted(chosen, key=lambda e: weights[e][skip]):
            without = [[*row[:skip], 0.0, *row[skip + 1 :]] if i == e else row for i, row in enumerate(weights)]
            if all(max(without[edge]) > 0 for pair in strongest(without, space) for edge in pair):
                weights = without
                break
        else:
            return weights


def count_skips(genotype: Genotype) -> dict[str, int]:
    """Skip connections of each cell."""
    return {
        name: sum(edge.operation == SKIP for pair in cell for edge in pair)
        for name, cell in zip(CELLS, (genotype.normal, genotype.reduce), strict=True)
    }


def entropies(probabilities: Probabilities) -> dict[str, float]:
    """How undecided alpha and beta are: the mean over the edges of both cells of ``-sum p ln p / ln K``, in [0, 1].

    ``K`` counts the candidates with a probability above 0; the entropy of one that stands alone is 0.
    """
    found = {}
    for name in ("operations", "attentions"):
        rows = [row for cell in CELLS for row in probabilities[name][cell]]
        found[f"entropy_{TABLES[name]}"] = sum(map(_entropy, rows)) / len(rows)
    return found


def _entropy(row: Sequence[float]) -> float:
    left = [p for p in row if p > 0]
    return max(0.0, -sum(p * math.log(p) for p in left) / math.log(len(left))) if len(left) > 1 else 0.0


def _numbers(value: Any) -> Any:
    return list(map(_numbers, value)) if isinstance(value, list) else float(f"{value:.9g}")


def _best(row: Sequence[float]) -> int:
    """The index of the largest, of equals the first."""
    return max(range(len(row)), key=row.__getitem__)


def _attention(name: str) -> str | None:
    return None if name == NONE else name
