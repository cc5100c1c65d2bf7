"""Attention by dotted name: any module that keeps the shape and takes its channels first."""

import sys
from types import ModuleType
from typing import Any

import pytest
import timm.layers
import torch
import torchvision
from torch import nn

from ean_core import EANResNet
from ean_core.attention import Attention, build_attention
from ean_core.deploy import fuse
from ean_core.errors import UserError
from ean_testing.references import randomize

X = torch.randn(2, 16, 5, 7, generator=torch.Generator().manual_seed(0))


class Gate(nn.Module):
    """A user's: a learned number for each channel."""

    def __init__(self, channels: int, value: float = 1.0, wrong: Any = None) -> None:
        super().__init__()
        if value < 0:
            raise ValueError("a negative value")
        self.gate, self.wrong = nn.Parameter(torch.full((channels, 1, 1), value)), wrong

    def forward(self, x: torch.Tensor) -> Any:
        return x * self.gate if self.wrong is None else self.wrong(x)


@pytest.fixture(autouse=True)
def _module(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = ModuleType("mine_attention")
    mine.Gate = Gate  # type: ignore[attr-defined]
    mine.function = len  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mine_attention", mine)


@pytest.mark.parametrize(
    ("config", "module"),
    [
        ({"type": "mine_attention.Gate", "value": 0.5}, lambda: Gate(16, 0.5)),
        ({"type": "timm.layers.EcaModule"}, lambda: timm.layers.EcaModule(16)),
        ({"type": "timm.layers.EcaModule", "kernel_size": 5, "gamma": 1}, lambda: timm.layers.EcaModule(16, 5, 1)),
        (
            {"type": "torchvision.ops.SqueezeExcitation", "squeeze_channels": 4},
            lambda: torchvision.ops.SqueezeExcitation(16, 4),
        ),
    ],
    ids=["mine", "ECA", "wide ECA", "torchvision's SE"],
)
def test_is_the_module(config: dict[str, Any], module: Any) -> None:
    built, expected = build_attention(config, 16), module()
    assert isinstance(built, Attention)
    assert not built.stateful
    randomize(expected)
    built.load_state_dict({f"module.{key}": value for key, value in expected.state_dict().items()})
    state = (torch.zeros(1),)
    y, after = built(X, state)
    assert torch.equal(y, expected(X))
    assert after is state


def test_in_a_backbone() -> None:
    """Built once a stage, trained, fused."""
    net = EANResNet(18, attention={"type": "timm.layers.EcaModule"}, scheme="10-11-00-01")
    randomize(net)
    assert sorted(key for key in net.state_dict() if "attention" in key) == [
        f"layer{i}.attention.module.conv.weight" for i in (1, 2, 4)
    ]
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    net(x)[0].sum().backward()
    assert all(p.grad is not None for key, p in net.named_parameters() if "attention" in key)
    with torch.no_grad():
        torch.testing.assert_close(fuse(net)(x)[0], net.eval()(x)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "mine_attention.Nothing"}, "unknown attention 'mine_attention.Nothing': known are A2, "),
        ({"type": "mine_attention.function"}, "unknown attention 'mine_attention.function'"),
        ({"type": "not_there.layers.Eca"}, "there is no package 'not_there' here"),
        ({"type": "mine_attention.Gate", "value": -1}, "attention mine_attention.Gate: a negative value"),
        ({"type": "mine_attention.Gate", "speed": 1}, "unexpected keyword argument 'speed'"),
        ({"type": "torchvision.ops.SqueezeExcitation"}, "missing 1 required positional argument: 'squeeze_channels'"),
    ],
)
def test_mistakes(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        build_attention(config, 16)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "got"), [(lambda x: x[:, :1], r"\(2, 1, 5, 7\)"), (lambda x: (x, x), "tuple")], ids=["shape", "tuple"]
)
def test_what_does_not_keep_the_shape(wrong: Any, got: str) -> None:
    module = build_attention({"type": "mine_attention.Gate", "wrong": wrong}, 16)
    with pytest.raises(UserError, match=rf"^Gate makes {got} of \(2, 16, 5, 7\): attention keeps the shape"):
        module(X)
