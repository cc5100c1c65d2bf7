"""Many schemes of a plugged network, whose forward pass is not ours: it is run again, and what is known is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map_only

from ean_core.plug.plugged import Plugs
from ean_core.scheme import ConnectionScheme

Bits = tuple[bool, ...]


class Replay:
    """Keeps what the blocks around a network's points returned, the modules in them, and the largest without points.

    An output is used again if the points before its end are connected as they were. Of a module whose output is changed
    in place behind it, as by a ReLU, a copy is kept, and a copy of that handed on. Kept are those of the last pass, and
    those behind so few points that all of them, for all connections of these points, fit into ``memory``: first of
    blocks, then of what lies in blocks, as the branch that both states of a connection share. Never left out is a
    module that is called more than once in a pass, changes its input, or returns a part of it: what is done to either
    shows in the other.

    Args:
        plugs: Of a network in evaluation mode.
        memory: Bytes for what is kept from pass to pass, besides the last one.
    """

    def __init__(self, plugs: Plugs, memory: float = 0) -> None:
        self.plugs, self.memory, self.done = plugs, memory, 0
        self.bits: Bits = ()
        self.depth: dict[bool, int] = {}  # of as many points all connections are kept, of blocks and of what is inside
        self.outputs: dict[tuple[nn.Module, Bits], tuple[Any, list[int], int, Any]] = {}
        self.inside: dict[nn.Module, int] = {}  # points in a module
        self.called: set[nn.Module] = set()
        self.always: set[nn.Module] = set()  # those that are never left out
        self.changed: set[nn.Module] = set()  # in place, behind them
        self.points = [plugs.network.get_submodule(point.name) for point in plugs.points]
        parts = [(part, inner) for part, inner in _parts(plugs.network, set(self.points)) if part is not plugs]
        self.parts = [part for part, _ in parts]
        self.inner = {part for part, inner in parts if inner}

    def __call__(
        self, begin: Callable[[], torch.Tensor], schemes: Sequence[ConnectionScheme]
    ) -> Iterator[tuple[ConnectionScheme, Any]]:
        """Every scheme and what the network returns for the input that ``begin`` gives."""
        x = begin() if schemes else torch.empty(0)
        for scheme in sorted(schemes, key=lambda scheme: scheme.bits):
            with torch.inference_mode(False), torch.no_grad():  # whose tensors count their changes in place
                if not self.depth:
                    self._learn(x, scheme)
                out = self.run(x.clone(), scheme)
            yield scheme, out

    def run(self, x: torch.Tensor, scheme: ConnectionScheme) -> Any:
        """A pass with a scheme; the network is left as it was."""
        self.done, self.bits = 0, scheme.bits
        self.called.clear()
        before = self.plugs.scheme, self.plugs.gates
        own = {part: part.__dict__.get("forward") for part in self.parts}
        handles = [point.register_forward_hook(self._count) for point in self.points]
        try:
            self.plugs.use(scheme, list(scheme.bits))
            self.plugs.last.clear()  # the next pass may go on with the state that a stage ends with in this one
            for part in self.parts:
                part.forward = partial(self._call, part, part.forward)
            return self.plugs.network(x)
        finally:
            for handle in handles:
                handle.remove()
            for part, forward in own.items():
                part.__dict__.pop("forward", None)
                if forward is not None:
                    part.forward = forward
            self.plugs.use(*before)
            self._forget()

    def _count(self, *_: Any) -> None:
        self.done += 1

    def _call(self, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if module in self.called:
            self.always.add(module)
        self.called.add(module)
        start = self.done
        known = self.outputs.get((module, self.bits[: start + self.inside.get(module, 0)]))
        if known is not None and module not in self.always:
            output, versions, done, carried = known
            if versions == _versions(output):
                self.done, self.plugs.carried = done, carried
                return _copy(output) if module in self.changed else output
        before = _versions((args, kwargs))
        output = forward(*args, **kwargs)
        self.inside[module] = self.done - start
        if before != _versions((args, kwargs)) or _memory((args, kwargs)) & _memory(output):
            self.always.add(module)
        if module in self.always:
            return output
        kept = _copy(output) if module in self.changed else output
        self.outputs[module, self.bits[: self.done]] = (kept, _versions(kept), self.done, self.plugs.carried)
        return output

    def _learn(self, x: torch.Tensor, scheme: ConnectionScheme) -> None:
        """From a pass of one sample: which outputs are changed in place, and for how many points there is memory."""
        self.run(x[:1].clone(), scheme)
        self.changed = {key[0] for key, (output, versions, *_) in self.outputs.items() if versions != _versions(output)}
        room = self.memory
        for inner in (False, True):
            sizes = [0] * (len(self.points) + 1)  # by the number of points before the end
            for (module, _), (output, _, done, carried) in self.outputs.items():
                if (module in self.inner) is inner and module not in self.always:
                    sizes[done] += sum(t.nbytes for t in _tensors((output, carried)))
            needed = [size * len(x) * 2**done for done, size in enumerate(sizes)]
            self.depth[inner] = sum(total <= room for total in accumulate(needed)) - 1
            room -= sum(needed[: self.depth[inner] + 1])
        self.outputs.clear()

    def _forget(self) -> None:
        """Everything but the last pass and what there is memory for."""
        self.outputs = {
            (module, bits): known
            for (module, bits), known in self.outputs.items()
            if len(bits) <= self.depth.get(module in self.inner, -1) or bits == self.bits[: len(bits)]
        }


def _parts(module: nn.Module, points: set[nn.Module], inner: bool = False) -> Iterator[tuple[nn.Module, bool]]:
    """The largest modules without points, the points, and what has one among its children; and if it is in the last."""
    for child in module.children():
        if child in points or points.isdisjoint(child.modules()):
            yield child, inner or child in points
            continue
        block = not points.isdisjoint(child.children())
        if block:
            yield child, inner
        yield from _parts(child, points, inner or block)


def _copy(output: Any) -> Any:
    return tree_map_only(torch.Tensor, torch.clone, output)


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _versions(tree: Any) -> list[int]:
    return [t._version for t in _tensors(tree)]


def _memory(tree: Any) -> set[int]:
    return {t.untyped_storage().data_ptr() for t in _tensors(tree)}
