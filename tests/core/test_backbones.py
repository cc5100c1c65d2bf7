"""The backbones: the paper's parameter counts, torchvision's features, state dicts, the registry, mistakes."""

from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from mmengine.registry import MODELS
from torch import nn

from ean_core import ConnectionScheme, EANCifarResNet, EANResNet
from ean_testing.fresh import run_program
from ean_testing.references import randomize
from ean_testing.tiny import CONFIGS, KINDS, assert_equal, images, tiny

SE = CONFIGS["SE"]

# (attention, sharing, parameters with the linear classifier) of the EAN paper's Table 1
R164_COUNTS = [
    (None, "stage", 1_727_284),
    ({"type": "SE", "reduction": 16}, "block", 1_929_388),
    ({"type": "SE", "reduction": 16}, "stage", 1_738_512),
    ({"type": "SGE", "groups": 4}, "block", 1_727_716),
    ({"type": "SGE", "groups": 4}, "stage", 1_727_308),
    ({"type": "DIA", "reduction": 4}, "stage", 1_946_132),
]
R50_COUNTS = [
    (None, "stage", 25_583_592),
    ({"type": "SE", "reduction": 16}, "block", 28_114_584),
    ({"type": "SE", "reduction": 16}, "stage", 26_283_992),
    ({"type": "SGE", "groups": 64}, "block", 25_585_640),
    ({"type": "SGE", "groups": 64}, "stage", 25_584_104),
    ({"type": "DIA", "reduction": 20}, "stage", 28_384_612),
]
CONV_BIASES = 26_560  # of a ResNet-50, one a channel of every convolution


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("attention", "sharing", "expected"), R164_COUNTS)
def test_resnet164_has_the_papers_parameters(attention: dict[str, Any] | None, sharing: str, expected: int) -> None:
    with torch.device("meta"):
        net = EANCifarResNet(depth=164, attention=attention, sharing=sharing)
    assert net.blocks == (18, 18, 18)
    assert net.out_channels == [64, 128, 256]
    assert count(net) + 256 * 100 + 100 == expected


@pytest.mark.parametrize(("attention", "sharing", "expected"), R50_COUNTS)
def test_resnet50_has_the_papers_parameters(attention: dict[str, Any] | None, sharing: str, expected: int) -> None:
    classifier = 2048 * 1000 + 1000
    with torch.device("meta"):
        biased = EANResNet(depth=50, attention=attention, sharing=sharing, conv_bias=True)
        plain = EANResNet(depth=50, attention=attention, sharing=sharing)
    assert biased.out_channels == [256, 512, 1024, 2048]
    assert count(biased) + classifier == expected
    assert count(plain) + classifier == expected - CONV_BIASES


@pytest.mark.parametrize("scheme", ["100-1000-000001-010", "paper/imagenet-sge", "paper/imagenet-dia"])
@pytest.mark.parametrize(("attention", "sharing", "expected"), [row for row in R50_COUNTS if row[1] == "stage"])
def test_counts_do_not_depend_on_the_scheme(
    attention: dict[str, Any] | None, sharing: str, expected: int, scheme: str
) -> None:
    with torch.device("meta"):
        net = EANResNet(depth=50, attention=attention, scheme=scheme, conv_bias=True)
    assert count(net) + 2048 * 1000 + 1000 == expected


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("options", [{"attention": None}, {"attention": SE, "scheme": "none"}], ids=["plain", "none"])
@pytest.mark.parametrize("depth", [18, 50])
def test_unconnected_resnets_are_torchvisions_bit_for_bit(depth: int, options: dict[str, Any], training: bool) -> None:
    theirs = getattr(torchvision.models, f"resnet{depth}")(weights=None)
    randomize(theirs)
    ours = EANResNet(depth=depth, out_indices=(0, 1, 2, 3), **options)
    loaded = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert loaded.missing_keys == []
    assert loaded.unexpected_keys == ["fc.weight", "fc.bias"]

    x, features = images(size=40), []
    ours.train(training)
    theirs.train(training)
    with torch.no_grad():
        y = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        for stage in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
            y = stage(y)
            features.append(y)
        assert_equal(ours(x), tuple(features))
    buffers = dict(ours.named_buffers())
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in theirs.named_buffers())


@KINDS
def test_full_is_every_block_through_its_stages_one_module(kind: str) -> None:
    net, outputs = tiny(kind).eval(), []
    with torch.no_grad():
        x = torch.relu(net.bn1(net.conv1(images())))
        for stage in (net.layer1, net.layer2, net.layer3):
            state = None
            for block in (stage.get_submodule("0"), stage.get_submodule("1"), stage.get_submodule("2")):
                f = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x)))))
                f, state = stage.attention(f, state)
                x = torch.relu(f + (block.downsample(x) if block.downsample is not None else x))
            outputs.append(x)
        assert_equal(net(images()), tuple(outputs))


def test_loading_into_an_empty_stage_names_the_attention() -> None:
    full, partial = tiny(), tiny(scheme="101-000-001", seed=1)
    extra = [f"layer2.attention.{name}" for name in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")]
    loaded = partial.load_state_dict(full.state_dict(), strict=False)
    assert loaded.missing_keys == []
    assert loaded.unexpected_keys == extra
    with pytest.raises(RuntimeError) as error:
        partial.load_state_dict(full.state_dict())
    assert all(name in str(error.value) for name in extra)

    loaded = full.load_state_dict(partial.state_dict(), strict=False)
    assert loaded.missing_keys == extra
    full.set_scheme("101-000-001")
    assert_equal(full.eval()(images()), partial.eval()(images()))


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (EANResNet, {"depth": 20}, "no depth 20: choose from 18, 34, 50, 101, 152"),
        (EANCifarResNet, {"depth": 21}, r"needs a depth of 9n \+ 2, got 21"),
        (EANCifarResNet, {"depth": 2}, r"needs a depth of 9n \+ 2, got 2"),
        (EANCifarResNet, {"depth": 21, "block": "basic"}, r"needs a depth of 6n \+ 2, got 21"),
        (EANCifarResNet, {"block": "wide"}, "'wide': choose from bottleneck, basic"),
        (EANResNet, {"sharing": "all"}, "'stage' .* or 'block', got 'all'"),
        (EANResNet, {"out_indices": (0, 4)}, r"out_indices \(0, 4\) must be one or more of 0\.\.3"),
        (EANResNet, {"out_indices": (-1,)}, r"out_indices \(-1,\) must be one or more of 0\.\.3"),
        (EANResNet, {"out_indices": ()}, r"out_indices \(\) must be one or more of 0\.\.3"),
        (EANResNet, {"frozen_stages": 5}, r"-1\.\.4, got 5"),
        (EANResNet, {"frozen_stages": -2}, r"-1\.\.4, got -2"),
        (EANResNet, {"strides": (1, 2, 2)}, "one value a stage"),
        (EANResNet, {"dilations": (1, 1, 1, 1, 1)}, "one value a stage"),
        (EANCifarResNet, {"strides": (1, 2, 2, 2)}, "one value a stage"),
        (EANResNet, {"scheme": "101"}, "expected 16 bits, 3-4-6-3 a stage"),
        (EANResNet, {"attention": None, "scheme": "101"}, "expected 16 bits, 3-4-6-3 a stage"),
        (EANResNet, {"attention": {"type": "Unknown"}}, "unknown attention 'Unknown': known are"),
    ],
    ids=str,
)
def test_mistakes_are_named(cls: type[nn.Module], options: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        cls(**{"attention": SE, **options})


def test_out_indices_choose_the_outputs() -> None:
    outputs = tiny().eval()(images())
    assert [tuple(out.shape) for out in outputs] == [(2, 16, 8, 8), (2, 32, 4, 4), (2, 64, 2, 2)]
    assert_equal(tiny(out_indices=(1,)).eval()(images()), outputs[1:2])
    assert_equal(tiny(out_indices=(0, 2)).eval()(images()), outputs[::2])


@pytest.mark.parametrize("cls", [EANResNet, EANCifarResNet])
def test_mmengine_builds_it_by_its_dotted_name(cls: type[nn.Module]) -> None:
    with torch.device("meta"):
        net = MODELS.build({"type": f"ean_core.{cls.__name__}", "attention": SE})
    assert type(net) is cls
    assert net.scheme == ConnectionScheme.full(net.blocks)


def test_mmengine_builds_it_from_any_folder_without_an_import(tmp_path: Path, fresh: Pool) -> None:
    code = (
        "import sys; from mmengine.registry import MODELS; assert 'ean_core' not in sys.modules\n"
        "net = MODELS.build(dict(type='ean_core.EANResNet', depth=18, attention=dict(type='SE'), scheme='none'))\n"
        "print(type(net).__module__, net.scheme)"
    )
    ran = fresh.apply(run_program, (code,), {"folder": tmp_path})
    assert ran.out.split("\n")[-2] == "ean_core.backbones.resnet 00-00-00-00"
