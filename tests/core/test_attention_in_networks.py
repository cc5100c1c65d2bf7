"""Every attention module by scheme: in our networks, in a plugged one, as a supernet, fused, in statistics of masks."""

import copy
from functools import cache
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from ean_core import EANCifarResNet, EANResNet
from ean_core.analysis.attention_statistics import attention_statistics
from ean_core.attention import ATTENTION
from ean_core.deploy import fuse
from ean_core.errors import UserError
from ean_core.plug import Points, find_points, plug
from ean_testing.references import randomize

SIZES = {64: 8, 128: 4, 256: 2, 512: 1}  # of the maps of a ResNet-18 for images of 32 pixels
CONFIGS: dict[str, dict[str, Any]] = {
    "SE": {"type": "SE"},
    "SGE": {"type": "SGE", "groups": 4},
    "DIA": {"type": "DIA"},
    "CBAM": {"type": "CBAM"},
    "BAM": {"type": "BAM"},
    "ECA": {"type": "ECA"},
    "GE theta-": {"type": "GE", "variant": "theta-"},
    "GE theta 2": {"type": "GE", "variant": "theta", "extent": 2},
    "GE theta+": {"type": "GE", "size": SIZES},
    "A2": {"type": "A2"},
    "SimAM": {"type": "SimAM"},
    "CoordAtt": {"type": "CoordAtt"},
    "GC": {"type": "GC"},
}
KINDS = pytest.mark.parametrize("kind", CONFIGS)
X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def small(config: dict[str, Any], scheme: str = "101-0100-000000-000", **options: Any) -> EANResNet:
    """The first two stages of a ResNet-50, three and four blocks, random everywhere."""
    config = {**config, "size": {256: 8, 512: 4}} if "size" in config else config
    net = EANResNet(50, attention=config, scheme=scheme, num_stages=2, out_indices=(1,), **options)
    randomize(net)
    return net.eval()


@cache
def torchvisions() -> tuple[nn.Module, Points]:
    model = torchvision.models.resnet18()
    model.fc = nn.Identity()
    randomize(model)
    return model.eval(), find_points(model, X)


def test_all_modules_are_here() -> None:
    assert {config["type"] for config in CONFIGS.values()} == set(ATTENTION.module_dict)


@KINDS
def test_in_our_network(kind: str) -> None:
    for sharing, modules in (("stage", 2), ("block", 3)):
        net = small(CONFIGS[kind], sharing=sharing)
        assert len([m for m in net.modules() if type(m) is ATTENTION.get(CONFIGS[kind]["type"])]) == modules
        net.train()(X)[0].square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    with torch.no_grad():
        expected = net.eval()(X)[0]
        torch.testing.assert_close(fuse(net)(X)[0], expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    rows = attention_statistics(net, [lambda: net(X)])
    assert [(row.stage, row.block) for row in rows] == [(1, 1), (1, 3), (2, 2)]
    assert all(torch.tensor([row.mean, row.effect, row.adaptive]).isfinite().all() for row in rows)


@KINDS
@torch.no_grad()
def test_in_a_supernet(kind: str) -> None:
    """Schemes come and go; gates of 0 and 1 are schemes, and those between them have a gradient."""
    net = small(CONFIGS[kind], "full")
    full = net(X)[0]
    net.set_scheme("101-0110-000000-000")
    some = net(X)[0]
    gates = torch.tensor([1.0, 0, 1, 0, 1, 1, 0] + 9 * [0.0], requires_grad=True)
    with torch.enable_grad():
        net.set_scheme(gates)
        out = net(X)[0]
        out.square().mean().backward()
    torch.testing.assert_close(out.detach(), some, rtol=1e-5, atol=1e-5 * float(some.abs().max()))
    assert gates.grad is not None
    assert gates.grad[:7].isfinite().all()
    assert (gates.grad[:7] != 0).all()
    net.set_scheme("full")
    assert torch.equal(net(X)[0], full)


@KINDS
@torch.no_grad()
def test_in_a_plugged_network(kind: str) -> None:
    """torchvision's plugged is ours with the same weights; fused it is the same, and unconnected it is as it was."""
    model, points = torchvisions()
    plain = model(X)
    scheme = "11-01-11-10"
    net: Any = plug(copy.deepcopy(model), CONFIGS[kind], points, scheme)
    randomize(net.plugged, 1)
    ours = EANResNet(18, attention=CONFIGS[kind], scheme=scheme)
    renamed = {key: value for key, value in net.state_dict().items() if key != "plugged.recipe"}
    for stage in "1234":
        start, instead = f"plugged.stage{stage}.", f"layer{stage}.attention."
        renamed = {key.replace(start, instead): value for key, value in renamed.items()}
    ours.load_state_dict(renamed)
    expected = ours.eval()(X)[0].mean((2, 3))
    close = {"rtol": 1e-4, "atol": 1e-4 * float(expected.abs().max())}
    torch.testing.assert_close(net(X), expected, **close)
    torch.testing.assert_close(fuse(net)(X), expected, **close)
    identity = plug(copy.deepcopy(model), CONFIGS[kind], points, start="identity").eval()
    torch.testing.assert_close(identity(X), plain)


@pytest.mark.parametrize("kind", ["CBAM", "BAM", "CoordAtt"])
@pytest.mark.parametrize("sharing", ["stage", "block"])
def test_recomputed_activations_update_running_statistics_once(kind: str, sharing: str) -> None:
    found = []
    for with_cp in (False, True):
        net = small(CONFIGS[kind], sharing=sharing, with_cp=with_cp).train()
        net(X)[0].square().mean().backward()
        found.append({key: value for key, value in net.named_buffers() if "attention" in key})
    assert found[0]
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())


def test_a_map_that_ge_was_not_built_for() -> None:
    """One number fits one stage; a dict has one for each, by its channels."""
    one = EANCifarResNet(29, attention={"type": "GE", "size": 8}, scheme="111-000-000").eval()
    assert one(torch.zeros(1, 3, 8, 8))[0].shape == (1, 256, 2, 2)
    for net, images in (
        (one, torch.zeros(1, 3, 16, 16)),
        (EANCifarResNet(29, attention={"type": "GE", "size": 8}).eval(), torch.zeros(1, 3, 8, 8)),
    ):
        with pytest.raises(UserError, match=r"^GE: built for maps of 8x8, got (16x16|4x4): "):
            net(images)
    with pytest.raises(UserError, match=r"^GE: size has no entry for 256 channels, only for 64, 128$"):
        EANCifarResNet(29, attention={"type": "GE", "size": {64: 8, 128: 4}})
