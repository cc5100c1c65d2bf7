"""EANResNet in MMPretrain's own configs, where MMPretrain is installed."""

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from torch import nn

from ean_testing.references import randomize

with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    warnings.simplefilter("ignore")
    mmpretrain = pytest.importorskip("mmpretrain")
    from mmpretrain.registry import MODELS
    from mmpretrain.structures import DataSample

CONFIGS = Path(mmpretrain.__file__).parent / ".mim" / "configs"
X = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))


def classifier(backbone: dict[str, Any]) -> nn.Module:
    """The model of MMPretrain's ResNet-50 config for ImageNet, with another backbone."""
    cfg = Config.fromfile(CONFIGS / "resnet" / "resnet50_8xb32_in1k.py")
    cfg.model.backbone = backbone
    with DefaultScope.overwrite_default_scope("mmpretrain"):  # a runner's default_scope
        return MODELS.build(cfg.model)


@pytest.mark.parametrize("training", [False, True])
def test_plain_is_mmpretrains(training: bool) -> None:
    theirs = classifier({"type": "ResNet", "depth": 50})
    ours = classifier({"type": "ean_core.EANResNet", "depth": 50})
    randomize(theirs)
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        assert torch.equal(ours.train(training)(X), theirs.train(training)(X))


def test_attention_is_trained() -> None:
    scheme = "010-0010-110011-001"
    model = classifier({"type": "ean_core.EANResNet", "attention": {"type": "SE"}, "scheme": scheme})
    model.init_weights()
    before = {name: value.clone() for name, value in model.named_parameters()}
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    losses = model.train_step({"inputs": X, "data_samples": [DataSample().set_gt_label(i) for i in (3, 7)]}, wrapper)
    assert losses["loss"].isfinite()
    attention = [name for name in before if ".attention." in name]
    assert len(attention) == 16  # four tensors in each of four stages
    assert [name for name in attention if torch.equal(before[name], model.get_parameter(name))] == []
