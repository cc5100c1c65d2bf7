"""The supernet of a cell search: the network in which all candidates are mixed on every edge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import nn

from ean_core.cells.mixed import Mixture, SuperCell, all_edges
from ean_core.cells.operations import OPERATIONS
from ean_core.cells.stack import CellStack, whole_number
from ean_core.errors import UserError

ATTENTIONS = ("none", "SE", "BAM", "CBAM", "GE", "A2")
"""The candidates of Att-DARTS."""
KINDS = ("normal", "reduce")


@MODELS.register_module()
class CellSupernet(CellStack):
    """The network in which a search mixes all candidates on every edge; with the defaults, that of Att-DARTS.

    Every edge computes ``h = sum softmax(alpha) operation(x)``, then ``sum softmax(beta) attention(h)``. All normal
    cells share their ``alpha`` and ``beta``, and all cells that reduce share theirs. Norms keep no running statistics
    (:func:`~ean_core.cells.operations.norm`), but the stem's and those inside attentions do. With the defaults it has
    3,309,674 parameters, alpha and beta among them.

    With ``partial=k`` (PC-DARTS, Xu et al., ICLR 2020, arXiv 1907.05737) the first C // k channels go through the
    candidates and the others past them (by 2x2 max-pooling where the edge has a stride of 2); then channels are
    shuffled, and each edge into a node has a weight, softmax over the node's edges.

    It computes what DARTS's supernet does, in less time: what does not depend on the edge is computed once for all
    edges of a state, the plain candidates are summed by one product of matrices, an operation's weight is the scale of
    its last norm, and maps lie in memory with their channels last.

    Args:
        channels: Of the nodes of the first cells; each of the two reductions doubles them.
        layers: Number of cells; those at ``layers // 3`` and ``2 * layers // 3`` reduce.
        num_classes: As in :class:`CellNetwork`, with ``None`` for a backbone.
        operations: The candidates, of :data:`OPERATIONS`.
        attentions: The candidates: ``"none"`` and what :func:`~ean_core.attention.build_attention` knows. ``("none",)``
            makes it the supernet of DARTS, and one name puts that attention on every edge.
        nodes: Of a cell.
        partial: ``k``; 1 for all channels.
        stem: As in :class:`CellNetwork`.
        image_size: As in :class:`CellNetwork`.
        out_indices: As in :class:`CellNetwork`.
        init_cfg: MMEngine initialisation.

    Attributes:
        architecture: The parameters ``alpha_normal``, ``alpha_reduce`` (edges, operations), ``beta_normal``,
            ``beta_reduce`` (edges, attentions), and with partial channels ``edge_normal`` and ``edge_reduce`` (edges,).
        edges: ``(node, source)`` of each edge, in the order of their rows; the first node is 2.

    Raises:
        UserError: An unknown candidate, or channels that ``partial`` does not divide.
    """

    def __init__(
        self,
        channels: int = 16,
        *,
        layers: int = 8,
        num_classes: int | None = 10,
        operations: Sequence[str] = OPERATIONS,
        attentions: Sequence[str] = ATTENTIONS,
        nodes: int = 4,
        partial: int = 1,
        stem: str = "cifar",
        image_size: int | None = None,
        out_indices: Sequence[int] = (0, 1, 2),
        init_cfg: Any = None,
    ) -> None:
        for kind, names, known in (("operations", operations, OPERATIONS), ("attentions", attentions, None)):
            if isinstance(names, str) or not names or len(set(map(str, names))) < len(names):
                raise UserError(f"{kind} is a list of different candidates, got {names!r}")
            unknown = [name for name in names if known is not None and name not in known]
            if unknown:
                raise UserError(f"unknown operation {unknown[0]!r}, known are {', '.join(OPERATIONS)}")
        if not set(operations) - {"none"}:
            raise UserError("operations needs a candidate besides 'none'")
        whole_number("channels", channels, 1)
        whole_number("partial", partial, 1)
        if channels % partial:
            raise UserError(f"partial={partial} must divide the number of channels, {channels}")
        super().__init__(
            lambda place: SuperCell(operations, place=place, attentions=attentions, nodes=nodes, partial=partial),
            nodes=nodes,
            channels=channels,
            layers=layers,
            num_classes=num_classes,
            stem=stem,
            image_size=image_size,
            out_indices=out_indices,
            init_cfg=init_cfg,
        )
        self.operations, self.attentions, self.partial = tuple(operations), tuple(attentions), partial
        self.edges = tuple(all_edges(nodes))
        self.architecture = nn.ParameterDict()
        for cell in KINDS:
            for letter, names in (("alpha", self.operations), ("beta", self.attentions)):
                if letter == "alpha" or len(names) > 1:  # a single attention has no weight to learn
                    value = 1e-3 * torch.randn(len(self.edges), len(names))
                    self.architecture[f"{letter}_{cell}"] = nn.Parameter(value)
            if partial > 1:
                self.architecture[f"edge_{cell}"] = nn.Parameter(1e-3 * torch.randn(len(self.edges)))
        candidates = {"alpha": self.operations, "beta": self.attentions}
        self._left = {
            f"{letter}_{cell}": [list(range(len(names))) for _ in self.edges]
            for letter, names in candidates.items()
            for cell in KINDS
        }

    def architecture_parameters(self) -> list[nn.Parameter]:
        """The alpha and beta, and the edges' weights: all other parameters are the network's weights."""
        return list(self.architecture.values())

    def restrict(
        self,
        cell: str,
        edge: int,
        *,
        operations: Iterable[str] | None = None,
        attentions: Iterable[str] | None = None,
    ) -> None:
        """Leave only these candidates on an edge; the weights of the others are 0, and they are not computed.

        Args:
            cell: ``"normal"`` or ``"reduce"``.
            edge: Its index in ``edges``.
            operations: Names; none of them drops the edge; ``None``: as before.
            attentions: Names; ``None``: as before.

        Raises:
            UserError: There is no such edge or candidate.
        """
        if cell not in KINDS or not 0 <= edge < len(self.edges):
            raise UserError(f"there is no edge {edge} in the {cell} cell")
        for letter, names, all_names in (("alpha", operations, self.operations), ("beta", attentions, self.attentions)):
            if names is not None:
                names = list(names)
                unknown = [name for name in names if name not in all_names]
                if unknown:
                    raise UserError(f"'{unknown[0]}' is no candidate: {', '.join(all_names)}")
                self._left[f"{letter}_{cell}"][edge] = sorted(all_names.index(name) for name in names)

    def probabilities(self) -> dict[str, torch.Tensor]:
        """The weights of all candidates, by the names of ``architecture``, without gradient."""
        return {name: weights.detach() for cell in KINDS for name, weights in self._softmax(cell).items()}

    def cell_argument(self, reduces: bool) -> Mixture:
        """The weights of the cells of a kind."""
        cell = KINDS[reduces]
        found = self._softmax(cell)
        scalars = {}
        for letter in ("alpha", "beta"):
            weights, left = found[f"{letter}_{cell}"], self._left[f"{letter}_{cell}"]
            flat = weights.flatten().unbind()
            width = weights.shape[1]
            scalars[letter] = [
                tuple(flat[e * width + i] if i in kept else None for i in range(width)) for e, kept in enumerate(left)
            ]
        edges = found[f"edge_{cell}"].unbind() if self.partial > 1 else (None,) * len(self.edges)
        return Mixture(found[f"alpha_{cell}"], scalars["alpha"], scalars["beta"], edges)

    def _softmax(self, cell: str) -> dict[str, torch.Tensor]:
        """The weights of a kind of cell."""
        found = {}
        for letter in ("alpha", "beta"):
            name = f"{letter}_{cell}"
            left = self._left[name]
            if name not in self.architecture:
                found[name] = self.architecture[f"alpha_{cell}"].new_ones(len(self.edges), 1)
                continue
            value = self.architecture[name]
            if any(len(kept) < value.shape[1] for kept in left):
                mask = torch.tensor([[i in kept for i in range(value.shape[1])] for kept in left], device=value.device)
                value = value.masked_fill(~mask, -torch.inf)
                found[name] = torch.where(mask, value.softmax(1), 0)
            else:
                found[name] = value.softmax(1)
        if self.partial > 1:
            name = f"edge_{cell}"
            counts = [node for node, source in self.edges if source == 0]
            found[name] = torch.cat([part.softmax(0) for part in self.architecture[name].split(counts)])
        return found

    def get_extra_state(self) -> dict[str, list[list[int]]]:
        """Which candidates are left on each edge, for the state dict."""
        return {name: [list(kept) for kept in rows] for name, rows in self._left.items()}

    def set_extra_state(self, state: dict[str, list[list[int]]]) -> None:
        """Take it from a state dict."""
        self._left = {name: [list(kept) for kept in rows] for name, rows in state.items()}
