"""Squeeze-and-Excitation behind wide convolutions: published counts, keys, what is left alone."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from ean_core.errors import UserError
from ean_core.plug import find_points, plug, plug_from, squeeze_excite, unplug


def number(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("name", "modules", "before", "after"), [
    ("resnet50", 42, 25_557_032, 28_768_296),
    ("resnet18", 13, 11_689_512, 12_230_184),
])  # fmt: skip
def test_composers_counts(name: str, modules: int, before: int, after: int) -> None:
    network = torchvision.models.get_model(name)
    keys = list(network.state_dict())
    assert number(network) == before
    assert number(squeeze_excite(network)) == after
    assert len(network.plugged.points) == modules
    assert [key for key in network.state_dict() if not key.startswith("plugged.")] == keys
    assert number(squeeze_excite(network)) == after  # nothing more
    assert list(unplug(network).state_dict()) == keys


def test_the_equation() -> None:
    """``sigmoid(W2 relu(W1 GAP(x)))`` times the convolution's output, before the norm, in plain numpy."""
    conv = nn.Conv2d(128, 128, 1)
    network = squeeze_excite(nn.Sequential(conv, nn.BatchNorm2d(128)).eval(), latent_channels=0.25)
    x = torch.randn(2, 128, 3, 5)
    seen: list[torch.Tensor] = []
    network[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(x)
    w1, w2 = (p.detach().double().numpy() for p in network.plugged.parameters())
    assert w1.shape == (32, 128)
    y = nn.functional.conv2d(x, conv.weight, conv.bias).detach().double().numpy()
    mask = 1 / (1 + np.exp(-np.maximum(y.mean((2, 3)) @ w1.T, 0) @ w2.T))
    assert np.abs(seen[0].detach().numpy() - y * mask[:, :, None, None]).max() < 1e-5


def test_what_is_left_alone() -> None:
    """Depthwise convolutions, and the layers of SE modules that are there already, timm's and torchvision's."""
    for network in (torchvision.models.efficientnet_b0(), timm.create_model("seresnet50")):
        squeeze_excite(network)
        for point in network.plugged.points:
            conv = network.get_submodule(point.name)
            assert isinstance(conv, nn.Conv2d)
            assert conv.groups == 1 or conv.groups < conv.in_channels
            assert ".se." not in point.name
            assert "conv_reduce" not in point.name
            assert not (conv.kernel_size == (1, 1) and ".fc" in point.name)
    assert len(network.plugged.points) == 42


def test_a_checkpoint_knows_its_surgery(tmp_path: Path) -> None:
    network = squeeze_excite(torchvision.models.resnet18(), min_channels=512, start="identity").eval()
    torch.nn.init.ones_(network.plugged.stage1_1.scale)
    torch.save(network.state_dict(), tmp_path / "all.pth")
    again = torchvision.models.resnet18().eval()
    again.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("plugged.")})
    plug_from(again, tmp_path / "all.pth")
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(again(x), network(x))
    squeeze_excite(again, min_channels=512)  # is there


def test_mistakes() -> None:
    with pytest.raises(UserError, match="no convolution with 4096 channels"):
        squeeze_excite(torchvision.models.resnet18(), min_channels=4096)
    network = torchvision.models.resnet18()
    plug(network, {"type": "SGE", "groups": 4}, find_points(network, torch.randn(1, 3, 64, 64)))
    with pytest.raises(UserError, match="plugged already"):
        squeeze_excite(network)
