"""What each connection of a trained network does: the masks of its attention modules over a set of images.

A mask is ``M(f) = f' / f`` for a branch ``f`` (C, H, W) that its module turned into ``f'``, element by element; where
``f`` is zero there is none. It is read off the modules' inputs and outputs, so it needs nothing from them but Eq. 4,
and is exact to the rounding of one product. SE's and DIA's masks have one value a channel, SGE's one a position and
group. A2 and GC add something to ``f``: their ``M`` has no bound where ``f`` is near zero, so its numbers say little.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from ean_core.errors import UserError
from ean_core.plug import Connection, Pluggable

SUMS = dict[tuple[int, int], list[torch.Tensor]]
"""(stage, block) -> for every image a (4, C) tensor: number, sum of M, of M^2 and of ``|1 - M|`` over the positions."""


@dataclass(frozen=True)
class BlockStatistics:
    """The masks ``M`` of one connected block over images ``s``, channels ``c`` and positions ``p``.

    Attributes:
        stage: From 1.
        block: Within its stage, from 1.
        mean: Of all masks.
        effect: Mean of ``|1 - M|``: how far the connection is from not being there.
        over_channels: Standard deviation, over channels, of a channel's mean.
        over_images: Standard deviation, over images, of a channel's mean over the positions; mean over channels.
        over_positions: Standard deviation over the positions; mean over channels and images. 0 for a mask a channel.
        adaptive: Standard deviation of a channel's mask over images and positions together; mean over channels. Where
            it is 0 each channel is multiplied by a constant, which the batch norm before could do alone.
    """

    stage: int
    _: KW_ONLY
    block: int
    mean: float
    effect: float
    over_channels: float
    over_images: float
    over_positions: float
    adaptive: float


def attention_statistics(network: Pluggable, runs: Iterable[Callable[[], object]]) -> list[BlockStatistics]:
    """Mean and spread of the mask of every connected block, in the order of the blocks.

    All standard deviations are those of the images at hand (divided by their number, not by one less).

    Args:
        network: In evaluation mode.
        runs: Each call puts one or more images through the model that the network belongs to.

    Raises:
        UserError: No block is connected, or nothing went through the network.
    """
    if not any(_is_connected(point) for point in network.connections()):
        raise UserError("no block is connected to an attention module: there are no masks to look at")
    sums: SUMS = defaultdict(list)
    with _watching(network, sums):
        for run in runs:
            run()
    if not sums:
        raise UserError("no image went through the network")
    return [_summary(stage, block, torch.stack(images)) for (stage, block), images in sorted(sums.items())]


def to_csv(statistics: Iterable[BlockStatistics]) -> str:
    """A table with one line per block, as CSV text."""
    text = io.StringIO()
    names = [field.name for field in fields(BlockStatistics)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in statistics:
        writer.writerow([v if isinstance(v, int) else f"{v:.6g}" for v in (getattr(row, name) for name in names)])
    return text.getvalue()


def _is_connected(point: Connection) -> bool:
    return point.gate is not False and point.attention is not None


@contextmanager
def _watching(network: Pluggable, sums: SUMS) -> Iterator[None]:
    """Note the masks of the connected blocks while images go through the network."""
    handles: list[RemovableHandle] = []
    points = network.connections()
    for number in range(len(network.blocks)):
        own = [point for point in points if point.stage == number]
        connected = [block for block, point in enumerate(own, 1) if _is_connected(point)]
        modules = {id(point.attention): point.attention for point in own if point.attention is not None}
        handles += _watch(number + 1, network.network, connected, list(modules.values()), sums)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _watch(
    number: int, network: nn.Module, connected: Sequence[int], modules: Sequence[nn.Module], sums: SUMS
) -> list[RemovableHandle]:
    """Note the masks of a stage. A shared module is called by the connected blocks in turn."""
    turn = iter(connected)

    def start(module: nn.Module, inputs: Any) -> None:
        nonlocal turn
        turn = iter(connected)

    def note(module: nn.Module, inputs: Any, outputs: Any) -> None:
        sums[number, next(turn)].extend(_sums(inputs[0], outputs[0]))

    return [network.register_forward_pre_hook(start), *(module.register_forward_hook(note) for module in modules)]


def _sums(before: torch.Tensor, after: torch.Tensor) -> list[torch.Tensor]:
    """For every image of a batch (N, C, H, W): what :data:`SUMS` holds."""
    f, g = before.detach().double().flatten(2), after.detach().double().flatten(2)  # (N, C, HW)
    known = f != 0
    mask = torch.where(known, g / torch.where(known, f, 1), 0)
    parts = (known.double(), mask, mask**2, torch.where(known, (1 - mask).abs(), 0))
    return list(torch.stack([part.sum(2) for part in parts], 1).cpu())


def _summary(stage: int, block: int, sums: torch.Tensor) -> BlockStatistics:
    """``sums`` is (images, 4, C). A channel without a known mask in some image is left out."""
    number, total, squares, distances = sums.unbind(1)  # (images, C) each
    kept = (number > 0).all(0)
    number, total, squares, distances = (part[:, kept] for part in (number, total, squares, distances))
    means = total / number
    within = squares / number - means**2
    channel = total.sum(0) / number.sum(0)
    whole = squares.sum(0) / number.sum(0) - channel**2
    return BlockStatistics(
        stage=stage,
        block=block,
        mean=float(total.sum() / number.sum()),
        effect=float(distances.sum() / number.sum()),
        over_channels=float(channel.std(correction=0)),
        over_images=float(means.std(0, correction=0).mean()),
        over_positions=float(within.clamp(min=0).sqrt().mean()),
        adaptive=float(whole.clamp(min=0).sqrt().mean()),
    )
