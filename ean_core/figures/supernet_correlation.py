"""Whether a supernet's judgement of schemes is that of stand-alone training, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ean_core.figures import BLUE


def draw_correlation(axes: Axes, found: Mapping[str, Any], metric: str, title: str = "") -> None:
    """The score in a supernet and the metric after training from scratch, a dot a scheme, with the line that fits best.

    Args:
        axes: Where to draw.
        found: The fields of :class:`ean_core.analysis.correlation.Correlation`, and the two lists ``alone`` and
            ``supernet``; more of the latter is better.
        metric: The name of what was measured after training.
        title: Above the numbers, which are the title otherwise.
    """
    x, y = np.array(found["supernet"]), np.array(found["alone"])
    axes.plot(x, y, "o", color=BLUE, markersize=6, alpha=0.75)
    ends = np.array([x.min(), x.max()])
    axes.plot(ends, np.polyval(np.polyfit(x, y, 1), ends), "--", color="#6f6f6f", linewidth=1)
    axes.set(xlabel="score in the supernet, on D_val\n(to the right: better)", ylabel=f"{metric}, trained from scratch")
    words = [title or f"{found['n']} schemes"]
    for kind in ("pearson", "kendall"):
        low, high = found[f"{kind}_interval"]
        words.append(f"{kind.capitalize()} {found[kind]:.2f} [{low:.2f}, {high:.2f}]")
    axes.set_title("\n".join(words), fontsize=9)
    axes.grid(alpha=0.3)
