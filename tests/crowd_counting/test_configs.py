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
CSRNETS = [f"csrnet{with_}_sh{part}" for with_ in ("", "_se") for part in "ab"]
OTHERS = [f"{kind}_{data}" for kind in ("org", "ean_se") for data in ("ucf_qnrf", "ucf_cc_50", "nwpu", "jhu")]
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
    assert sorted(path.stem for path in CROWD.glob("*.py")) == sorted([*NAMES, *PLUGGED, *CELLS, *CSRNETS, *OTHERS])


@pytest.mark.parametrize("name", [*NAMES, *PLUGGED, *CELLS, *CSRNETS, *OTHERS])
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


@pytest.mark.parametrize("name", OTHERS)
def test_other_data_sets(name: str) -> None:
    cfg = load(name)
    kind, data = name.split("_", 1) if name.startswith("org") else ("ean_se", name.removeprefix("ean_se_"))
    assert cfg.part == (f"{data}-1" if data == "ucf_cc_50" else data)
    assert cfg.get("longest") == (None if data == "ucf_cc_50" else 2048)
    assert cfg.train_dataloader.dataset.density.type == "adaptive"
    model = build(cfg)
    assert str(model.backbone.scheme) == (SCHEMES["se"] if kind == "ean_se" else "000-0000-000000-000")
    assert any(isinstance(m, SE) for m in model.modules()) is (kind == "ean_se")


VGG = sum(9 * a * b + b for a, b in (
    (3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256), (256, 512), (512, 512), (512, 512),
))  # fmt: skip


@pytest.mark.parametrize("name", CSRNETS)
def test_csrnet(name: str) -> None:
    """16,263,489 parameters, as in the paper's 16.26 M; trained as its code does."""
    cfg = load(name)
    model = build(cfg)
    head = CSRNET - 9 * (1024 - 512) * 512  # 512 channels come in
    attention = sum(parameters_of("se", channels) + 1 for channels in (64, 128, 256, 512)) * ("_se" in name)
    assert sum(p.numel() for p in model.parameters()) == VGG + head + attention
    assert VGG + head == 16_263_489
    assert model.backbone.plugged.blocks == (2, 2, 3, 3)
    assert (cfg.optim_wrapper.optimizer.type, cfg.optim_wrapper.optimizer.lr) == ("SGD", 1e-7)
    assert (cfg.model.loss.reduction, cfg.model.head.activation) == ("sum", "none")


@pytest.mark.parametrize("name", ["csrnet_shb", "csrnet_se_shb"])
def test_torchvisions_vgg16_loads(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state dict with torchvision's keys, of which the front end's are used; attention does not change the output."""
    from torchvision.models import vgg16

    from ean_core.engine import load_config

    with torch.device("meta"):
        full = vgg16(weights=None).to_empty(device="cpu").state_dict()
    generator = torch.Generator().manual_seed(0)
    state = {k: torch.randn(v.shape, generator=generator) * 0.02 for k, v in full.items() if k.startswith("features.")}
    state |= {k: torch.zeros(1) for k in full if k.startswith("classifier.")}
    asked = []
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda url, **_: asked.append(url) or state)
    (tmp_path / "images").mkdir()
    cfg = load_config(CROWD / f"{name}.py", data_root=tmp_path, pretrained="torchvision")
    model = MODELS.build(cfg.model)
    model.init_weights()
    assert "vgg16" in asked[0]
    found = model.backbone.state_dict()
    assert sum(k.startswith("features.") for k in found) == 20  # ten weights, ten biases
    for key in (k for k in found if k.startswith("features.")):
        assert torch.equal(found[key], state[key])
    image = torch.randn(1, 3, 32, 32, generator=generator)
    expected = image
    for index in range(23):
        if f"features.{index}.weight" in state:
            expected = torch.conv2d(expected, state[f"features.{index}.weight"], state[f"features.{index}.bias"], 1, 1)
            expected = expected.relu()
        elif index in (4, 9, 16):
            expected = torch.max_pool2d(expected, 2)
    with torch.no_grad():
        torch.testing.assert_close(model.eval().backbone(image)[0], expected)
