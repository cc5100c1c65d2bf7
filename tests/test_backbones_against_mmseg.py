"""EANResNet is MMSegmentation's ResNet where it claims to be: dilated, deep stem, and built by its registry."""

import contextlib
import io
import warnings
from typing import Any

import pytest
import torch

from ean_core import EANResNet
from ean_testing.references import randomize

with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    warnings.simplefilter("ignore")
    from mmseg.models.backbones import ResNet, ResNetV1c
    from mmseg.registry import MODELS

DILATED: dict[str, Any] = {"strides": (1, 2, 1, 1), "dilations": (1, 1, 2, 4)}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("options", [{}, DILATED, {**DILATED, "contract_dilation": True}], ids=str)
@pytest.mark.parametrize("deep_stem", [False, True])
@pytest.mark.parametrize("depth", [18, 50])
def test_features_are_equal_bit_for_bit(depth: int, deep_stem: bool, options: dict[str, Any], training: bool) -> None:
    theirs = (ResNetV1c if deep_stem else ResNet)(depth=depth, **options)
    randomize(theirs)
    ours = EANResNet(depth=depth, deep_stem=deep_stem, out_indices=(0, 1, 2, 3), **options)
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
