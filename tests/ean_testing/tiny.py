"""Small random networks and images that the backbones' tests share."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from ean_core import EANCifarResNet
from ean_testing.references import randomize

CONFIGS: dict[str, dict[str, Any]] = {
    "SE": {"type": "SE", "reduction": 4},
    "SGE": {"type": "SGE", "groups": 4},
    "DIA": {"type": "DIA", "reduction": 4},
}
KINDS = pytest.mark.parametrize("kind", CONFIGS)
BLOCKS = (3, 3, 3)


def tiny(kind: str | None = "SE", seed: int = 0, **options: Any) -> EANCifarResNet:
    """Three basic blocks a stage, 16, 32 and 64 channels, all outputs, random everywhere."""
    attention = CONFIGS[kind] if kind is not None else None
    defaults = {"depth": 20, "block": "basic", "attention": attention, "out_indices": (0, 1, 2)}
    net = EANCifarResNet(**{**defaults, **options})
    randomize(net, seed)
    return net


def images(samples: int = 2, size: int = 8, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(samples, 3, size, size, generator=generator, dtype=torch.float64).to(dtype)


def assert_equal(ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor]) -> None:
    assert [torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)] == [True] * len(theirs)
