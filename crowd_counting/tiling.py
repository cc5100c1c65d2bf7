"""A density map of a large image from overlapping tiles, so that memory depends on the tile and not on the image."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ean_core.errors import UserError

DROPPED = 3 / 8  # of the overlap, at a tile's inner edges


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


def starts(length: int, tile: int, overlap: int, multiple: int) -> list[int]:
    """Where the tiles along one side of ``length`` pixels begin; the last one reaches the end, and may be shorter."""
    if length <= tile:
        return [0]
    last = -(-(length - tile) // multiple) * multiple
    return [*range(0, last, tile - overlap), last]


def tiled(
    function: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    tile: int,
    overlap: int,
    stride: int,
    multiple: int | None = None,
) -> torch.Tensor:
    """Apply a network to overlapping tiles and average what they say.

    The outermost three eighths of the overlap are left out at a tile's inner edges, where it lacks the surroundings; of
    the rest, tiles that meet are averaged. For a network whose output depends on at most this many pixels around each
    cell, the result is that of the whole image up to rounding. A network with global pooling (SE, SGE, DIA) sees other
    means in a tile than in the image, whatever the overlap.

    Args:
        function: Images (N, 3, t, u), t and u up to ``tile`` -> density (N, 1, ceil(t / stride), ceil(u / stride)).
        images: (N, 3, H, W), of any type that ``function`` takes.
        tile: Side of a tile in pixels.
        overlap: Pixels that neighbouring tiles share.
        stride: Pixels a cell of the density map, each way.
        multiple: Tiles begin at multiples of it; ``stride`` by default.

    Returns:
        (N, 1, ceil(H / stride), ceil(W / stride)).

    Raises:
        UserError: See :func:`check_tiling`.
    """
    multiple = multiple or stride
    check_tiling(tile, overlap, multiple)
    height, width = images.shape[-2:]
    rows, columns = starts(height, tile, overlap, multiple), starts(width, tile, overlap, multiple)
    if len(rows) == len(columns) == 1:
        return function(images)
    margin = int(overlap * DROPPED) // stride
    total: torch.Tensor | None = None
    for top in rows:
        for left in columns:
            density = function(images[..., top : top + tile, left : left + tile])
            if total is None:
                total = density.new_zeros(*density.shape[:2], -(-height // stride), -(-width // stride))
                weight = total.new_zeros(total.shape[-2:])
            y = _kept(top // stride, density.shape[-2], total.shape[-2], margin)
            x = _kept(left // stride, density.shape[-1], total.shape[-1], margin)
            inner = density[..., _shift(y, top // stride), _shift(x, left // stride)]
            total[..., y, x] += inner
            weight[y, x] += 1
    assert total is not None  # there is always a tile
    return total / weight


def _kept(first: int, length: int, total: int, margin: int) -> slice:
    """The cells of a tile that count: all but ``margin`` at each end that is not the image's own."""
    last = first + length
    return slice(first + margin * (first > 0), last - margin * (last < total))


def _shift(cells: slice, by: int) -> slice:
    return slice(cells.start - by, cells.stop - by)
