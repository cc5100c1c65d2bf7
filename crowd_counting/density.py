"""Density maps made from head points, at the output stride of the network, whose sum is the number of people.

A person is a Gaussian of sum one on the pixel grid. The usual way filters a whole image with a one at each head and
resizes the result; it merges heads that share a pixel, loses what reaches over the border, and changes the sum again
when it resizes. Here a point's kernel is cut at the border and renormalised, and summed into blocks of ``stride``
pixels, all along each axis on its own: a block's share of a point is a share of its row of blocks times one of its
column. The block sums are differences of the kernel's running sum, so that a stride of 8 costs a 64th of a stride of 1.

Away from borders a map equals ``scipy.ndimage.gaussian_filter(..., truncate=4)`` of the points' pixels, summed in
blocks. Sub-pixel positions are not kept: a point lies in the pixel (floor x, floor y), as in that filter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ean_core.errors import UserError

Floats = NDArray[np.float64]
CHUNK = 64  # points handled at once


def density_map(
    points: NDArray[np.floating],
    shape: tuple[int, int],
    stride: int = 8,
    sigma: float | NDArray[np.floating] = 15.0,
    truncate: float = 4.0,
) -> NDArray[np.float32]:
    """The number of people in each block of ``stride`` x ``stride`` pixels, every person spread by a Gaussian.

    Args:
        points: Heads, shape (N, 2): x to the right, y down, in pixels. The image covers [0, W] x [0, H].
        shape: Height and width of the image in pixels; they need not be divisible by ``stride``.
        stride: Side of a block in pixels.
        sigma: Standard deviation of the Gaussians in pixels: one number, or one a point, shape (N,)
            (see :func:`adaptive_sigma`).
        truncate: Kernels end at this many standard deviations, rounded to whole pixels as SciPy does.

    Returns:
        Shape (ceil(H / stride), ceil(W / stride)); the sum is N.

    Raises:
        UserError: An argument is out of range, or a point lies outside the image.
    """
    points = np.asarray(points, np.float64).reshape(-1, 2)
    height, width = shape
    sigmas: Floats = np.broadcast_to(np.asarray(sigma, np.float64), len(points))
    if height < 1 or width < 1 or stride < 1:
        raise UserError(f"need an image and a stride of at least 1 pixel, got shape {shape} and stride {stride}")
    if truncate <= 0 or not np.all((sigmas > 0) & np.isfinite(sigmas)):
        raise UserError("sigma and truncate must be positive and finite")
    outside = np.count_nonzero(~np.all((points >= 0) & (points <= (width, height)), axis=1))
    if outside:
        raise UserError(f"{outside} of {len(points)} points lie outside the image of {width}x{height} pixels")

    pixels = np.minimum(points.astype(np.int64), (width - 1, height - 1))  # x = W belongs to the last pixel
    # A kernel that covers the image is none the larger for reaching further.
    radii = np.minimum(truncate * sigmas + 0.5, max(shape)).astype(np.int64)
    density = np.zeros((-(-height // stride), -(-width // stride)))
    order = np.argsort(pixels[:, 1], kind="stable")  # a chunk's kernels then share most of their rows
    for start in range(0, len(points), CHUNK):
        index = order[start : start + CHUNK]
        (x, y), radius = pixels[index].T, radii[index]
        running = _running_sums(sigmas[index], radius)
        columns = _block_shares(running, x, width, stride)  # (n, W / stride)
        rows = _block_shares(running, y, height, stride)  # (n, H / stride)
        used = slice(max(0, int((y - radius).min())) // stride, int((y + radius).max()) // stride + 1)
        density[used] += rows[:, used].T @ columns  # the sum of the points' outer products
    return density.astype(np.float32)


def _running_sums(sigmas: Floats, radii: NDArray[np.int64]) -> Floats:
    """The kernels' sums from their left end: column j is the sum over offsets below j - R; shape (N, 2R + 2)."""
    largest = int(radii.max())
    distance = np.arange(largest + 1)
    half = np.exp(-0.5 * (distance / sigmas[:, None]) ** 2) * (distance <= radii[:, None])  # (N, R + 1)
    kernel = np.concatenate([half[:, :0:-1], half], axis=1)
    return np.concatenate([np.zeros((len(sigmas), 1)), np.cumsum(kernel, axis=1)], axis=1)


def _block_shares(running: Floats, centres: NDArray[np.int64], size: int, stride: int) -> Floats:
    """Each kernel's share of every block along an axis of ``size`` pixels, shape (N, ceil(size / stride)).

    A row sums to 1: what lies over the border is cut off, and the rest divided by its sum.
    """
    edges = np.minimum(np.arange(0, size + stride, stride), size)
    offsets = edges - centres[:, None] + running.shape[1] // 2 - 1
    sums = np.take_along_axis(running, np.clip(offsets, 0, running.shape[1] - 1), axis=1)
    return np.diff(sums, axis=1) / (sums[:, -1:] - sums[:, :1])


def neighbour_distance(points: NDArray[np.floating], k: int = 3) -> Floats:
    """Mean distance of each point to its ``k`` nearest others, shape (N,), in pixels.

    With fewer than ``k`` others it is the mean over those there are; a lone point's is infinite. Points at the same
    place are others at distance 0.

    Raises:
        UserError: ``k`` is below 1.
    """
    if k < 1:
        raise UserError(f"k, the number of neighbours, must be at least 1, got {k}")
    points = np.asarray(points, np.float64).reshape(-1, 2)
    others = min(k, len(points) - 1)
    if others < 1:
        return np.full(len(points), np.inf)
    from scipy.spatial import KDTree  # slow to import, and for adaptive sigmas alone

    distance = np.asarray(KDTree(points).query(points, k=others + 1)[0])
    return np.asarray(distance[:, 1:].mean(axis=1))  # without the nearest of all: the point itself, at 0


def adaptive_sigma(
    points: NDArray[np.floating], k: int = 3, beta: float = 0.3, floor: float = 1.0, cap: float = 15.0
) -> Floats:
    """Geometry-adaptive sigmas (Zhang et al., MCNN, CVPR 2016): ``beta`` times the distance to the ``k`` neighbours.

    In a dense crowd the distance between heads is a measure of their size. ``floor`` and ``cap`` are ours: without
    them duplicates get a sigma near 0, and people apart from others one of the size of the image.

    Returns:
        Shape (N,), in pixels.

    Raises:
        UserError: ``k``, ``beta`` or the range is out of bounds.
    """
    if not beta > 0:
        raise UserError(f"beta must be positive, got {beta}")
    return limit_sigma(beta * neighbour_distance(points, k), floor, cap)


def limit_sigma(sigma: Floats, floor: float, cap: float) -> Floats:
    """``sigma`` within [floor, cap].

    Raises:
        UserError: The range is empty or not positive.
    """
    if not 0 < floor <= cap < np.inf:
        raise UserError(f"adaptive kernels need 0 < floor <= cap, got floor {floor} and cap {cap}")
    return np.clip(sigma, floor, cap)
