"""The genotype of a cell network: for every node of both cells, where its two edges begin and what they do."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ean_core.attention import ATTENTION
from ean_core.cells.operations import OPERATIONS
from ean_core.errors import UserError

FORM = "'normal: 0 sep_conv_3x3 SE, 1 skip_connect | ...; reduce: ...'"
CELL = re.compile(r"\b(normal|reduce)\s*:")
INPUTS = 2
"""A cell begins with the outputs of the two cells before it: states 0 and 1. Its nodes are the states 2, 3, ..."""


class Edge(NamedTuple):
    """One edge into a node.

    Attributes:
        source: The state that it takes: 0 and 1 are the cell's inputs, 2 its first node.
        operation: One of :data:`~ean_core.cells.operations.OPERATIONS` but ``none``.
        attention: The attention behind the operation, a name that :func:`~ean_core.attention.build_attention` knows;
            ``None`` for none.
    """

    source: int
    operation: str
    attention: str | None = None

    def __str__(self) -> str:
        return " ".join(str(part) for part in self if part is not None)


Nodes = tuple[tuple[Edge, Edge], ...]
"""A cell: the two edges of each node, first node first."""


@dataclass(frozen=True)
class Genotype:
    """What a search of cells finds: an immutable value with a text form, ``Genotype.parse(str(g)) == g``.

    A node is the sum of its two edges, and a cell's output is the concatenation of all its nodes. In the text a node is
    ``SOURCE OPERATION [ATTENTION], SOURCE OPERATION [ATTENTION]`` and ``|`` stands between nodes::

        normal: 0 sep_conv_3x3 A2, 1 sep_conv_3x3 CBAM | 0 sep_conv_3x3 CBAM, 2 skip_connect CBAM
        reduce: 0 max_pool_3x3 BAM, 1 dil_conv_3x3 | 2 skip_connect CBAM, 0 avg_pool_3x3 BAM

    Args:
        normal: The cell that keeps the resolution.
        reduce: The cell that halves it; of as many nodes.

    Raises:
        UserError: No nodes, a node without exactly two edges of different sources, an edge from a later node, or an
            unknown operation or attention; the message names the cell and the node. A ``module.Class`` is looked up
            when a network is built.
    """

    normal: Nodes
    reduce: Nodes

    def __post_init__(self) -> None:
        for name, given in self.cells():  # any sequences will do, and become tuples
            try:
                nodes = tuple(tuple(Edge(*edge) for edge in pair) for pair in given)
            except TypeError as error:
                raise UserError(f"genotype, {name} cell: a node is two edges (source, operation, attention)") from error
            object.__setattr__(self, name, nodes)
        for name, cell in self.cells():
            if not cell:
                raise UserError(f"genotype, {name} cell: it has no nodes")
            for node, edges in enumerate(cell, INPUTS):
                where = f"genotype, {name} cell, node {node}"
                if len(edges) != 2:
                    raise UserError(f"{where}: a node has 2 edges, not {len(edges)}")
                for edge in edges:
                    _check(edge, node, where)
                if edges[0].source == edges[1].source:
                    raise UserError(f"{where}: both edges come from state {edges[0].source}")
        if len(self.normal) != len(self.reduce):
            raise UserError(f"genotype: {len(self.normal)} nodes in the normal cell, {len(self.reduce)} in the other")

    def cells(self) -> Iterator[tuple[str, Nodes]]:
        """``("normal", cell)`` and ``("reduce", cell)``."""
        yield "normal", self.normal
        yield "reduce", self.reduce

    def __str__(self) -> str:
        return "\n".join(
            f"{name}: " + " | ".join(", ".join(map(str, edges)) for edges in cell) for name, cell in self.cells()
        )

    def with_attention(self, attention: str | None) -> Genotype:
        """The same operations with one attention on every edge, or with none."""
        cells = [
            tuple((first._replace(attention=attention), second._replace(attention=attention)) for first, second in cell)
            for _, cell in self.cells()
        ]
        return Genotype(*cells)

    @classmethod
    def parse(cls, text: str) -> Genotype:
        """Read the text form; line breaks count as spaces, and a ``;`` may end a cell.

        Raises:
            UserError: The text is no genotype, with the reason.
        """
        before, *parts = CELL.split(text)
        if before.strip() or sorted(parts[::2]) != ["normal", "reduce"]:
            raise UserError(f"no genotype: expected {FORM}, got {text.strip()[:60]!r}")
        cells: dict[str, Any] = {}
        for name, nodes in zip(parts[::2], parts[1::2], strict=True):
            cells[name] = tuple(
                tuple(_read_edge(edge, f"genotype, {name} cell, node {node}") for edge in edges.split(","))
                for node, edges in enumerate(nodes.strip("; \t\r\n").split("|"), INPUTS)
            )
        return cls(**cells)

    @classmethod
    def random(
        cls,
        generator: torch.Generator,
        *,
        nodes: int = 4,
        operations: Sequence[str] = OPERATIONS,
        attentions: Sequence[str] = ("none", "SE", "BAM", "CBAM", "GE", "A2"),
    ) -> Genotype:
        """Draw sources, operations (but ``none``) and attentions, all with the same probability."""
        kinds = [name for name in operations if name != "none"]

        def pick(names: Sequence[str]) -> str:
            return names[int(torch.randint(len(names), (), generator=generator))]

        def edge(source: int) -> Edge:
            operation, attention = pick(kinds), pick(attentions)
            return Edge(source, operation, None if attention == "none" else attention)

        def cell() -> Nodes:
            pairs = [torch.randperm(node, generator=generator)[:2].sort().values.tolist() for node in _nodes(nodes)]
            return tuple((edge(first), edge(second)) for first, second in pairs)

        return cls(cell(), cell())

    @classmethod
    def load(cls, spec: Genotype | str | os.PathLike[str]) -> Genotype:
        """A genotype from itself, a published name, its text, or a file: a search's ``genotype.json`` or its text.

        A folder stands for the ``genotype.json`` in it.

        Raises:
            FileNotFoundError: ``spec`` looks like a file, and there is none.
            UserError: It is none of these, or wrong.
        """
        if isinstance(spec, Genotype):
            return spec
        if not isinstance(spec, str | os.PathLike):
            raise UserError(
                f"a genotype is a name, a text or a file, got {type(spec).__name__}: on the command line, --genotype"
            )
        text = os.fspath(spec)
        if text in PUBLISHED:
            return cls.parse(PUBLISHED[text])
        if CELL.search(text):
            return cls.parse(text)
        path = Path(text, "genotype.json") if Path(text).is_dir() else Path(text)
        if not path.is_file():
            if not path.suffix:
                raise UserError(f"unknown genotype '{text[:60]}': known are {', '.join(PUBLISHED)}, a file, or {FORM}")
            raise FileNotFoundError(f"genotype file '{path}' does not exist")
        try:
            return cls.parse(_read_file(path))
        except UserError as error:
            raise UserError(f"'{path}': {error}") from error

    def as_dict(self) -> dict[str, str]:
        """``{"normal": TEXT, "reduce": TEXT}``, the entry ``genotype`` of a ``genotype.json``."""
        normal, reduce = (line.split(": ", 1)[1] for line in str(self).splitlines())
        return {"normal": normal, "reduce": reduce}


def _nodes(number: int) -> range:
    """The states that are nodes."""
    return range(INPUTS, INPUTS + number)


def _check(edge: Edge, node: int, where: str) -> None:
    known = [name for name in OPERATIONS if name != "none"]
    if edge.operation not in known:
        raise UserError(f"{where}: unknown operation {edge.operation!r}, known are {', '.join(known)}")
    if not isinstance(edge.source, int) or not 0 <= edge.source < node:
        raise UserError(f"{where}: an edge comes from a state before it, 0 to {node - 1}, not from {edge.source}")
    if edge.attention is not None and "." not in edge.attention and edge.attention not in ATTENTION.module_dict:
        known = sorted(ATTENTION.module_dict)
        near = difflib.get_close_matches(edge.attention.lower(), [name.lower() for name in known], n=1)
        hint = f" (did you mean {next(name for name in known if name.lower() == near[0])}?)" if near else ""
        raise UserError(
            f"{where}: unknown attention {edge.attention!r}{hint}, known are {', '.join(known)}, or module.Class"
        )


def _read_edge(text: str, where: str) -> Edge:
    """``"0 sep_conv_3x3 SE"`` -> an edge."""
    words = text.split()
    if len(words) not in (2, 3) or not re.fullmatch(r"\d{1,3}", words[0], re.ASCII):
        raise UserError(f"{where}: an edge is 'SOURCE OPERATION [ATTENTION]', got {text.strip()[:60]!r}")
    attention = words[2] if len(words) == 3 and words[2] != "none" else None
    return Edge(int(words[0]), words[1], attention)


def _read_file(path: Path) -> str:
    """The text form that a file holds."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError("it holds no text") from None
    if not text.lstrip().startswith("{"):
        return text
    try:
        entry: Any = json.loads(text).get("genotype")
    except (ValueError, RecursionError) as error:
        raise UserError("it is no JSON") from error
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        raise UserError("it holds no genotype: is it the file of another search?")
    return "\n".join(f"{name}: {cell}" for name, cell in entry.items())


PUBLISHED = {
    "att-darts": """
        normal: 0 sep_conv_3x3 A2, 1 sep_conv_3x3 CBAM | 0 sep_conv_3x3 CBAM, 2 skip_connect CBAM
              | 0 skip_connect CBAM, 1 sep_conv_3x3 CBAM | 0 skip_connect CBAM, 2 skip_connect CBAM;
        reduce: 0 max_pool_3x3 BAM, 1 dil_conv_3x3 A2 | 0 avg_pool_3x3 BAM, 2 skip_connect CBAM
              | 2 skip_connect CBAM, 0 avg_pool_3x3 BAM | 2 skip_connect CBAM, 0 avg_pool_3x3 BAM""",
    "darts-v2": """
        normal: 0 sep_conv_3x3, 1 sep_conv_3x3 | 0 sep_conv_3x3, 1 sep_conv_3x3
              | 1 sep_conv_3x3, 0 skip_connect | 0 skip_connect, 2 dil_conv_3x3;
        reduce: 0 max_pool_3x3, 1 max_pool_3x3 | 2 skip_connect, 1 max_pool_3x3
              | 0 max_pool_3x3, 2 skip_connect | 2 skip_connect, 1 max_pool_3x3""",
}
"""Cells that were published: Att-DARTS's (Table of its paper) and DARTS's second order cell (arXiv 1806.09055)."""
