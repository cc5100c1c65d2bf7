"""EANResNet is MMSegmentation's ResNet where it claims to be: dilated, deep stem, and built by its registry."""

import contextlib
import io
import warnings
from typing import Any

import pytest
import torch

from ean_core import EANResNet, EANResNetV1c
from ean_core.deploy import fuse
from ean_core.errors import UserError
from ean_testing.references import randomize

with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    warnings.simplefilter("ignore")
    from mmseg.models.backbones import ResNet, ResNetV1c, ResNetV1d
    from mmseg.registry import MODELS

DILATED: dict[str, Any] = {"strides": (1, 2, 1, 1), "dilations": (1, 1, 2, 4)}
OPTIONS: list[dict[str, Any]] = [
    {},
    DILATED,
    {**DILATED, "contract_dilation": True},
    {"strides": (1, 2, 2, 1), "dilations": (1, 1, 1, 2), "multi_grid": (1, 2, 4), "contract_dilation": True},
    {**DILATED, "avg_down": True, "base_channels": 16, "stem_channels": 32},
    {"num_stages": 3, "strides": (1, 2, 1), "dilations": (1, 1, 2), "multi_grid": range(1, 7), "out_indices": (0, 2)},
]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("deep_stem", [False, True])
@pytest.mark.parametrize("depth", [18, 50])
def test_features_are_equal_bit_for_bit(depth: int, deep_stem: bool, options: dict[str, Any], training: bool) -> None:
    theirs = ResNet(depth=depth, deep_stem=deep_stem, **options)
    randomize(theirs)
    ours = EANResNet(depth=depth, deep_stem=deep_stem, **{"out_indices": (0, 1, 2, 3), **options})
    ours.load_state_dict(theirs.state_dict())
    theirs.train(training)
    ours.train(training)
    x = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for out, expected in zip(ours(x), theirs(x), strict=True):
            assert torch.equal(out, expected)


def test_mmsegs_registry_builds_it() -> None:
    config = {"type": "ean_core.EANResNet", "depth": 18, "attention": {"type": "SE"}, "scheme": "10-01-11-01"}
    with torch.device("meta"):
        net = MODELS.build(config)
    assert type(net) is EANResNet
    assert str(net.scheme) == "10-01-11-01"


@pytest.mark.parametrize(("theirs", "ours"), [(ResNetV1c, {}), (ResNetV1d, {"avg_down": True})], ids=["V1c", "V1d"])
def test_their_named_variants(theirs: Any, ours: dict[str, Any]) -> None:
    """Every key that MMSegmentation's ResNet takes, with its default, is taken; the weights and outputs agree."""
    keys = {
        "style": "pytorch", "conv_cfg": None, "norm_cfg": {"type": "BN", "requires_grad": True}, "norm_eval": False,
        "dcn": None, "stage_with_dcn": (False,) * 4, "plugins": None, "multi_grid": None, "contract_dilation": True,
        "with_cp": False, "pretrained": None, "init_cfg": None, "frozen_stages": -1, "in_channels": 3,
        "base_channels": 64, "stem_channels": 64, "num_stages": 4, "zero_init_residual": True, **DILATED,
    }  # fmt: skip
    reference = theirs(depth=18, **keys)
    randomize(reference)
    reference.eval()
    net = EANResNetV1c(depth=18, out_indices=(0, 1, 2, 3), **keys, **ours).eval()
    net.load_state_dict(reference.state_dict())
    x = torch.randn(1, 3, 45, 45, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = reference(x)
        assert all(torch.equal(*pair) for pair in zip(net(x), expected, strict=True))
        for out, reference_out in zip(fuse(net)(x), expected, strict=True):
            torch.testing.assert_close(out, reference_out, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("depth", [18, 50])
def test_the_last_norms_begin_at_zero(depth: int) -> None:
    net, theirs = EANResNet(depth, zero_init_residual=True), ResNet(depth, zero_init_residual=True)
    net.init_weights()
    theirs.init_weights()
    zeros = {name for name, value in theirs.named_parameters() if name.endswith(".weight") and not value.any()}
    assert {name for name, value in net.named_parameters() if name.endswith(".weight") and not value.any()} == zeros
    assert len(zeros) == sum(net.blocks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style": "caffe"}, "style 'caffe'"),
        ({"conv_cfg": {"type": "ConvWS"}}, "conv_cfg"),
        ({"dcn": {"type": "DCN"}, "stage_with_dcn": (False, True, True, True)}, "dcn"),
        ({"plugins": [{"cfg": {"type": "ContextBlock"}, "position": "after_conv3"}]}, "plugins"),
        ({"multi_grid": (1, 2)}, "multi_grid"),
        ({"pretrained": "a.pth", "init_cfg": {"type": "Pretrained", "checkpoint": "b.pth"}}, "pretrained"),
    ],
)
def test_what_it_cannot_do_is_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error, torch.device("meta"):
        EANResNet(50, **options)
    assert "\n" not in str(error.value)
