"""Numbers of channels that no vector divides, and those that only the narrower of two tiles does."""

import copy
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ean_core.attention import SE, SGE, Attention
from ean_core.backbones.stage import BasicBlock, Bottleneck, Stage
from ean_core.deploy import fuse, plain
from ean_core.deploy.cpu import library, operators
from ean_core.deploy.fused_bottleneck import add_perceptron
from ean_core.deploy.fused_stage import FusedStage
from ean_core.errors import UserError
from ean_core.plug import find_points, plug
from ean_testing.fused import difference
from ean_testing.references import randomize

ODD = [1, 3, 7, 40, 72, 104]
EVEN = [48, 80, 112]
CAPABILITY = torch.backends.cpu.get_cpu_capability()
RUNS_HERE = {"AVX512": ["AVX512", "AVX2"], "AVX2": ["AVX2"]}.get(CAPABILITY, [])
has_loops = pytest.mark.skipif(
    not RUNS_HERE or shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ loops here"
)


@pytest.fixture(params=RUNS_HERE)
def architecture(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every set of instructions that this CPU has."""
    library.library.cache_clear()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: request.param)
    yield
    library.library.cache_clear()


def tensor(*shape: int) -> torch.Tensor:
    """Random, and channels-last if it has four dimensions."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def matrix(c: int, k: int) -> torch.Tensor:
    """The weight of a 1x1 convolution, in memory as (k, c)."""
    return tensor(k, c).t()[:, :, None, None]


def lively(network: nn.Module) -> nn.Module:
    """Random everywhere."""
    for i, module in enumerate(network.modules()):
        if isinstance(module, _BatchNorm | Attention):
            randomize(module, i)
    return network.eval().requires_grad_(False)


def stage(block: Any, planes: int, attention: dict[str, Any] | None) -> Stage:
    """Two blocks; the second has no downsampling."""
    torch.manual_seed(planes)
    width = planes * block.expansion
    down = nn.Sequential(nn.Conv2d(planes, width, 1, bias=False), nn.BatchNorm2d(width))
    blocks = [block(planes, planes=planes, downsample=down), block(width, planes=planes)]
    made = Stage(blocks, gates=[True, True], attention=attention, sharing="stage", channels=width)
    lively(made)
    return made


@pytest.mark.parametrize("attention", ["none", "SE", "SGE", "DIA"])
@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("planes", ODD + EVEN)
def test_stages(planes: int, block: Any, attention: str) -> None:
    config = {"SE": {"reduction": 1}, "SGE": {"groups": planes}, "DIA": {"reduction": 1}, "none": {}}[attention]
    net = stage(block, planes, None if attention == "none" else {"type": attention, **config})
    x = tensor(2, planes, 5, 3)
    expected = copy.deepcopy(net).double()(x.double())
    # SGE divides by small deviations: its unfused network, in float32, is that far from float64
    limit = max(1e-5, 2 * difference(net(x), expected))
    assert difference(FusedStage(fuse(net))(x), expected) < limit


class Plain(nn.Module):
    """A residual block of nobody's, with a norm in a Sequential."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.branch = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.last, self.norm = nn.Conv2d(width, width, 1), nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return x + self.norm(self.last(self.branch(x)))


@pytest.mark.parametrize("width", ODD)
def test_plugged_networks(width: int) -> None:
    network, x = Plain(width), tensor(2, 3, 6, 5)
    plug(network, {"type": "SE", "reduction": 1}, find_points(network.eval(), x))
    lively(network)
    fused = fuse(network)
    assert not any(isinstance(module, _BatchNorm) for module in fused.modules())
    assert difference(fused(x), network(x)) < 1e-5
    assert fused(x[:0]).shape == (0, width, 6, 5)


@has_loops
@pytest.mark.parametrize("groups", [1, 16])
@pytest.mark.parametrize("c", EVEN)
@pytest.mark.parametrize("k", EVEN)
def test_loops(k: int, c: int, groups: int, architecture: None) -> None:
    """Widths that are a multiple of 16 and of no tile, with groups that are narrower than a vector and wider."""
    u, weight, bias, z = tensor(2, k, 5, 3), matrix(c, k), tensor(c), tensor(2, c, 5, 3)
    assert difference(operators.project(u, weight, bias), plain.project(u, weight, bias)) < 1e-5
    for mask in (None, tensor(2, c), tensor(2, groups, 5, 3)):
        found = operators.expand(z.clone(memory_format=torch.channels_last), u, weight, bias, mask)
        assert difference(found, plain.expand(z, u, weight, bias, mask)) < 1e-5
    squeezed = [way.squeeze_(u.clone(), weight, bias) for way in (operators, plain)]
    assert difference(*squeezed) < 1e-5
    attention = SGE(c, groups).requires_grad_(False)
    randomize(attention)
    similar = [way.similarity_(u.clone(), weight, bias, attention) for way in (operators, plain)]
    assert difference(*similar) < 1e-5
    perceptron = SE(c, c // 3).requires_grad_(False)  # three hidden units
    add_perceptron(perceptron)
    y = tensor(5, c)
    assert difference(perceptron.perceptron(y), perceptron.mask(y, None)[0]) < 1e-5


@has_loops
@pytest.mark.parametrize("width", ODD)
def test_what_no_vector_divides_is_refused(width: int) -> None:
    """By every operator, which would read and write behind its tensors."""
    panels = [tensor(3, 32, 16), tensor(48), tensor(2, 48, 16), tensor(32)]  # 32 -> 48 -> 32
    d = width // 16
    calls = {
        "project": (tensor(2, width, 3, 5), matrix(32, width), tensor(32)),
        "project to": (tensor(2, 32, 3, 5), matrix(width, 32), tensor(width)),
        "expand_": (tensor(2, width, 3, 5), tensor(2, 16, 3, 5), matrix(width, 16), tensor(width), None),
        "squeeze_": (tensor(2, width, 3, 5), matrix(32, width), tensor(32)),
        "similarity_": (tensor(2, 16, 3, 5), matrix(width, 16), tensor(width), tensor(1), tensor(1)),
        "perceptron": (tensor(2, 32), tensor(d, 32, 16), tensor(width), tensor(2, width, 16), tensor(32)),
        "perceptron to": (tensor(2, 32), *panels[:2], tensor(d, 48, 16), tensor(width)),
        "remember": (tensor(2, 4 * width), tensor(2, width)),
    }
    for name, arguments in calls.items():
        with pytest.raises(UserError, match=r"multiples? of 16"):
            getattr(torch.ops.ean, name.split()[0]).default(*arguments)


@has_loops
@pytest.mark.parametrize("groups", [0, 3, 5, 64])
def test_groups_that_do_not_divide_the_channels_are_refused(groups: int) -> None:
    u, weight, bias, z = tensor(2, 16, 3, 5), matrix(32, 16), tensor(32), tensor(2, 32, 3, 5)
    with pytest.raises(UserError, match=f"32 channels cannot be split into {groups} groups"):
        operators.expand(z, u, weight, bias, tensor(2, groups, 3, 5))
    with pytest.raises(UserError, match=f"32 channels cannot be split into {groups} groups"):
        torch.ops.ean.similarity_.default(u, weight, bias, tensor(groups), tensor(groups))


@has_loops
def test_maps_without_a_position() -> None:
    """Nothing in, nothing out; the mean of nothing is not a number, as in torch."""
    u, weight, bias, z = tensor(1, 16, 0, 5), matrix(32, 16), tensor(32), tensor(1, 32, 0, 5)
    assert operators.project(u, weight, bias).shape == (1, 32, 0, 5)
    assert operators.expand(z, u, weight, bias, tensor(1, 4, 0, 5)).shape == (1, 32, 0, 5)
    assert operators.squeeze_(u, weight, bias).isnan().all()
    assert torch.ops.ean.similarity_.default(u, weight, bias, tensor(4), tensor(4)).shape == (1, 4, 0, 5)
