"""Weights as others publish them: networks in wrappers, several networks in one file, options beside them."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ean_core import EANResNet
from ean_core.backbones.weights import convert_state_dict, load_backbone, load_pretrained
from ean_core.checkpoint import read_checkpoint, write_checkpoint

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def taken() -> State:
    """The network that a file is meant for."""
    torch.manual_seed(0)
    return EANResNet(18).state_dict()


@pytest.fixture(scope="module")
def other() -> State:
    """The second network of a file: the same names, other values."""
    torch.manual_seed(1)
    return EANResNet(18).state_dict()


def under(prefix: str, state: State, **heads: int) -> State:
    """The names as a wrapper changes them, and its heads' tensors."""
    return {prefix + key: value for key, value in {**state, **dict.fromkeys(heads, torch.ones(2, 2))}.items()}


def published(layout: str, net: State, second: State) -> dict[str, Any]:
    """What a training of that kind saves."""
    options = argparse.Namespace(arch="resnet18", lr=0.03, milestones=[120, 160])
    head = {"fc.weight": torch.ones(2, 512), "fc.bias": torch.ones(2)}
    moco_head = {f"fc.{i}.{name}": torch.ones(2) for i in (0, 2) for name in ("weight", "bias")}
    files: dict[str, dict[str, Any]] = {
        # main_moco.py: epoch, arch, the whole MoCo in DistributedDataParallel, optimizer
        "moco v1": {
            "epoch": 200,
            "arch": "resnet18",
            "state_dict": {
                **under("module.encoder_q.", net | head),
                **under("module.encoder_k.", second | head),
                "module.queue": torch.ones(128, 4),
                "module.queue_ptr": torch.zeros(1, dtype=torch.long),
            },
            "optimizer": {"state": {}, "param_groups": []},
        },
        "moco v2, released": {"epoch": 800, "state_dict": under("module.encoder_q.", net | moco_head)},
        "moco v3": {
            "epoch": 300,
            "state_dict": {
                **under("module.base_encoder.", net | moco_head),
                **under("module.momentum_encoder.", second | moco_head),
                "module.predictor.0.weight": torch.ones(2, 2),
            },
        },
        # main_dino.py: both networks in DistributedDataParallel, and the Namespace of its options
        "dino": {
            "student": {**under("module.backbone.", second), "module.head.mlp.0.weight": torch.ones(2, 2)},
            "teacher": {**under("module.backbone.", net), "module.head.mlp.0.weight": torch.ones(2, 2)},
            "epoch": 100,
            "args": options,
        },
        "dino, released": dict(net),
        # timm's CheckpointSaver
        "ema alone": {"epoch": 9, "arch": "resnet18", "args": options, "state_dict_ema": net | head},
        "ema beside": {"state_dict": net | head, "state_dict_ema": second | head, "args": options, "metric": 76.0},
        "model_ema": {"model_ema": under("module.", net | head)},
        "mmengine's ema": {
            "state_dict": {**under("backbone.", net), "head.fc.weight": torch.ones(2, 512)},
            "ema_state_dict": {**under("module.backbone.", second), "steps": torch.tensor(3)},
        },
        "simsiam": {"state_dict": under("module.encoder.", net | moco_head)},
        "detr": {"model": {**under("backbone.0.body.", net), "class_embed.weight": torch.ones(2, 2)}},
    }
    return files[layout]


@pytest.mark.parametrize(
    "layout",
    [
        "moco v1", "moco v2, released", "moco v3", "dino", "dino, released", "ema alone", "ema beside", "model_ema",
        "mmengine's ema", "simsiam", "detr",
    ],
)  # fmt: skip
def test_every_layout_loads_its_network(layout: str, tmp_path: Path, taken: State, other: State) -> None:
    torch.save(published(layout, taken, other), tmp_path / "file.pth")
    backbone = EANResNet(18)
    report = load_pretrained(backbone, str(tmp_path / "file.pth"))
    assert (report.unused, report.missing) == ([], [])
    assert all(torch.equal(value, taken[key]) for key, value in backbone.state_dict().items())


def test_the_other_network_by_its_prefix(taken: State, other: State) -> None:
    source = published("moco v1", taken, other)
    for prefix in ("module.encoder_k.", "encoder_k", "state_dict.module.encoder_k"):
        found = convert_state_dict(source, prefix)
        assert all(torch.equal(found[key], value) for key, value in other.items())
    with pytest.raises(ValueError, match=r"no network under 'encoder'.*module\.encoder_q.*module\.encoder_k"):
        convert_state_dict(source, "encoder")


def test_several_networks_are_named(taken: State, other: State) -> None:
    source = {"state_dict": under("online.", taken) | under("target.", other)}
    with pytest.raises(ValueError, match=r"2 networks.*state_dict\.online.*state_dict\.target") as error:
        convert_state_dict(source)
    assert "\n" not in str(error.value)


def test_weights_that_are_not_finite_are_named(taken: State) -> None:
    broken = {key: value.clone() for key, value in taken.items()}
    broken["layer2.0.bn1.running_var"][3] = float("inf")
    broken["layer3.1.conv2.weight"][0, 0, 0, 0] = float("nan")
    backbone = EANResNet(18)
    before = backbone.conv1.weight.clone()
    with pytest.raises(ValueError, match=r"not finite: 2 of its tensors, first 'layer2.0.bn1.running_var'"):
        load_backbone(backbone, broken)
    assert torch.equal(backbone.conv1.weight, before)


def test_a_deep_stem_is_named() -> None:
    with pytest.raises(ValueError, match=r"deep stem.*EANResNetV1c"):
        load_backbone(EANResNet(18), EANResNet(18, deep_stem=True).state_dict())
    with pytest.raises(ValueError, match=r"without a deep stem.*EANResNet"):
        load_backbone(EANResNet(18, deep_stem=True), EANResNet(18).state_dict())


def test_options_are_left_out(tmp_path: Path) -> None:
    """A Namespace is plain values for a training script; here nobody needs them."""
    torch.save({"args": argparse.Namespace(lr=0.1), "more": [argparse.Namespace()]}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth") == {"args": None, "more": [None]}


@pytest.mark.parametrize("name", ["open-mmlab://resnet18_v1c", "https://download.openmmlab.com/x/resnet18_v1c.pth"])
def test_addresses_of_mmsegmentations_configs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloaded with ``weights_only``, as every file is read."""
    theirs = EANResNet(18, deep_stem=True).state_dict()
    asked = []

    def load_url(url: str, **options: Any) -> Any:
        asked.append((url, options["weights_only"]))
        return {"state_dict": theirs, "meta": {}}

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", load_url)
    backbone = EANResNet(18, deep_stem=True, pretrained=name)
    backbone.init_weights()
    assert torch.equal(backbone.stem[0].weight, theirs["stem.0.weight"])
    assert asked[0][0].startswith("https://")
    assert "resnet18_v1c" in asked[0][0]
    assert asked[0][1] is True
    with pytest.raises(ValueError, match="no pretrained weights named 'open-mmlab://resnet19_v1c'"):
        load_pretrained(backbone, "open-mmlab://resnet19_v1c")


def test_the_prefix_of_a_config(tmp_path: Path, taken: State, other: State) -> None:
    write_checkpoint({"state_dict": under("a.", taken) | under("b.", other)}, tmp_path / "a.pth")
    init = {"type": "Pretrained", "checkpoint": str(tmp_path / "a.pth"), "prefix": "b."}
    backbone = EANResNet(18, init_cfg=init)
    backbone.init_weights()
    assert torch.equal(backbone.conv1.weight, other["conv1.weight"])


def test_networks_of_other_names_keep_them() -> None:
    """A network that is no ResNet by its names is read as before."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.ModuleDict({"layer1": nn.Conv2d(3, 4, 1)})

    source = Small()
    network = Small()
    load_backbone(network, {"state_dict": under("module.backbone.", source.state_dict())})
    assert torch.equal(network.encoder["layer1"].weight, source.encoder["layer1"].weight)
