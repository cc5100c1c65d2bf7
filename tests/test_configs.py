"""Every config in configs/seg says what its name promises, and the backbone fits configs that are not ours."""

from multiprocessing.pool import Pool
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from ean_core import EANResNet
from ean_core.attention import CBAM, DIA, ECA, SE, SGE
from ean_testing.fresh import run_program
from segmentation.stack import import_mmseg

ROOT = Path(__file__).resolve().parents[1]
SEG = ROOT / "configs" / "seg"
NAMES = ["org_voc"] + [
    f"{kind}_{module}_voc" for kind in ("orgfull", "share", "ean") for module in ("se", "sge", "dia", "cbam", "eca")
]
PLUGGED = ["org_convnext_voc", "ean_se_convnext_voc"]  # see tests/plug/test_config.py
CELLS = ["att_darts_voc"]
MODULES = {"se": SE, "sge": SGE, "dia": DIA, "cbam": CBAM, "eca": ECA}
SCHEMES = {"se": "010-0010-110011-001", "sge": "100-1011-010011-011", "dia": "110-0011-110010-011"}  # of the paper
SCHEMES |= {"cbam": SCHEMES["se"], "eca": SCHEMES["se"]}  # theirs have not been searched
RESNET50 = 23_508_032  # torchvision's 25,557,032 less its classifier, 2048 x 1000 + 1000
BLOCKS = (3, 4, 6, 3)
CHANNELS = (256, 512, 1024, 2048)


def parameters_of(module: str, channels: int) -> int:
    """Weights and biases of one attention module, layer by layer."""
    if module in ("se", "cbam"):  # two linear layers, C to d and back; CBAM's 7x7 convolution of two maps, and its norm
        d = channels // 16
        return (channels * d + d) + (d * channels + channels) + (2 * 49 + 2 if module == "cbam" else 0)
    if module == "eca":
        return {256: 5, 512: 5, 1024: 5, 2048: 7}[channels]
    if module == "sge":  # a weight and a bias for each of 64 groups
        return 2 * 64
    d = channels // 20  # DIA: twice (A on the input, B on h) a layer from C to d and one from d to the four gates
    return 2 * ((channels * d + d) + (d * 4 * channels + 4 * channels))


def build(cfg: Config, part: str | None = None) -> nn.Module:
    """A model without memory for its weights."""
    import_mmseg()
    with DefaultScope.overwrite_default_scope("mmseg"), torch.device("meta"):
        return MODELS.build(cfg.model[part] if part else cfg.model)


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


def test_these_configs_and_no_others() -> None:
    assert sorted(path.stem for path in SEG.glob("*.py")) == sorted([*NAMES, *PLUGGED, *CELLS])


@pytest.mark.parametrize("name", [*NAMES, *PLUGGED, *CELLS])
def test_leaf_is_short_and_old_style(name: str) -> None:
    text = (SEG / f"{name}.py").read_text()
    assert len(text.splitlines()) <= 10
    assert text.startswith("_base_ = ")
    assert "import" not in text
    assert "read_base" not in text


@pytest.mark.parametrize("name", NAMES)
def test_backbone(name: str) -> None:
    kind, _, module = name.removesuffix("_voc").partition("_")
    backbone = build(Config.fromfile(SEG / f"{name}.py"), "backbone")
    assert isinstance(backbone, EANResNet)
    assert backbone.blocks == BLOCKS
    found = [m for m in backbone.modules() if type(m) in MODULES.values()]
    count = sum(p.numel() for p in backbone.parameters())
    if kind == "org":
        assert backbone.attention is None
        assert found == []
        assert count == RESNET50
        return
    assert {type(m) for m in found} == {MODULES[module]}
    assert str(backbone.scheme) == (SCHEMES[module] if kind == "ean" else "111-1111-111111-111")
    assert backbone.sharing == ("block" if kind == "orgfull" else "stage")
    assert len(found) == (sum(BLOCKS) if kind == "orgfull" else len(BLOCKS))
    times = BLOCKS if kind == "orgfull" else (1, 1, 1, 1)
    assert count == RESNET50 + sum(n * parameters_of(module, c) for n, c in zip(times, CHANNELS, strict=True))


def test_closed_formulas() -> None:
    """Against the counts of the paper's Table 1: 28.115 - 25.584 million for SE in every block, and so on."""
    block, stage = BLOCKS, (1, 1, 1, 1)
    for module, times, added in (
        ("se", block, 28_114_584 - 25_583_592),
        ("se", stage, 26_283_992 - 25_583_592),
        ("sge", block, 25_585_640 - 25_583_592),
        ("sge", stage, 25_584_104 - 25_583_592),
        ("dia", stage, 28_384_612 - 25_583_592),
    ):
        assert sum(n * parameters_of(module, c) for n, c in zip(times, CHANNELS, strict=True)) == added


@pytest.mark.parametrize("name", NAMES)
def test_dumped_config_builds_the_same_model(name: str, tmp_path: Path) -> None:
    cfg = Config.fromfile(SEG / f"{name}.py")
    cfg.dump(tmp_path / "dumped.py")
    again = Config.fromfile(tmp_path / "dumped.py")
    assert again.to_dict() == cfg.to_dict()
    model, copy = build(cfg), build(again)
    assert shapes(model) == shapes(copy)
    assert [stage.gates for stage in model.backbone.stages] == [stage.gates for stage in copy.backbone.stages]


@pytest.mark.parametrize("name", ["org_voc", "orgfull_dia_voc", "share_sge_voc", "ean_se_voc"])
def test_heads_learn_ten_times_as_fast(name: str) -> None:
    cfg = Config.fromfile(SEG / f"{name}.py")
    model = build(cfg)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates: dict[str, set[float]] = {}
    seen = []
    for group in optimizer.param_groups:
        assert (group["momentum"], group["weight_decay"]) == (0.9, 1e-4)
        for parameter in group["params"]:
            seen.append(names[id(parameter)])
            rates.setdefault(seen[-1].split(".")[0], set()).add(round(group["lr"], 12))
    assert sorted(seen) == sorted(names.values())  # each in one group, and in one only
    assert rates == {"backbone": {0.01}, "decode_head": {0.1}, "auxiliary_head": {0.1}}


FOREIGN = """
import sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import mmseg, torch
from mmengine.config import Config
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules

register_all_modules()
assert "ean_core" not in sys.modules
path = Path(mmseg.__file__).parent / ".mim" / "configs" / "_base_" / "models" / "fcn_r50-d8.py"
for attention, sharing, scheme in {choices}:
    cfg = Config.fromfile(path)
    cfg.model.pretrained = None  # it names weights of the network that is replaced
    cfg.model.backbone = dict(
        type="ean_core.EANResNet",
        depth=50,
        attention=dict(type=attention),
        sharing=sharing,
        scheme=scheme,
        out_indices=(0, 1, 2, 3),
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
    )
    model = MODELS.build(cfg.model).eval()
    with torch.no_grad():
        out = model(torch.randn(1, 3, 33, 47))
    backbone = model.backbone
    print(type(backbone).__module__, backbone.sharing, backbone.scheme, tuple(out.shape), bool(out.isfinite().all()))
"""


def test_backbone_in_mmsegmentations_own_config(tmp_path: Path, fresh: Pool) -> None:
    """One dict changed, in an empty folder, without ``custom_imports`` or an import of ours."""
    choices = [("SE", "stage", SCHEMES["se"]), ("SGE", "block", SCHEMES["sge"]), ("DIA", "stage", SCHEMES["dia"])]
    program = FOREIGN.replace("{choices}", repr(choices))
    ran = fresh.apply(run_program, (program,), {"folder": tmp_path})
    # 19 classes at 1/8 of 33x47, rounded up
    expected = [f"ean_core.backbones.resnet {sharing} {scheme} (1, 19, 5, 6) True" for _, sharing, scheme in choices]
    assert ran.out.splitlines()[-3:] == expected
