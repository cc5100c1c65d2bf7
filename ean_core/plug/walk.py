"""One input through many schemes of a network at once, what they have in common computed once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_leaves

from ean_core.attention import State
from ean_core.errors import UserError
from ean_core.plug.connect import connect
from ean_core.plug.pluggable import Pluggable, Step, Walkable
from ean_core.plug.plugged import Plugs
from ean_core.plug.replay import Bits, Replay
from ean_core.scheme import ConnectionScheme

Outputs = tuple[torch.Tensor, ...]


def forward_schemes(
    network: Pluggable, x: torch.Tensor, schemes: Sequence[ConnectionScheme]
) -> Iterator[tuple[ConnectionScheme, Any]]:
    """The network's outputs for every scheme.

    Two schemes share everything from the first block to the first difference. Every output is equal to that of
    ``set_scheme`` and a forward pass, bit for bit. The network must be in evaluation mode; its own scheme is neither
    used nor changed.

    Args:
        network: A supernet.
        x: Its input, (N, 3, H, W).
        schemes: Different schemes.

    Yields:
        A scheme and what the network returns, in the order of the tree of the schemes' bits.
    """
    yield from Walk(network)(lambda: x, schemes)


class Walk:
    """:func:`forward_schemes` for one input again and again: what the first blocks give is kept from call to call.

    Kept is what lies behind the first ``d`` blocks, for as large a ``d`` as all ``2^d`` ways to connect these fit into
    the memory. It is forgotten when a parameter or buffer has changed since.

    Args:
        network: A supernet in evaluation mode.
        memory: Bytes for what is kept.
        steps: Other ways to compute the network's blocks than ``network.connections()``.
    """

    def __init__(self, network: Pluggable, memory: float = 0, steps: Sequence[Step] | None = None) -> None:
        self.network, self.memory, self.steps = network, memory, steps
        self._weights: list[tuple[int, int]] = []
        self._walk: _Tree | Replay | None = None

    def __call__(
        self, begin: Callable[[], torch.Tensor], schemes: Sequence[ConnectionScheme]
    ) -> Iterator[tuple[ConnectionScheme, Any]]:
        """The outputs for different schemes, those with a common beginning together.

        Args:
            begin: Gives the input, which must be the same at every call; called only where it is needed.
            schemes: Different schemes.
        """
        for scheme in schemes:
            ConnectionScheme.parse(scheme, self.network.blocks)
        module = self.network.network
        weights = [
            (t.data_ptr(), t._version) for t in (*module.parameters(), *module.buffers()) if not t.is_inference()
        ]
        if self._walk is None or weights != self._weights:
            self._walk, self._weights = self._new(), weights
        yield from self._walk(begin, schemes)

    def _new(self) -> _Tree | Replay:
        network = self.network
        if isinstance(network, Walkable):
            steps = self.steps or network.connections()
            steps = [step for step in steps if step.stage <= max(network.out_indices)]
            return _Tree(steps, network.begin, network.out_indices, self.memory)
        if isinstance(network, Plugs):
            return Replay(network, self.memory)
        raise UserError(f"{type(network).__name__} has no steps to walk along: see ean_core.plug.pluggable.Walkable")


class _Node(NamedTuple):
    """What is known behind some blocks: the activation, the attention's state, and the outputs of finished stages."""

    x: torch.Tensor
    state: State
    outs: Outputs


class _Tree:
    """Blocks one after the other: schemes are ways from the root of a binary tree to its leaves.

    ``kept`` holds nodes by their bits; one goes when both its children are there, as nothing begins at it any more.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        begin: Callable[[torch.Tensor], torch.Tensor],
        out_indices: Sequence[int],
        memory: float,
    ) -> None:
        self.steps, self.begin, self.out_indices, self.memory = steps, begin, out_indices, memory
        self.depth: int | None = None if memory else -1
        self.kept: dict[Bits, _Node] = {}
        self.met: set[Bits] = set()  # those kept now or before
        self.used = 0

    def __call__(
        self, begin: Callable[[], torch.Tensor], schemes: Sequence[ConnectionScheme]
    ) -> Iterator[tuple[ConnectionScheme, Outputs]]:
        for start, group in itertools.groupby(sorted(schemes, key=self._start), self._start):
            node = self.kept.get(start)
            if node is None:
                x = begin()
                if self.depth is None:
                    self.depth = self._find_depth(x)
                node = _Node(self.begin(x), None, ())
                self._keep((), node)
            yield from self._from(start, node, list(group))

    def _start(self, scheme: ConnectionScheme) -> Bits:
        """The longest beginning that is kept; the root's otherwise."""
        limit = -1 if self.depth is None else self.depth
        return next((scheme.bits[:i] for i in range(limit, 0, -1) if scheme.bits[:i] in self.kept), ())

    def _from(
        self, bits: Bits, node: _Node, schemes: list[ConnectionScheme]
    ) -> Iterator[tuple[ConnectionScheme, Outputs]]:
        """The schemes that begin with these bits. One activation a level is held."""
        i = len(bits)
        if i == len(self.steps):
            yield from ((scheme, node.outs) for scheme in schemes)
            return
        step = self.steps[i]
        parts = step.split(node.x)
        for gate in (False, True):
            chosen = [scheme for scheme in schemes if scheme.bits[i] is gate]
            if chosen:
                child = self._child(i, parts, gate, node)
                self._keep((*bits, gate), child)
                yield from self._from((*bits, gate), child, chosen)
        if {(*bits, False), (*bits, True)} <= self.met and bits in self.kept:
            self.used -= _bytes(self.kept.pop(bits))

    def _child(self, i: int, parts: tuple[Any, Any], gate: bool, node: _Node) -> _Node:
        step = self.steps[i]
        recalibrated, after = connect(step.attention, gate, parts[1], node.state)
        y = step.join(parts[0], recalibrated)
        last = i + 1 == len(self.steps) or self.steps[i + 1].stage != step.stage
        outs = (*node.outs, y) if last and step.stage in self.out_indices else node.outs
        return _Node(y, None if last else after, outs)

    def _keep(self, bits: Bits, node: _Node) -> None:
        size = _bytes(node)
        if self.depth is not None and len(bits) <= self.depth and self.used + size <= self.memory:
            self.kept[bits] = node
            self.met.add(bits)
            self.used += size

    def _find_depth(self, x: torch.Tensor) -> int:
        """How many blocks' ways to be connected have room; found with one sample, all connected. -1: none."""
        node, found = _Node(self.begin(x[:1]), None, ()), -1
        for i in range(len(self.steps)):  # behind the last block a scheme is at its end
            if 2**i * _bytes(node) * len(x) <= self.memory:
                found = i
            node = self._child(i, self.steps[i].split(node.x), True, node)
        return found


def _bytes(node: _Node) -> int:
    """Outputs of a stage that are also the activation count once."""
    tensors = {id(t): t for t in tree_leaves(tuple(node)) if isinstance(t, torch.Tensor)}
    return sum(t.nbytes for t in tensors.values())
