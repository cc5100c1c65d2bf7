"""One input through many schemes of a network at once, what they have in common computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from ean_core.attention import State
from ean_core.plug.connect import connect
from ean_core.plug.pluggable import Step, Walkable
from ean_core.scheme import ConnectionScheme

Outputs = tuple[torch.Tensor, ...]


def forward_schemes(
    network: Walkable, x: torch.Tensor, schemes: Sequence[ConnectionScheme]
) -> Iterator[tuple[ConnectionScheme, Outputs]]:
    """The network's outputs for every scheme.

    A walk down the tree of the schemes' bits that keeps one activation a level: two schemes share everything from the
    first block to the first difference, and the residual branch there. Every output is equal to that of ``set_scheme``
    and a forward pass, bit for bit. The network must be in evaluation mode; its own scheme is neither used nor changed.

    Args:
        network: A supernet.
        x: Its input, (N, 3, H, W).
        schemes: Different schemes.

    Yields:
        A scheme and the feature maps of the stages in ``network.out_indices``, in the tree's order.
    """
    for scheme in schemes:
        ConnectionScheme.parse(scheme, network.blocks)
    points = [point for point in network.connections() if point.stage <= max(network.out_indices)]
    yield from _walk(points, 0, network.out_indices, network.begin(x), None, (), list(schemes))


def _walk(
    points: Sequence[Step],
    i: int,
    out_indices: Sequence[int],
    x: torch.Tensor,
    state: State,
    outs: Outputs,
    schemes: list[ConnectionScheme],
) -> Iterator[tuple[ConnectionScheme, Outputs]]:
    """From point ``i`` on: the schemes agree on all points before it."""
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
