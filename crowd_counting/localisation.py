"""Where the people are: points from a density map's peaks, and how many of them are right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
SIGMAS = (4.0, 8.0)
"""Distances in pixels within which a point can be right."""


def peaks(density: Floats, stride: int) -> NDArray[np.float64]:
    """The highest local maxima of a density map, as many as it counts people, or all there are.

    A local maximum is a cell above 0 that none of its eight neighbours exceeds; of equal neighbours the first one
    counts. Its place within the cell is that of a Gaussian through it and its two neighbours, along each axis.

    Args:
        density: People in each cell, (h, w).
        stride: Pixels a cell, each way.

    Returns:
        (n, 2), x and y in pixels, the highest first.
    """
    rows, columns = density.shape
    framed = np.pad(np.asarray(density, np.float64), 1, constant_values=-np.inf)
    centre = framed[1:-1, 1:-1]
    highest = centre > 0
    for down in (0, 1, 2):
        for right in (0, 1, 2):
            if (down, right) != (1, 1):
                neighbour = framed[down : down + rows, right : right + columns]
                earlier = (down, right) < (1, 1)
                highest &= centre > neighbour if earlier else centre >= neighbour
    y, x = np.nonzero(highest)
    people = max(0, round(float(np.nan_to_num(centre).sum())))
    order = np.argsort(-centre[y, x], kind="stable")[:people]
    y, x = y[order], x[order]
    down_by = _between(framed[y, x + 1], framed[y + 1, x + 1], framed[y + 2, x + 1])
    right_by = _between(framed[y + 1, x], framed[y + 1, x + 1], framed[y + 1, x + 2])
    return np.stack([(x + 0.5 + right_by) * stride, (y + 0.5 + down_by) * stride], 1)


def _between(before: Floats, peak: Floats, after: Floats) -> Floats:
    """Where a Gaussian through three values has its maximum, in cells from the middle one, in [-0.5, 0.5]."""
    known = (before > 0) & (after > 0)  # at the border, and beside empty cells, the middle is all that is known
    left, middle, right = (np.log(np.where(known, value, 1.0)) for value in (before, peak, after))
    curve = left - 2 * middle + right
    offset = np.where(curve < 0, (left - right) / np.where(curve < 0, 2 * curve, 1.0), 0.0)
    return np.clip(offset, -0.5, 0.5)


def count_matches(found: Floats, heads: Floats, sigma: float) -> int:
    """The most pairs of a found point and a head that lie at most ``sigma`` pixels apart, each used once."""
    from scipy.sparse import csr_matrix  # slow to import
    from scipy.sparse.csgraph import maximum_bipartite_matching
    from scipy.spatial import KDTree

    if not len(found) or not len(heads):
        return 0
    near: Any = KDTree(heads).query_ball_point(found, sigma)  # a list of indices for each point
    ends = np.cumsum([0, *(len(some) for some in near)])
    indices = np.concatenate([np.asarray(some, np.int32) for some in near])
    graph = csr_matrix((np.ones(len(indices), np.int8), indices, ends), shape=(len(found), len(heads)))
    return int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())


def matches(density: Floats, heads: Floats, stride: int) -> tuple[int, ...]:
    """How many points are found in an image, and how many of them are right within each of ``SIGMAS``."""
    found = peaks(density, stride)
    return (len(found), *(count_matches(found, heads, sigma) for sigma in SIGMAS))


def localisation(counts: Sequence[tuple[int, ...]], people: Sequence[int]) -> dict[str, dict[str, float | None]]:
    """F1, precision and recall over all images together (Wang et al., NWPU-Crowd, TPAMI 2020, arXiv 2001.03360).

    With the right points ``TP`` of all images, precision is ``TP`` over the points found, recall ``TP`` over the heads,
    F1 their harmonic mean. NWPU-Crowd allows a head half the shorter side of its box, or half the box's diagonal; data
    of points have no boxes, so the distances are 4 and 8 pixels for every head, as others report for ShanghaiTech.

    Args:
        counts: :func:`matches` of each image.
        people: The heads of each image.

    Returns:
        By distance; ``None`` where there is nothing to divide by.
    """
    table: dict[str, dict[str, float | None]] = {}
    found, heads = sum(count[0] for count in counts), sum(people)
    for index, sigma in enumerate(SIGMAS, 1):
        right = sum(count[index] for count in counts)
        table[f"within {sigma:g} px"] = {
            "F1": 2 * right / (found + heads) if found + heads else None,
            "precision": right / found if found else None,
            "recall": right / heads if heads else None,
        }
    return table
