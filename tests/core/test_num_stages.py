"""A backbone without its last stages: the same function up to there, the same schemes, the same pretrained weights."""

import pytest
import torch
import torchvision
from torch import nn

from ean_core import ConnectionScheme, EANResNet
from ean_core.backbones.weights import load_backbone
from ean_core.plug import forward_schemes
from ean_testing.references import randomize

SE = {"type": "SE", "reduction": 4}
SCHEME = "10-01-11-01"


def pair(**options: object) -> tuple[EANResNet, EANResNet]:
    """A whole ResNet-18 and one of three stages with the same weights; both give the third stage's output."""
    whole = EANResNet(depth=18, out_indices=(2,), **options)
    randomize(whole, 0)
    short = EANResNet(depth=18, out_indices=(2,), num_stages=3, **options)
    short.load_state_dict({k: v for k, v in whole.state_dict().items() if not k.startswith("layer4.")})
    return whole.eval(), short.eval()


def test_three_stages_are_the_first_three_of_four() -> None:
    x = torch.randn(2, 3, 40, 33, generator=torch.Generator().manual_seed(0))
    whole, short = pair(attention=SE, scheme=SCHEME, strides=(1, 2, 1, 1))
    assert short.out_channels == [64, 128, 256]
    (expected,), (found,) = whole(x), short(x)
    assert found.shape == (2, 256, 5, 5)  # 1/8, rounded up
    assert torch.equal(found, expected)
    removed = sum(p.numel() for name, p in whole.named_parameters() if name.startswith("layer4."))
    assert removed > 8_000_000
    assert sum(p.numel() for p in short.parameters()) == sum(p.numel() for p in whole.parameters()) - removed


def test_every_parameter_of_a_short_network_gets_a_gradient() -> None:
    """What distributed training asks for; the whole network does not give it."""
    x = torch.randn(1, 3, 32, 32)
    for net, complete in zip(pair(attention=SE, scheme=SCHEME), (False, True), strict=True):
        net.train()(x)[0].sum().backward()
        assert all(p.grad is not None for p in net.parameters()) is complete


def test_schemes_keep_the_bits_of_all_stages() -> None:
    whole, short = pair(attention=SE)
    x = torch.randn(1, 3, 32, 32)
    for scheme in (SCHEME, "00-00-00-11", torch.rand(8)):
        for net in (whole, short):
            net.set_scheme(scheme)
        with torch.no_grad():
            assert torch.equal(whole(x)[0], short(x)[0])
    assert short.blocks == (2, 2, 2, 2)
    with pytest.raises(ValueError, match="expected 8 bits, 2-2-2-2 a stage"):
        short.set_scheme("10-01-11")


def test_many_schemes_at_once() -> None:
    _, short = pair(attention=SE)
    schemes = [ConnectionScheme.parse(text, short.blocks) for text in (SCHEME, "10-01-11-10", "00-01-11-01")]
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        for scheme, (found,) in forward_schemes(short, x, schemes):
            short.set_scheme(scheme)
            assert torch.equal(found, short(x)[0])


def test_whole_pretrained_weights_load_and_larger_ones_do_not() -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(weights=None).eval()
    net = EANResNet(depth=18, num_stages=3, out_indices=(2,)).eval()
    report = load_backbone(net, theirs.state_dict())
    assert report.missing == []
    assert all(key.startswith("layer4.") for key in report.unused)
    x = torch.randn(1, 3, 32, 32)
    stem = nn.Sequential(theirs.conv1, theirs.bn1, theirs.relu, theirs.maxpool)
    with torch.no_grad():
        assert torch.equal(net(x)[0], theirs.layer3(theirs.layer2(theirs.layer1(stem(x)))))
    with pytest.raises(ValueError, match="of a larger network"):
        load_backbone(net, torchvision.models.resnet34(weights=None).state_dict())
    # A whole network does not take a short one's weights.
    with pytest.raises(ValueError, match="does not cover the backbone"):
        load_backbone(EANResNet(depth=18), net.state_dict())


@pytest.mark.parametrize("options", [{"num_stages": 0}, {"num_stages": 5}, {"num_stages": 3}])
def test_mistakes(options: dict) -> None:
    message = "out_indices" if options["num_stages"] == 3 else "num_stages must lie in 1..4"
    with pytest.raises(ValueError, match=message):
        EANResNet(depth=18, **options)
