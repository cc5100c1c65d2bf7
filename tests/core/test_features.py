"""Networks of torchvision and timm by name: the library's own numbers, keys and weights."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from mmengine.registry import MODELS
from torch import nn

from ean_core.backbones.features import Features
from ean_core.checkpoint import write_checkpoint
from ean_core.errors import UserError
from ean_core.plug import output_channels
from ean_testing.references import randomize

X = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
# Channels by stride, from the libraries' documents; the last module of every stride.
TORCHVISION = {
    "resnet18": {2: ("relu", 64), 4: ("layer1", 64), 8: ("layer2", 128), 16: ("layer3", 256), 32: ("layer4", 512)},
    "regnet_y_400mf": {
        2: ("stem", 32),
        4: ("trunk_output.block1", 48),
        8: ("trunk_output.block2", 104),
        16: ("trunk_output.block3", 208),
        32: ("trunk_output.block4", 440),
    },
    "mobilenet_v3_small": {
        2: ("features.0", 16),
        4: ("features.1", 16),
        8: ("features.3", 24),
        16: ("features.8", 48),
        32: ("features.12", 576),
    },
    "convnext_tiny": {4: ("features.1", 96), 8: ("features.3", 192), 16: ("features.5", 384), 32: ("features.7", 768)},
    "densenet121": {
        2: ("features.relu0", 64),
        4: ("features.denseblock1", 256),
        8: ("features.denseblock2", 512),
        16: ("features.denseblock3", 1024),
        32: ("features.norm5", 1024),
    },
}
TIMM = ("test_resnet", "test_convnext", "test_efficientnet", "test_nfnet", "test_byobnet", "cspresnet50", "regnety_002")


def build(kind: str, name: str, **options: Any) -> Features:
    network = MODELS.build({"type": kind, "name": name, **options}).eval()
    assert isinstance(network, Features)
    return network


def run(network: nn.Module) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        return tuple(network(X))


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_maps(name: str) -> None:
    network = build("torchvision", name)
    found = {stride: pair for stride, *pair in zip(network.strides, network.out, network.out_channels, strict=True)}
    assert {stride: tuple(pair) for stride, pair in found.items()} == TORCHVISION[name]
    original = torchvision.models.get_model(name, weights=None).eval()
    missing = original.load_state_dict(network.state_dict(), strict=False)
    assert missing.unexpected_keys == []
    assert all(key.startswith(network.left_out) for key in missing.missing_keys)
    seen: dict[str, torch.Tensor] = {}
    for key in network.out:
        hook = original.get_submodule(key).register_forward_hook
        hook(lambda module, args, output, key=key: seen.update({key: output.clone()}))
    run_original = original(X)
    assert run_original.shape == (2, 1000)
    assert all(torch.equal(a, seen[key]) for a, key in zip(run(network), network.out, strict=True))


@pytest.mark.parametrize("name", TIMM)
def test_timms_maps(name: str) -> None:
    """Those of ``features_only=True``, with the keys of the whole network."""
    network = build("timm", name)
    whole = timm.create_model(name, pretrained=False)
    assert set(network.state_dict()) <= set(whole.state_dict())
    theirs = timm.create_model(name, pretrained=False, features_only=True).eval()
    state = {key.replace(".", "_"): value for key, value in network.state_dict().items()}
    theirs.load_state_dict({key: state[key.replace(".", "_")] for key in theirs.state_dict()})
    assert network.out_channels == theirs.feature_info.channels()
    assert all(torch.equal(a, b) for a, b in zip(run(network), theirs(X), strict=True))


def test_some_maps() -> None:
    whole = build("torchvision", "resnet18")
    part = build("torchvision", "resnet18", out_indices=(3, 1))
    assert part.left_out == ("layer4.", "avgpool.", "fc.")
    part.load_state_dict({k: v for k, v in whole.state_dict().items() if not k.startswith("layer4.")})
    maps = run(whole)
    assert all(torch.equal(a, b) for a, b in zip(run(part), (maps[1], maps[3]), strict=True))
    assert [output_channels(part, i, "") for i in (0, 1)] == [64, 256]
    inner = build("torchvision", "mobilenet_v3_small", out=("features.2", "features.8"))
    assert (inner.out_channels, inner.strides) == ([24, 48], [8, 16])


def test_copies() -> None:
    network = build("torchvision", "resnet18")
    for copied in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert all(torch.equal(a, b) for a, b in zip(run(network), run(copied), strict=True))


@pytest.mark.parametrize("kind", ["torchvision", "timm"])
def test_weights_load_completely_or_not_at_all(kind: str, tmp_path: Path) -> None:
    name = {"torchvision": "resnet18", "timm": "test_convnext"}[kind]
    library: Any = torchvision.models.get_model if kind == "torchvision" else timm.create_model
    original = library(name)
    randomize(original)
    file, less = tmp_path / "weights.pth", tmp_path / "less.pth"
    state = original.state_dict()
    write_checkpoint(state, file)
    write_checkpoint(dict(list(state.items())[:20]), less)
    option = {"torchvision": "weights", "timm": "pretrained"}[kind]
    init_cfg = {"type": "Pretrained", "checkpoint": str(file)}
    for options in ({option: str(file)}, {"init_cfg": init_cfg}):
        network = build(kind, name, **options)
        network.init_weights()
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    with pytest.raises(UserError, match="does not cover the backbone"):
        build(kind, name, **{option: str(less)}).init_weights()
    more = {"torchvision": "layer1.2.bn1.weight", "timm": "stages.9.blocks.0.gamma"}[kind]
    write_checkpoint({**state, more: torch.zeros(3)}, file)
    with pytest.raises(UserError, match=f"is of a larger network: .* first '{more}'"):
        build(kind, name, **{option: str(file)}).init_weights()


def test_timms_weights_are_fetched_when_a_training_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build("timm", "test_convnext", pretrained=True)
    original = timm.create_model("test_convnext")
    asked = []
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: asked.append((name, pretrained)) or original)
    network.init_weights()
    assert asked == [("test_convnext", True)]
    assert all(torch.equal(value, original.state_dict()[key]) for key, value in network.state_dict().items())


def test_output_stride_is_torchvisions_dilation() -> None:
    theirs = torchvision.models.resnet50(replace_stride_with_dilation=[False, True, True]).eval()
    ours = build("torchvision", "resnet50", output_stride=8)
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")})
    assert (ours.out, ours.strides) == (("relu", "layer1", "layer4"), [2, 4, 8])
    seen: list[torch.Tensor] = []
    theirs.layer4.register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        theirs(X)
    assert torch.equal(run(ours)[-1], seen[0])


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("torchvision", {"name": "resnet5"}, "torchvision has no network 'resnet5'; near: resnet50"),
        ("timm", {"name": "convnxt_tiny"}, "timm has no network 'convnxt_tiny'; near: convnext_tiny"),
        ("torchvision", {"name": "resnet18", "depth": 18}, r"^resnet18: .*unexpected keyword argument 'depth'"),
        ("torchvision", {"name": "resnet18", "out": ["layer9"]}, "no module 'layer9' that returns a feature map"),
        (
            "torchvision",
            {"name": "resnet18", "out": ["layer3", "layer1"]},
            "in the network's order, got layer3, layer1",
        ),
        ("torchvision", {"name": "resnet18", "out_indices": [5]}, r"out_indices \(5,\) must be one or more of 0\.\.4"),
        ("torchvision", {"name": "densenet121", "output_stride": 8}, "'features.transition2.pool' is a pooling"),
        ("torchvision", {"name": "convnext_tiny", "output_stride": 8}, "'features.4.1' has an even kernel"),
        ("torchvision", {"name": "vit_b_16"}, "vit_b_16 does not run on an image of 96 pixels"),
        ("timm", {"name": "resnet18", "out": ["layer1.0.conv2", "layer2"]}, "resnet18 is no chain of modules"),
    ],
)
def test_mistakes(kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(kind, **options)


def test_timm_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(UserError, match="not installed: pip install timm") as error:
        build("timm", "resnet18")
    assert "\n" not in str(error.value)
