"""Small plugged networks that are not ours."""

from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import nn

from ean_core.attention import Attention, State
from ean_core.plug import Plugs, find_points, plug
from ean_testing.references import randomize
from ean_testing.tiny import CONFIGS, images

SE = CONFIGS["SE"]


def resnet(depth: int = 18, **options: Any) -> Any:
    """torchvision's, random everywhere."""
    model = torchvision.models.get_model(f"resnet{depth}", weights=None, **options)
    randomize(model)
    return model


def handle(model: Any) -> Plugs:
    assert isinstance(model.plugged, Plugs)
    return model.plugged


class Small(nn.Module):
    """Three residual blocks of 8 channels, one of 16; ``through`` is how a block is called."""

    def __init__(self, through: Callable[..., torch.Tensor] | None = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)) for _ in range(3))
        self.down = nn.Conv2d(8, 16, 1)
        self.last = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16))
        self.through = through
        randomize(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = torch.relu(x + (self.through(block, x) if self.through else block(x)))
        x = self.down(x)
        return x + self.last(x)


def small(attention: Any = SE, scheme: Any = "full", through: Any = None, **options: Any) -> Any:
    model = Small(through)
    plug(model, attention, find_points(Small(), images()), scheme, **options)
    randomize(handle(model), 1)
    return model


class Wide(Attention):
    """Attention with a wide convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor, state: State = None) -> tuple[torch.Tensor, State]:
        return x * self.conv(x).sigmoid(), state
