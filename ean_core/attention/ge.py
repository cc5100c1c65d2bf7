"""Gather-Excite (Hu et al., NeurIPS 2018, arXiv 1810.12348).

The defaults are the form that Att-DARTS uses: the perceptron has no biases, and no ReLU stands between the gather's
batch norm and it. The released theta+ has both: ``relu=True, bias=True``. Deviations: a sample's only value a channel,
which a global gather leaves of a batch of one, has no variance, so in training it is normalised by the running
statistics; and windows of ``theta-`` that reach over the border average over what lies inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from ean_core.attention.base import ATTENTION, Attention, State
from ean_core.attention.layers import Layers, hidden_width
from ean_core.errors import UserError

VARIANTS = ("theta-", "theta", "theta+")
EXTENTS = (0, 2, 4, 8)
Size = int | Sequence[int]


class WholeMap(nn.Conv2d):
    """A depthwise convolution as large as the map: one weighted sum for each channel, of which torch's is slow.

    Args:
        channels: ``C``.
        size: Height and width of the map.
    """

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__(channels, channels, size, groups=channels, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, 1, 1)."""
        if not torch.jit.is_tracing() and tuple(x.shape[2:]) != self.kernel_size:
            built, got = ("x".join(map(str, size)) for size in (self.kernel_size, x.shape[2:]))
            raise UserError(f"GE: built for maps of {built}, got {got}: its kernel is as large as the map")
        return torch.einsum("nchw,chw->nc", x, self.weight[:, 0])[:, :, None, None]


@ATTENTION.register_module()
class GE(Attention):
    """A gather ``G`` over an extent ``e``, then ``x' = x sigmoid(P(G(x)))``, brought to x's size by nearest neighbours.

    ``G`` is, by variant:

    - ``"theta-"``: the mean over windows of ``2 e - 1`` at stride ``e``, for ``e = 0`` over the whole map. It has no
      parameters.
    - ``"theta"``: ``log2 e`` depthwise 3x3 convolutions of stride 2, without biases, each with its batch norm, and with
      a ReLU between them: ``11 C log2 e`` parameters. For ``e = 0`` one depthwise convolution as large as the map, and
      its batch norm: ``H W C + 2 C``.
    - ``"theta+"``: as ``"theta"``, and ``P`` is Linear(C, d) - ReLU - Linear(d, C) with ``d = channels // reduction``:
      ``2 C d`` more, ``d + C`` more with biases. In the other variants ``P`` is nothing.

    Args:
        channels: ``C``.
        variant: ``"theta-"``, ``"theta"`` or ``"theta+"``.
        extent: ``e``: 2, 4 or 8; 0: the whole map.
        size: The map's height and width, or one number for both, where the kernel depends on it: with ``extent=0``
            in ``"theta"`` and ``"theta+"``, and unused otherwise. Or a dict from channels to that, for a network whose
            stages have maps of different sizes: ``{256: 56, 512: 28, 1024: 14, 2048: 7}``.
        reduction: The ratio between ``C`` and the width of the perceptron.
        relu: Whether ``"theta+"`` has a ReLU after the gather.
        bias: Whether the perceptron is biased.

    Raises:
        UserError: Options that do not fit, a missing size; in a forward pass a map of another size.
    """

    def __init__(
        self,
        channels: int,
        *,
        variant: str = "theta+",
        extent: int = 0,
        size: Size | Mapping[int | str, Size] | None = None,
        reduction: int = 16,
        relu: bool = False,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if variant not in VARIANTS or extent not in EXTENTS:
            raise UserError(f"GE: variant is one of {VARIANTS} and extent of {EXTENTS}, got {variant!r} and {extent!r}")
        self.extent = extent
        self.gather: Layers | None = None
        self.perceptron: nn.Sequential | None = None
        if variant == "theta-":
            return
        if extent == 0:
            self.gather = Layers(WholeMap(channels, _size(size, channels, variant)), nn.BatchNorm2d(channels))
        else:
            layers: list[nn.Module] = []
            for _ in range(extent.bit_length() - 1):
                layers.append(nn.Conv2d(channels, channels, 3, 2, 1, groups=channels, bias=False))
                layers += [nn.BatchNorm2d(channels), nn.ReLU()]
            self.gather = Layers(*layers[:-1])
        if variant == "theta+":
            hidden = hidden_width("GE", channels, reduction)
            first, second = nn.Conv2d(channels, hidden, 1, bias=bias), nn.Conv2d(hidden, channels, 1, bias=bias)
            self.perceptron = nn.Sequential(nn.ReLU() if relu else nn.Identity(), first, nn.ReLU(), second)

    def forward(self, x: torch.Tensor, state: State = None) -> tuple[torch.Tensor, State]:
        """Recalibrate ``x`` (N, C, H, W)."""
        if self.gather is not None:
            y = self.gather(x)
        elif self.extent == 0:
            y = x.mean((2, 3), keepdim=True)
        else:
            e = self.extent
            y = F.avg_pool2d(x, 2 * e - 1, e, e - 1, count_include_pad=False)
        if self.perceptron is not None:
            y = self.perceptron(y)
        y = torch.sigmoid(y)
        return x * (y if self.extent == 0 else F.interpolate(y, x.shape[2:])), state


def _size(size: Size | Mapping[int | str, Size] | None, channels: int, variant: str) -> tuple[int, int]:
    """Height and width of the map of a stage with so many channels."""
    if isinstance(size, Mapping):  # its keys are texts once it has been in a JSON file
        found = size.get(channels, size.get(str(channels)))
        if found is None:
            raise UserError(f"GE: size has no entry for {channels} channels, only for {', '.join(map(str, size))}")
        size = found
    pair = (size, size) if isinstance(size, int) else tuple(size or ())
    if len(pair) != 2 or any(not isinstance(n, int) or n < 1 for n in pair):
        raise UserError(
            f"GE: {variant} over the whole map needs size, the map's height and width, got {size!r}: "
            "or use extent=2, 4 or 8, or variant='theta-'"
        )
    return pair
