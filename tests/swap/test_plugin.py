"""Attention as a layer of networks that are not ours equals the network of ours that has a module in every block."""

import contextlib
import io
import warnings
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from ean_core import EANResNet
from ean_core.attention import Plugin
from ean_testing.references import attend, randomize, weights_of

with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    warnings.simplefilter("ignore")
    from mmseg.registry import MODELS
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=False)

SE = {"type": "SE", "reduction": 16}
SGE = {"type": "SGE", "groups": 8}
ATTENTIONS = pytest.mark.parametrize("attention", [SE, SGE], ids=["SE", "SGE"])
X = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))


def ours(attention: dict[str, Any], state: dict[str, torch.Tensor]) -> EANResNet:
    net = EANResNet(depth=50, attention=attention, sharing="block", out_indices=(0, 1, 2, 3))
    net.load_state_dict(state)
    return net.eval()


@pytest.mark.parametrize("attention", [{"type": "SE", "reduction": 4}, {"type": "SGE", "groups": 4}], ids=["SE", "SGE"])
def test_is_the_equation(attention: dict[str, Any]) -> None:
    plugin = Plugin(8, attention)
    randomize(plugin)
    x = torch.randn(2, 8, 3, 5, generator=torch.Generator().manual_seed(0))
    expected, _ = attend(attention["type"], weights_of(plugin.module), x.double().numpy())
    torch.testing.assert_close(plugin(x).double(), torch.from_numpy(expected), rtol=1e-5, atol=1e-6)


@ATTENTIONS
def test_in_mmsegmentations_resnet(attention: dict[str, Any], capsys: pytest.CaptureFixture) -> None:
    plugin = {"cfg": {"type": "ean_core.attention.Plugin", "attention": attention}, "position": "after_conv3"}
    theirs = MODELS.build({"type": "mmseg.ResNet", "depth": 50, "plugins": [plugin]})
    randomize(theirs)
    theirs.eval()
    net = ours(attention, {key.replace(".module.", "."): value for key, value in theirs.state_dict().items()})
    with torch.no_grad():
        assert [torch.equal(a, b) for a, b in zip(net(X), theirs(X), strict=True)] == [True] * 4
    assert "Failed" not in capsys.readouterr().out


@ATTENTIONS
def test_in_torchvisions_resnet(attention: dict[str, Any]) -> None:
    theirs = torchvision.models.resnet50(weights=None)
    for block in (m for m in theirs.modules() if isinstance(m, torchvision.models.resnet.Bottleneck)):
        block.bn3 = nn.Sequential(block.bn3, Plugin(block.bn3.num_features, attention))
    randomize(theirs)
    theirs.eval()
    state = {
        key.replace(".bn3.0.", ".bn3.").replace(".bn3.1.module.", ".attention."): value
        for key, value in theirs.state_dict().items()
        if not key.startswith("fc.")
    }
    with torch.no_grad():
        assert torch.equal(theirs(X), theirs.fc(ours(attention, state)(X)[-1].mean((2, 3))))


def test_only_the_chosen_stages_and_trains() -> None:
    cfg = {"type": "ean_core.attention.Plugin", "attention": SE}
    plugin = {"cfg": cfg, "stages": (False, False, True, True), "position": "after_conv3"}
    net = MODELS.build({"type": "mmseg.ResNet", "depth": 50, "plugins": [plugin]})
    found = [name for name, module in net.named_modules() if isinstance(module, Plugin)]
    assert found == [f"layer3.{i}.attention" for i in range(6)] + [f"layer4.{i}.attention" for i in range(3)]
    net(X)[-1].square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in net.named_parameters() if "attention" in n)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"DIA hands a state .* use type='ean_core\.EANResNet'"):
        Plugin(64, {"type": "DIA"})
    with pytest.raises(ValueError, match="unknown attention 'Unknown'"):
        Plugin(64, {"type": "Unknown"})
    with pytest.raises(ValueError, match="reduction 16 leaves no hidden unit for 8 channels"):
        Plugin(8, SE)
