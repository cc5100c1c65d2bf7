"""EANResNet in MMSegmentation's own configs: trained by MMEngine's runner, and under a feature pyramid."""

import contextlib
import io
import warnings
from multiprocessing.pool import Pool
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from torch import nn

from ean_core import EANResNet
from ean_testing.fresh import run_program
from ean_testing.references import randomize

with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    warnings.simplefilter("ignore")
    import mmseg
    from mmseg.registry import MODELS
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=False)

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = Path(mmseg.__file__).parent / ".mim" / "configs"


def test_trains_from_an_empty_folder(tmp_path: Path, small_voc: Path, fresh: Pool) -> None:
    program = ROOT / "tests" / "swap" / "outside.py"
    done = fresh.apply(run_program, (program, str(small_voc)), {"folder": tmp_path})
    assert done.status == 0, done.err[-2000:]
    assert f"scheme 010-0010-110011-001 from {ROOT / 'ean_core'}" in done.out
    assert (tmp_path / "run" / "iter_2.pth").is_file()


def pyramid(backbone: dict) -> nn.Module:
    """MMSegmentation's FPN segmentor with another backbone; its pyramid has four levels."""
    cfg = Config.fromfile(CONFIGS / "_base_" / "models" / "fpn_r50.py")
    cfg.model.pretrained = None
    cfg.model.backbone = backbone
    cfg.model.neck.in_channels = [64, 128, 256, 512]  # of depth 18
    with warnings.catch_warnings(), DefaultScope.overwrite_default_scope("mmseg"):  # a runner's default_scope
        warnings.simplefilter("ignore")
        return revert_sync_batchnorm(MODELS.build(cfg.model))


@pytest.mark.parametrize("training", [False, True])
def test_plain_under_a_pyramid_is_mmsegmentations(training: bool) -> None:
    theirs = pyramid({"type": "ResNet", "depth": 18})
    ours = pyramid({"type": "ean_core.EANResNet", "depth": 18, "out_indices": (0, 1, 2, 3)})
    randomize(theirs)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 70, 50, generator=torch.Generator().manual_seed(0))
    outs = []
    for model in (theirs, ours):
        model.train(training)
        torch.manual_seed(0)  # of the head's dropout
        with torch.no_grad():
            outs.append(model(x))
    assert torch.equal(*outs)
    assert outs[0].shape == (2, 19, 18, 13)  # 1/4, rounded up


def test_the_pyramid_gets_the_attentions_stages() -> None:
    """Each level of the pyramid, again from the stages: lateral 1x1, plus the level above, then a 3x3."""
    options = {"depth": 18, "attention": {"type": "SE"}, "scheme": "10-01-11-01", "out_indices": (0, 1, 2, 3)}
    model = pyramid({"type": "ean_core.EANResNet", **options}).eval()
    randomize(model)
    alone = EANResNet(**options).eval()
    alone.load_state_dict(model.backbone.state_dict())
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = alone(x)
        assert [tuple(f.shape[1:]) for f in features] == [(64, 16, 24), (128, 8, 12), (256, 4, 6), (512, 2, 3)]
        laterals = [lateral.conv(f) for lateral, f in zip(model.neck.lateral_convs, features, strict=True)]
        for i in (2, 1, 0):
            laterals[i] = laterals[i] + laterals[i + 1].repeat_interleave(2, 2).repeat_interleave(2, 3)
        expected = [conv.conv(lateral) for conv, lateral in zip(model.neck.fpn_convs, laterals, strict=True)]
        for out, reference in zip(model.extract_feat(x), expected, strict=True):
            torch.testing.assert_close(out, reference, rtol=1e-5, atol=1e-5)
    other = {**options, "scheme": "none"}
    plain = pyramid({"type": "ean_core.EANResNet", **other}).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        assert not torch.allclose(model(x), plain(x))


@pytest.mark.parametrize(
    "name",
    [
        "pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024",
        "deeplabv3/deeplabv3_r101-d16-mg124_4xb2-40k_cityscapes-512x1024",
        "icnet/icnet_r50-d8-in1k-pre_4xb2-80k_cityscapes-832x832",
        "sem_fpn/fpn_r50_4xb2-80k_cityscapes-512x1024",
    ],
)
def test_the_type_alone_changes(name: str) -> None:
    """Every other key stays, the name of the weights included; benchmarks/swap_configs.py tries all configs."""
    model = Config.fromfile(CONFIGS / f"{name}.py").model
    found = model.backbone.get("backbone_cfg", model.backbone)
    found.type = f"ean_core.EAN{found.type}"
    with warnings.catch_warnings(), DefaultScope.overwrite_default_scope("mmseg"), torch.device("meta"):
        warnings.simplefilter("ignore")
        built = MODELS.build(model)
    network = next(module for module in built.modules() if isinstance(module, EANResNet))
    assert network.pretrained == (model.get("pretrained") or found.init_cfg.checkpoint)
    if "mg124" in name:
        assert [block.conv2.dilation for block in network.layer4.blocks] == [(1, 1), (2, 2), (4, 4)]
