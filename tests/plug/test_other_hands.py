"""What other code does to a plugged network: modules replaced, several networks, checkpoints of all kinds."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from mmengine.registry import MODELS
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.nn.utils import prune

from ean_core import EANResNet, fuse
from ean_core.errors import UserError
from ean_core.plug import find_plugged, find_points, plug, plug_from, unplug
from ean_testing.fused import difference

SE = {"type": "SE", "reduction": 16}


def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def plugged(network: nn.Module | None = None, **rule: Any) -> Any:
    network = (network or torchvision.models.resnet18()).eval()
    return plug(network, SE, find_points(network, images(), rule or "residual"))


def test_a_module_that_is_replaced_is_followed() -> None:
    """As MMEngine does with the norms for several GPUs."""
    network = plugged()
    expected = network(images())
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(network).eval()
    assert torch.equal(converted(images()), expected)
    assert torch.equal(copy.deepcopy(converted)(images()), expected)
    assert len([h for m in converted.modules() for h in m._forward_hooks]) == 8
    bare = unplug(converted)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in bare.modules())


def test_two_networks_in_a_model() -> None:
    model = nn.ModuleDict({"student": plugged(), "teacher": plugged()})
    with torch.no_grad():
        fused = fuse(model)
        for name in model:
            assert difference(fused[name](images()), model[name](images())) < 1e-5
    assert find_plugged(unplug(model)) is None


def test_fuse_leaves_what_it_does_not_know() -> None:
    """Norms with activations in them, norms that do not follow their neighbour, pruned weights, hooks of others."""
    torch.manual_seed(0)
    activated = timm.create_model("mobilenetv3_small_050")
    head = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.BatchNorm2d(8))
    for network in (activated, head):
        for _ in range(3):
            network.train()(images())
    pruned, hooked = plugged(), plugged()
    prune.l1_unstructured(pruned.layer1[0].conv1, "weight", 0.5)
    hooked.layer1[0].bn1.register_forward_hook(lambda module, args, output: output * 0.5)
    for network in (activated, head, pruned, hooked, plugged(EANResNet(50, attention=None, scheme="none"))):
        network.eval()
        with torch.no_grad():
            expected, found = network(images()), fuse(network)(images())
        expected, found = (y[-1] if isinstance(y, tuple) else y for y in (expected, found))
        assert difference(found, expected) < 1e-5


def test_weights_of_the_bare_network_load_strictly() -> None:
    network, weights = plugged(), torchvision.models.resnet18().state_dict()
    own = copy.deepcopy(network.plugged.state_dict())
    assert str(network.load_state_dict(weights)) == "<All keys matched successfully>"
    assert torch.equal(network.conv1.weight, weights["conv1.weight"])
    assert all(torch.equal(value, own[key]) for key, value in network.plugged.state_dict().items())
    weights["plugged.stage1.fc1.weight"] = torch.zeros(4, 64)  # a part of what was plugged is a mistake
    with pytest.raises(RuntimeError, match=r"plugged\.stage1\.fc1\.bias"):
        network.load_state_dict(weights)


def test_weights_of_other_points_are_refused() -> None:
    other = plugged(type="named", match=r"layer\d\.\d\.bn1")
    with pytest.raises(UserError, match="plugged at other points"):
        plugged().load_state_dict(other.state_dict())


def test_formats(tmp_path: Path) -> None:
    """Torchvision's scripts write ``model``, torch's distributed checkpoints ask for every key by its name."""
    network = plugged()
    torch.save({"model": network.state_dict(), "epoch": 1}, tmp_path / "model.pth")
    again = plug_from(torchvision.models.resnet18(), tmp_path / "model.pth")
    assert torch.equal(again.plugged.stage1.fc1.weight, network.plugged.stage1.fc1.weight)
    assert set(get_model_state_dict(network)) == set(network.state_dict())


def test_a_file_chooses_no_code(tmp_path: Path) -> None:
    network = plugged()
    state = network.state_dict()
    recipe = json.loads(bytes(state["plugged.recipe"].tolist())) | {"of a later version": 1}
    state["plugged.recipe"] = torch.tensor(list(json.dumps(recipe).encode()), dtype=torch.uint8)
    torch.save(state, tmp_path / "later.pth")
    plug_from(torchvision.models.resnet18(), tmp_path / "later.pth")
    recipe["attention"]["type"] = "this.is.imported"
    state["plugged.recipe"] = torch.tensor(list(json.dumps(recipe).encode()), dtype=torch.uint8)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"'this\.is\.imported', which would be imported"):
        plug_from(torchvision.models.resnet18(), tmp_path / "other.pth")


def test_some_of_the_points() -> None:
    network = torchvision.models.resnet18()
    points = find_points(network, images())[3:]
    assert points.blocks == (1, 2, 2)
    assert points.points[0].name == "layer2.1.bn2"
    assert points.example == (2, 3, 64, 64)
    plug(network, SE, points, "1-10-01")


@pytest.mark.parametrize("arguments", [("SE", None), (None, SE), (SE, ["layer1.0.bn2"]), (SE, "residual")])
def test_arguments_of_other_kinds(arguments: tuple[Any, Any]) -> None:
    network = torchvision.models.resnet18()
    points = find_points(network, images())
    attention, given = arguments
    with pytest.raises(UserError, match=r"takes a network and what find_points returned|attention is a dict"):
        plug(network, attention, points if given is None else given)
    with pytest.raises(UserError, match="find_points takes a network, got resnet18"):
        find_points(torchvision.models.resnet18, images())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        ({}, {"attention": "SE"}, "attention is a dict"),
        ({"output_stride": 0}, {}, "output_stride is a number such as 8, got 0"),
        ({}, {"size": (64, 64)}, "size is the side of a square image"),
        ({"out": "layer5"}, {}, "no module 'layer5'"),
    ],
)
def test_configs_of_other_kinds(network: dict[str, Any], options: dict[str, Any], message: str) -> None:
    config = {"type": "ean_core.Plugged", "network": {"type": "torchvision", "name": "resnet18", **network}}
    with pytest.raises(UserError, match=message):
        MODELS.build({**config, "attention": SE, **options})
