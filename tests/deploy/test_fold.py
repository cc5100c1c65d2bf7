"""Norms folded by what a forward pass does: any plugged network computes what it did."""

from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ean_core.deploy import fuse
from ean_core.errors import UserError
from ean_core.plug import find_points, plug, squeeze_excite
from ean_testing.fused import difference


def lively(network: nn.Module) -> nn.Module:
    """With statistics as after a training."""
    generator = torch.Generator().manual_seed(0)
    for norm in (m for m in network.modules() if isinstance(m, _BatchNorm)):
        for value, low, high in ((norm.running_mean, -0.2, 0.2), (norm.running_var, 0.5, 1.5),
                                 (norm.weight.data, 0.5, 1.5), (norm.bias.data, -0.2, 0.2)):  # fmt: skip
            value.uniform_(low, high, generator=generator)
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(m, _BatchNorm) for m in network.modules())


# timm's norms have their activation in them; ResNet v2 has norms before convolutions, RepVGG norms alone.
@pytest.mark.parametrize(("build", "before", "after"), [
    (torchvision.models.resnet18, 20, 0),
    (torchvision.models.mobilenet_v3_small, 34, 0),
    (torchvision.models.regnet_y_400mf, 53, 0),
    (lambda: timm.create_model("mobilenetv4_conv_small"), 46, 0),
    (lambda: timm.create_model("resnetv2_50"), 49, 17),
    (lambda: timm.create_model("repvgg_a0"), 61, 17),
])  # fmt: skip
def test_same_function(build: Callable[[], nn.Module], before: int, after: int) -> None:
    network, x = lively(build()).double(), torch.randn(2, 3, 64, 64, dtype=torch.float64)
    plug(network, {"type": "SE", "reduction": 4}, find_points(network, x))
    with torch.no_grad():
        expected = network(x)
        fused = fuse(network)
        assert (norms(network), norms(fused)) == (before, after)
        assert difference(fused(x), expected) < 1e-12
        assert torch.equal(network(x), expected)
        for model in (network, fused):
            model.plugged.set_scheme("none")
        assert difference(fused(x), network(x)) < 1e-12
        assert difference(network(x), expected) > 1e-3  # the attention did something


def test_an_attention_before_the_norm_keeps_the_norm() -> None:
    network, x = squeeze_excite(lively(torchvision.models.resnet18()), 512), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        fused = fuse(network, x)
        assert norms(fused) == len(network.plugged.points) == 3
        assert difference(fused(x), network(x)) < 1e-5
    with pytest.raises(UserError, match="needs an example"):
        fuse(network)


def test_a_norm_that_is_shared_or_read_twice_stays() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.other = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            return x + self.norm(x) + self.norm(self.other(x))

    network, x = lively(Twice()), torch.randn(1, 3, 8, 8)
    plug(network, {"type": "SE", "reduction": 2}, find_points(network, x, {"type": "named", "match": ["other"]}))
    with torch.no_grad():
        fused = fuse(network)
        assert norms(fused) == 1
        assert difference(fused(x), network(x)) < 1e-6


def test_inside_a_model() -> None:
    """The rest of the model is folded too."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = torchvision.models.resnet18()
            self.backbone.avgpool = self.backbone.fc = nn.Identity()
            self.head = nn.Sequential(nn.Conv2d(512, 8, 1), nn.BatchNorm2d(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.backbone(x).unflatten(1, (512, 2, 2)))

    model, x = lively(Model()), torch.randn(1, 3, 64, 64)
    plug(model.backbone, {"type": "SGE", "groups": 4}, find_points(model.backbone, x))
    with torch.no_grad():
        fused = fuse(model)
        assert norms(fused) == 0
        assert difference(fused(x), model(x)) < 1e-5
