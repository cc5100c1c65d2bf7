"""One input through many schemes of a network at once, what they have in common computed once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from ean_core.attention import State
from ean_core.errors import UserError
from ean_core.plug.connect import connect
from ean_core.plug.pluggable import Pluggable, Step, Walkable
from ean_core.plug.plugged import Plugs
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
    for scheme in schemes:
        ConnectionScheme.parse(scheme, network.blocks)
    if isinstance(network, Walkable):
        steps = [step for step in network.connections() if step.stage <= max(network.out_indices)]
        yield from _walk(steps, 0, network.out_indices, network.begin(x), None, (), list(schemes))
    elif isinstance(network, Plugs):
        yield from _replay(network, x, schemes)
    else:
        raise UserError(f"{type(network).__name__} has no steps to walk along: see ean_core.plug.pluggable.Walkable")


def _walk(
    points: Sequence[Step],
    i: int,
    out_indices: Sequence[int],
    x: torch.Tensor,
    state: State,
    outs: Outputs,
    schemes: list[ConnectionScheme],
) -> Iterator[tuple[ConnectionScheme, Outputs]]:
    """From point ``i`` on: the schemes agree on all points before it. One activation a level is kept."""
    if i == len(points):
        yield from ((scheme, outs) for scheme in schemes)
        return
    point = points[i]
    last = i + 1 == len(points) or points[i + 1].stage != point.stage
    identity, branch = point.split(x)
    for gate in (False, True):
        chosen = [scheme for scheme in schemes if scheme.bits[i] is gate]
        if not chosen:
            continue
        recalibrated, after = connect(point.attention, gate, branch, state)
        y = point.join(identity, recalibrated)
        done = (*outs, y) if last and point.stage in out_indices else outs
        yield from _walk(points, i + 1, out_indices, y, None if last else after, done, chosen)


def _replay(
    plugs: Plugs, x: torch.Tensor, schemes: Sequence[ConnectionScheme]
) -> Iterator[tuple[ConnectionScheme, Any]]:
    """Forward passes in which what ends before the first difference to the pass before is not computed again."""
    memory = _Memory(plugs)
    previous: tuple[bool, ...] = ()
    for scheme in sorted(schemes, key=lambda scheme: scheme.bits):
        same = sum(itertools.takewhile(bool, (a is b for a, b in zip(scheme.bits, previous, strict=False))))
        with torch.inference_mode(False), torch.no_grad():  # whose tensors count their changes in place
            out = memory.run(x.clone(), scheme, same)
        previous = scheme.bits
        yield scheme, out


class _Memory:
    """Keeps what the modules around a network's points returned, and the largest modules without points.

    An output is used again if the points that it depends on are connected as before, and if nothing has changed it in
    place since. A module that is called more than once in a pass is never left out.

    Args:
        plugs: Of a network in evaluation mode.
    """

    def __init__(self, plugs: Plugs) -> None:
        self.plugs, self.done, self.same = plugs, 0, 0
        self.outputs: dict[nn.Module, tuple[Any, list[int], int, Any]] = {}
        self.called: set[nn.Module] = set()
        self.again: set[nn.Module] = set()
        self.points = [plugs.network.get_submodule(point.name) for point in plugs.points]
        self.parts = [part for part in _parts(plugs.network, set(self.points)) if part is not plugs]

    def run(self, x: torch.Tensor, scheme: ConnectionScheme, same: int) -> Any:
        """A pass whose first ``same`` points are connected as in the last one; the network is left as it was."""
        self.done, self.same = 0, same
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

    def _count(self, *_: Any) -> None:
        self.done += 1

    def _call(self, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if module in self.called:
            self.again.add(module)
        self.called.add(module)
        if module in self.outputs and module not in self.again:
            output, versions, done, carried = self.outputs[module]
            if done <= self.same and versions == _versions(output):
                self.done, self.plugs.carried = done, carried
                return output
        output = forward(*args, **kwargs)
        self.outputs[module] = (output, _versions(output), self.done, self.plugs.carried)
        return output


def _parts(module: nn.Module, points: set[nn.Module]) -> Iterator[nn.Module]:
    """The children that have a point among their own children, or none inside; and so in those with points deeper."""
    for child in module.children():
        if points.isdisjoint(child.modules()) or not points.isdisjoint(child.children()):
            yield child
        elif child not in points:
            yield from _parts(child, points)


def _versions(output: Any) -> list[int]:
    return [t._version for t in tree_leaves(output) if isinstance(t, torch.Tensor)]
