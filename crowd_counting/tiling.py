"""A density map of a large image from overlapping tiles, so that memory depends on the tile and not on the image."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import NamedTuple

import torch

from ean_core.errors import UserError


class Tile(NamedTuple):
    """Where a tile lies in an image, in pixels; tiles at the right and the lower border may be smaller than others."""

    top: int
    left: int
    height: int
    width: int


def check_tiling(tile: int, overlap: int, multiple: int) -> None:
    """Refuse a tiling that cannot work.

    Args:
        tile: Side of a tile in pixels.
        overlap: Pixels that neighbouring tiles share.
        multiple: Of what tiles must begin at, so that strided convolutions see the same grid: the backbone's stride.

    Raises:
        UserError: Tiles or overlaps are no multiples of the stride, or tiles do not advance.
    """
    if tile < multiple or tile % multiple or overlap < 0 or overlap % multiple or overlap >= tile:
        raise UserError(
            f"tile and overlap must be multiples of {multiple} pixels with 0 <= overlap < tile, got tile={tile} and "
            f"overlap={overlap}"
        )


def spans(length: int, tile: int, overlap: int, multiple: int) -> list[tuple[int, int]]:
    """Where the tiles along one side begin, and how long they are, in pixels.

    There are as few as tiles of that size with that overlap need, and they are no longer than it takes, so that they
    overlap by as little. The last one reaches the end.

    Args:
        length: Of the side.
        tile: The largest length of a tile.
        overlap: The smallest overlap.
        multiple: Every tile begins at a multiple of it; ``tile`` and ``overlap`` are multiples, too.
    """
    if length <= tile:
        return [(0, length)]
    count = -(-(length - overlap) // (tile - overlap))
    side = -(-(length + (count - 1) * overlap) // (count * multiple)) * multiple
    starts = [-(-i * (length - side) // ((count - 1) * multiple)) * multiple for i in range(count)]
    return [(start, min(side, length - start)) for start in starts]


def tiled(
    function: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    tile: int,
    overlap: int,
    stride: int,
    multiple: int | None = None,
    *,
    batch: int = 1,
    done: Callable[[int, int], None] = lambda tiles, total: None,
) -> torch.Tensor:
    """Apply a network to overlapping tiles and join what they say.

    Half of the overlap is left out at a tile's inner edges, where it lacks the surroundings; tiles that meet beyond
    that are averaged. For a network whose output depends on at most half of the overlap around each cell, the result is
    that of the whole image up to rounding. A network with global pooling (SE, SGE, DIA) sees other means in a tile than
    in the image, whatever the overlap.

    Args:
        function: Images (N, 3, t, u), t and u up to ``tile`` -> density (N, 1, ceil(t / stride), ceil(u / stride)).
        images: (N, 3, H, W), of any type that ``function`` takes.
        tile: Side of a tile in pixels.
        overlap: Pixels that neighbouring tiles share.
        stride: Pixels a cell of the density map, each way.
        multiple: Tiles begin at multiples of it; ``stride`` by default.
        batch: Tiles of one size that go through the network together.
        done: Called with the number of tiles done and of all, behind each batch.

    Returns:
        (N, 1, ceil(H / stride), ceil(W / stride)).

    Raises:
        UserError: See :func:`check_tiling`.
    """
    multiple = multiple or stride
    check_tiling(tile, overlap, multiple)
    height, width = images.shape[-2:]
    rows, columns = spans(height, tile, overlap, multiple), spans(width, tile, overlap, multiple)
    if len(rows) == len(columns) == 1:
        return function(images)
    margin = overlap // 2 // stride
    total: torch.Tensor | None = None
    count = 0
    places = [Tile(top, left, tall, wide) for top, tall in rows for left, wide in columns]
    for tiles in _batches(places, batch):
        parts = [images[..., t.top : t.top + t.height, t.left : t.left + t.width] for t in tiles]
        for place, density in zip(tiles, function(torch.cat(parts)).split(len(images)), strict=True):
            if total is None:
                total = density.new_zeros(*density.shape[:2], -(-height // stride), -(-width // stride))
                weight = total.new_zeros(total.shape[-2:])
            y = _kept(place.top // stride, density.shape[-2], total.shape[-2], margin)
            x = _kept(place.left // stride, density.shape[-1], total.shape[-1], margin)
            total[..., y, x] += density[..., _shift(y, place.top // stride), _shift(x, place.left // stride)]
            weight[y, x] += 1
        count += len(tiles)
        done(count, len(places))
    assert total is not None  # there is always a tile
    return total / weight


def _batches(tiles: list[Tile], size: int) -> list[list[Tile]]:
    """Neighbours of one size together, at most ``size`` of them."""
    groups = [list(group) for _, group in groupby(tiles, key=lambda tile: (tile.height, tile.width))]
    return [group[start : start + size] for group in groups for start in range(0, len(group), size)]


def _kept(first: int, length: int, total: int, margin: int) -> slice:
    """The cells of a tile that count: all but ``margin`` at each end that is not the image's own."""
    last = first + length
    return slice(first + margin * (first > 0), last - margin * (last < total))


def _shift(cells: slice, by: int) -> slice:
    return slice(cells.start - by, cells.stop - by)
