"""Every config in configs/crowd says what its name promises."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from crowd_counting.application import choose_model
from ean_core.attention import DIA, SE, SGE
from ean_core.engine import SaveHook

CROWD = Path(__file__).resolve().parents[2] / "configs" / "crowd"
NAMES = [
    f"{kind}_sh{part}"
    for part in "ab"
    for kind in ["org", *(f"{how}_{module}" for how in ("orgfull", "share", "ean") for module in ("se", "sge", "dia"))]
]
PLUGGED = ["org_mobilenetv3_shb", "ean_se_mobilenetv3_shb"]  # see tests/plug/test_config.py
CELLS = ["att_darts_shb"]
MODULES = {"se": SE, "sge": SGE, "dia": DIA}
SCHEMES = {"se": "010-0010-110011-001", "sge": "100-1011-010011-011", "dia": "110-0011-110010-011"}
RESNET50 = 23_508_032 - 14_964_736  # torchvision's without classifier and layer4
BLOCKS, CHANNELS = (3, 4, 6), (256, 512, 1024)
CSRNET = sum(9 * a * b + b for a, b in ((1024, 512), (512, 512), (512, 512), (512, 256), (256, 128), (128, 64))) + 65


def load(name: str, **changes: object) -> Config:
    cfg = Config.fromfile(CROWD / f"{name}.py")
    cfg.merge_from_dict(changes)
    choose_model(cfg)
    return cfg


def build(cfg: Config) -> torch.nn.Module:
    with torch.device("meta"):
        return MODELS.build(cfg.model)


def parameters_of(module: str, channels: int) -> int:
    if module == "se":
        return 2 * channels * (channels // 16) + channels // 16 + channels
    if module == "sge":
        return 2 * 64
    d = channels // 20
    return 10 * channels * d + 2 * d + 8 * channels


def test_these_configs_and_no_others() -> None:
    assert sorted(path.stem for path in CROWD.glob("*.py")) == sorted([*NAMES, *PLUGGED, *CELLS])


@pytest.mark.parametrize("name", [*NAMES, *PLUGGED, *CELLS])
def test_leaf_is_short_and_old_style(name: str) -> None:
    text = (CROWD / f"{name}.py").read_text()
    assert len(text.splitlines()) <= 15
    assert text.startswith("_base_ = ")
    assert "import" not in text


@pytest.mark.parametrize("name", NAMES)
def test_model(name: str) -> None:
    kind, _, module = name[:-4].partition("_")
    cfg = load(name)
    model = build(cfg)
    assert cfg.part == name[-1].upper()
    found = [m for m in model.modules() if type(m) in MODULES.values()]
    count = sum(p.numel() for p in model.parameters())
    if kind == "org":
        assert found == []
        assert count == RESNET50 + CSRNET
        return
    assert {type(m) for m in found} == {MODULES[module]}
    assert str(model.backbone.scheme) == (SCHEMES[module] if kind == "ean" else "111-1111-111111-111")
    times = BLOCKS if kind == "orgfull" else (1, 1, 1)
    assert count == RESNET50 + CSRNET + sum(
        n * parameters_of(module, c) for n, c in zip(times, CHANNELS, strict=True)
    )  # fmt: skip


@pytest.mark.parametrize("part", "ab")
def test_c3f_is_the_default_schedule(part: str) -> None:
    cfg = load(f"ean_se_sh{part}")
    assert cfg.train_dataloader.batch_size == 6
    assert cfg.optim_wrapper == {
        "type": "OptimWrapper",
        "optimizer": {"type": "Adam", "lr": 1e-5, "weight_decay": 1e-4},
    }
    assert cfg.param_scheduler[0].type == "ExponentialLR"
    assert cfg.param_scheduler[0].gamma == 0.995
    assert cfg.model.loss == {
        "type": "crowd_counting.losses.DensityLoss", "reduction": "mean", "label_scale": 100.0, "count_weight": 0.0
    }  # fmt: skip


def test_the_best_checkpoint_is_by_validation_mae() -> None:
    """Less is better, and neither training nor validation names the test set."""
    cfg = load("ean_se_shb")
    hook = cfg.default_hooks.checkpoint
    assert (hook.metric, hook.rule, SaveHook("MAE", "less").sign) == ("MAE", "less", -1)
    assert [h.rule for h in cfg.custom_hooks if h.type.endswith("HistoryHook")] == ["less"]
    splits = [cfg[f"{name}_dataloader"].dataset.split for name in ("train", "val", "test")]
    assert splits == ["train", "val", "test"]


@pytest.mark.parametrize("name", ["org_shb", "ean_dia_sha"])
def test_dumped_config_builds_the_same_model(name: str, tmp_path: Path) -> None:
    """A resolved config, written and read, passes through unchanged."""
    cfg = load(name)
    cfg.dump(tmp_path / "dumped.py")
    again = Config.fromfile(tmp_path / "dumped.py")
    choose_model(again)
    assert again.to_dict() == cfg.to_dict()
    shapes = [{key: value.shape for key, value in build(c).state_dict().items()} for c in (cfg, again)]
    assert shapes[0] == shapes[1]
