"""Many schemes of a plugged network, whose forward pass is not ours: it is run again, and what is known is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from ean_core.plug.plugged import Plugs
from ean_core.scheme import ConnectionScheme

Bits = tuple[bool, ...]


class Replay:
    """Keeps what the modules around a network's points returned, and the largest modules without points.

    An output is used again if the points before its end are connected as they were, and if nothing has changed it in
    place since. Kept are those of the last pass, and those behind so few points that all of them, for all connections
    of these points, fit into ``memory``. A module that is called more than once in a pass is never left out.

    Args:
        plugs: Of a network in evaluation mode.
        memory: Bytes for what is kept from pass to pass, besides the last one.
    """

    def __init__(self, plugs: Plugs, memory: float = 0) -> None:
        self.plugs, self.memory, self.done = plugs, memory, 0
        self.bits: Bits = ()
        self.depth = -1  # of as many points all connections are kept
        self.outputs: dict[tuple[nn.Module, Bits], tuple[Any, list[int], int, Any]] = {}
        self.inside: dict[nn.Module, int] = {}  # points in a module
        self.called: set[nn.Module] = set()
        self.again: set[nn.Module] = set()
        self.points = [plugs.network.get_submodule(point.name) for point in plugs.points]
        self.parts = [part for part in _parts(plugs.network, set(self.points)) if part is not plugs]

    def __call__(
        self, begin: Callable[[], torch.Tensor], schemes: Sequence[ConnectionScheme]
    ) -> Iterator[tuple[ConnectionScheme, Any]]:
        """Every scheme and what the network returns for the input that ``begin`` gives."""
        x = begin() if schemes else torch.empty(0)
        for scheme in sorted(schemes, key=lambda scheme: scheme.bits):
            with torch.inference_mode(False), torch.no_grad():  # whose tensors count their changes in place
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
            self.again.add(module)
        self.called.add(module)
        start = self.done
        known = self.outputs.get((module, self.bits[: start + self.inside.get(module, 0)]))
        if known is not None and module not in self.again:
            output, versions, done, carried = known
            if versions == _versions(output):
                self.done, self.plugs.carried = done, carried
                return output
        output = forward(*args, **kwargs)
        self.inside[module] = self.done - start
        self.outputs[module, self.bits[: self.done]] = (output, _versions(output), self.done, self.plugs.carried)
        return output

    def _forget(self) -> None:
        """Everything but the last pass and what there is memory for."""
        if self.depth < 0:
            sizes = [0] * (len(self.points) + 1)  # by the number of points before the end
            for output, _, done, carried in self.outputs.values():
                sizes[done] += sum(t.nbytes for t in tree_leaves((output, carried)) if isinstance(t, torch.Tensor))
            room = self.memory
            for done, size in enumerate(sizes):
                room -= size * 2**done
                if room < 0:
                    break
                self.depth = done
        self.outputs = {
            (module, bits): known
            for (module, bits), known in self.outputs.items()
            if len(bits) <= self.depth or bits == self.bits[: len(bits)]
        }


def _parts(module: nn.Module, points: set[nn.Module]) -> Iterator[nn.Module]:
    """The children that have a point among their own children, or none inside; and so in those with points deeper."""
    for child in module.children():
        if points.isdisjoint(child.modules()) or not points.isdisjoint(child.children()):
            yield child
        elif child not in points:
            yield from _parts(child, points)


def _versions(output: Any) -> list[int]:
    return [t._version for t in tree_leaves(output) if isinstance(t, torch.Tensor)]
