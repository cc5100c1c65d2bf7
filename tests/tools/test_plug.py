"""`tools/plug.py`: where a network can be plugged, and what it costs."""

import re

import pytest
import torch

from ean_core.analysis.plug_cost import read_network, stage_shares
from ean_core.plug import find_points


def test_points_and_cost(tool, capsys):
    tool("plug")(["torchvision:resnet18", "--attention", "SE", "--option", "reduction=4", "--scheme", "10-01-10-01",
                  "--batch", "1", "--size", "64", "--repeats", "2"])  # fmt: skip
    shown = capsys.readouterr().out
    assert "8 points, 2-2-2-2 per stage" in shown
    assert re.search(r"layer4\.1\.bn2 │ +4 │ +512 │ +32 │", shown)
    plain = 11_689_512
    added = sum(2 * c * (c // 4) + c // 4 + c for c in (64, 128, 256, 512))
    assert len(re.findall(rf"{plain + added}", shown)) == 2  # all points, and the scheme: one module per stage
    assert str(plain) in shown


@pytest.mark.parametrize("name", ["configs/cls/resnet164_ean_se_cifar100.py", "configs/seg/ean_se_voc.py"])
def test_a_config(name: str) -> None:
    """Its backbone, without its attention, has a point for each block."""
    network = read_network(name)
    points = find_points(network, torch.randn(1, 3, 32, 32))
    assert points.blocks in ((18, 18, 18), (3, 4, 12 - 6, 3))


def test_shares_are_of_one_pass() -> None:
    network, x = read_network("torchvision:resnet18"), torch.randn(1, 3, 64, 64)
    shares = stage_shares(network, find_points(network, x), x, repeats=2)
    assert len(shares) == 4
    assert all(share > 0 for share in shares)
    assert sum(shares) < 1
    assert not network.layer1[1].bn2._forward_hooks


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["torchvision:resnet1"], "Unknown model resnet1"),
        (["timm:resnet1"], "resnet1"),
        (["keras:resnet50"], "networks come from torchvision:NAME"),
        (["torchvision:vgg11", "--size", "32"], "no residual branch: name points"),
        (["torchvision:resnet18", "--match", "layer9.*"], "'layer9.*' matches no module"),
        (["torchvision:resnet18", "--match", "(", "--size", "32"], "no regular expression"),
        (["torchvision:resnet18", "--size", "0"], "must be positive"),
        (["torchvision:resnet18", "--match", "a", "--convolutions", "8"], "not by both"),
        (["torchvision:resnet18", "--attention", "XY", "--size", "32"], "unknown attention 'XY'"),
        (["torchvision:resnet18", "--attention", "SE", "--option", "reduction"], "KEY=VALUE"),
        (["torchvision:resnet18", "--attention", "SE", "--scheme", "11", "--size", "32", "--repeats", "1"], "8 bits"),
    ],
)
def test_mistakes(arguments, message, tool, capsys):
    with pytest.raises(SystemExit) as stop:
        tool("plug")(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_a_device_that_is_not_there(tool, capsys):
    with pytest.raises(SystemExit) as caught:
        tool("plug")(["torchvision:resnet18", "--device", "warp"])
    assert caught.value.code == 2
    assert "device 'warp' cannot be used here" in capsys.readouterr().err
