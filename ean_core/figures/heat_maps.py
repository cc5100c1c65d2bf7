"""Where several models look at one image, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ean_core.figures import label

PANEL = 3.2  # inches
LINE = 38  # characters of a title that fit above a panel


class HeatMap(NamedTuple):
    """One panel.

    Attributes:
        title: Above it.
        image: What the network saw, RGB uint8 (H, W, 3).
        heat: In [0, 1], (H, W), laid over it.
        region: Outlined, (H, W).
    """

    title: str
    image: NDArray[np.uint8]
    heat: NDArray[np.float32]
    region: NDArray[np.bool_] | None = None


def heat_maps(maps: Sequence[HeatMap], target: str) -> Figure:
    """The first one's image under the title ``target``, then each map over its image; write it ``tight``."""
    first = maps[0].image
    height = PANEL * min(max(first.shape[0] / first.shape[1], 0.4), 2.5)
    number = len(maps) + 1
    figure = Figure(figsize=(number * (PANEL + 0.1), height + 0.7), layout="constrained")
    panels = figure.subplots(1, number, squeeze=False)[0]
    for axes in panels:
        axes.set_axis_off()
    panels[0].imshow(first)
    panels[0].set_title(f"input\n{label(target, LINE)}", fontsize=10)
    for axes, found in zip(panels[1:], maps, strict=True):
        axes.imshow(found.image)
        axes.imshow(found.heat, cmap="jet", alpha=0.5, vmin=0, vmax=1)
        if found.region is not None and found.region.any() and not found.region.all():
            axes.contour(found.region, [0.5], colors="white", linewidths=1)
        axes.set_title("\n".join(label(line, LINE) for line in found.title.split("\n")), fontsize=10)
    return figure
