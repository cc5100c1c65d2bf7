"""Every classification config: the parameter counts of the paper's Table 1, the schedule, and what options change."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

import classification.classifier  # noqa: F401  (registers the model)
from ean_core.engine.cli import add_config_options, config_of

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "cls"


def cbam(channels: int) -> int:
    """Two biased layers, from C to d and back; a 7x7 kernel for two maps, and a norm's two numbers."""
    d = channels // 16
    return (channels * d + d) + (d * channels + channels) + 2 * 49 + 2


# EAN has Share-full's count where no stage is empty.
PARAMETERS = {
    "resnet164_org_cifar100": 1_727_284,
    "resnet164_orgfull_se_cifar100": 1_929_388,
    "resnet164_share_se_cifar100": 1_738_512,
    "resnet164_ean_se_cifar100": 1_738_512,
    "resnet164_orgfull_sge_cifar100": 1_727_716,
    "resnet164_share_sge_cifar100": 1_727_308,
    "resnet164_share_dia_cifar100": 1_946_132,
    "resnet50_org_imagenet": 25_583_592,
    "resnet50_orgfull_se_imagenet": 28_114_584,
    "resnet50_share_se_imagenet": 26_283_992,
    "resnet50_ean_se_imagenet": 26_283_992,
    "resnet50_orgfull_sge_imagenet": 25_585_640,
    "resnet50_share_sge_imagenet": 25_584_104,
    "resnet50_ean_sge_imagenet": 25_584_104,
    "resnet50_share_dia_imagenet": 28_384_612,
    "resnet50_ean_dia_imagenet": 28_384_612,
    "resnet164_orgfull_cbam_cifar100": 1_727_284 + 18 * (cbam(64) + cbam(128) + cbam(256)),
    "resnet164_share_cbam_cifar100": 1_727_284 + cbam(64) + cbam(128) + cbam(256),
    "resnet164_ean_cbam_cifar100": 1_727_284 + cbam(64) + cbam(128) + cbam(256),
    "resnet50_orgfull_cbam_imagenet": 25_583_592 + 3 * cbam(256) + 4 * cbam(512) + 6 * cbam(1024) + 3 * cbam(2048),
    "resnet50_share_cbam_imagenet": 25_583_592 + cbam(256) + cbam(512) + cbam(1024) + cbam(2048),
    "resnet50_ean_cbam_imagenet": 25_583_592 + cbam(256) + cbam(512) + cbam(1024) + cbam(2048),
    "resnet164_orgfull_eca_cifar100": 1_727_284 + 18 * (3 + 5 + 5),  # a kernel for 64, 128, 256 channels
    "resnet164_share_eca_cifar100": 1_727_284 + 3 + 5 + 5,
    "resnet164_ean_eca_cifar100": 1_727_284 + 3 + 5 + 5,
    "resnet50_orgfull_eca_imagenet": 25_583_592 + 3 * 5 + 4 * 5 + 6 * 5 + 3 * 7,  # 256, 512, 1024, 2048
    "resnet50_share_eca_imagenet": 25_583_592 + 5 + 5 + 5 + 7,
    "resnet50_ean_eca_imagenet": 25_583_592 + 5 + 5 + 5 + 7,
    "att_darts_cifar10": 3_231_343 + 476_426,  # the published cell, and the auxiliary classifier
    "att_darts_cifar100": 3_283_273 + 545_636,
    "att_darts_imagenet": 4_641_666 + 1_260_776,
    "org_att_darts_cifar10": 2_837_854 + 476_426,
    "org_regnet_imagenet": 5_495_976,  # torchvision's
    "ean_eca_regnet_imagenet": 5_495_976
    + 3
    + 3
    + 5
    + 5,  # a kernel a stage, of ECA's size for 32, 64, 160, 400 channels
    "finetune_se_regnet_imagenet": 5_495_976 + sum(2 * c * (c // 4) + c // 4 + c + 1 for c in (32, 64, 160, 400)),
}


def load(name: str, *arguments: str) -> Config:
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    return config_of(parser.parse_args([str(CONFIGS / f"{name}.py"), *arguments]))


def test_no_config_is_forgotten() -> None:
    assert {path.stem for path in CONFIGS.glob("*.py")} == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str) -> None:
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    assert model.head["fc"].out_features == (10 if "cifar10" in name.split("_") else 100 if "cifar" in name else 1000)
    assert cfg.default_hooks.checkpoint.metric == "top1"


@pytest.mark.parametrize(
    ("name", "epochs", "batch", "steps"),
    [("resnet164_org_cifar100", 164, 128, [81, 122]), ("resnet50_org_imagenet", 120, 256, [30, 60, 90])],
)
def test_schedule(tmp_path: Path, write_images: Callable, name: str, epochs: int, batch: int, steps: list[int]) -> None:
    write_images(tmp_path, owl=4, wren=4)
    cfg = load(name, "--data-root", str(tmp_path))
    assert (cfg.train_cfg.max_epochs, cfg.train_dataloader.batch_size) == (epochs, batch)
    assert cfg.optim_wrapper.optimizer == {"type": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
    assert (cfg.param_scheduler[0].milestones, cfg.param_scheduler[0].end) == (steps, epochs)
    half = load(name, "--data-root", str(tmp_path), "--cfg-options", f"train_cfg.max_epochs={epochs // 2}")
    assert half.param_scheduler[0].milestones == [round(step / 2) for step in steps]
    assert half.param_scheduler[0].end == epochs // 2


@pytest.mark.parametrize("name", ["resnet164_share_se_cifar100", "resnet50_org_imagenet"])
def test_own_folder(tmp_path: Path, write_images: Callable, name: str) -> None:
    write_images(tmp_path / "train", owl=4, wren=4, crow=4)
    write_images(tmp_path / "val", owl=1, wren=1, crow=1)
    cfg = load(name, "--data-root", str(tmp_path))
    assert (cfg.layout, cfg.model.num_classes) == ("folder", 3)
    names = tmp_path / "names.txt"
    names.write_text("wren\n\nowl\n")
    cfg = load(name, "--data-root", str(tmp_path), "--classes", str(names))
    assert cfg.model.num_classes == 2
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.classes == ["wren", "owl"]
    names.write_text("owl\n")
    with pytest.raises(ValueError, match="names 1 classes"):
        load(name, "--data-root", str(tmp_path), "--classes", str(names))
    with pytest.raises(FileNotFoundError, match=r"class names '.*no\.txt' does not exist"):
        load(name, "--data-root", str(tmp_path), "--classes", str(tmp_path / "no.txt"))


def test_the_parts_are_a_choice(tmp_path: Path, write_images: Callable) -> None:
    write_images(tmp_path, owl=9, wren=9)
    options = ["train_part=search_train", "val_part=search_val", "held_out=2", "split_seed=5"]
    cfg = load("resnet164_org_cifar100", "--data-root", str(tmp_path), "--cfg-options", *options)
    sets = [loader.dataset for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)]
    assert [dataset.part for dataset in sets] == ["search_train", "search_val", "test"]
    assert all((dataset.held_out, dataset.split_seed) == (2, 5) for dataset in sets)
    with pytest.raises(ValueError, match="val_part must be 'train', 'val'"):
        load("resnet164_org_cifar100", "--data-root", str(tmp_path), "--cfg-options", "val_part=valid")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "resnet164_org_cifar100",
            r"no cifar100 data in 'data': fetch it .*prepare_data cifar100 --root data.*--toy",
        ),
        ("resnet50_org_imagenet", r"no folder data in 'data/imagenet': put train/CLASS/ .*--toy"),
    ],
)
def test_missing_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=message):
        load(name)


@pytest.mark.parametrize(
    ("name", "layout"), [("resnet164_ean_se_cifar100", "cifar100"), ("resnet50_ean_dia_imagenet", "folder")]
)
def test_toy_makes_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, layout: str) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = load(name, "--toy")
    assert (tmp_path / "data" / "toy").is_dir()
    assert (cfg.layout, cfg.model.num_classes) == (layout, 6)
    assert cfg.train_cfg.max_epochs == cfg.toy.train_cfg.max_epochs


def test_there_is_no_view_to_choose() -> None:
    """Images are seen upright, and a label has no view; what asks for another is not passed over in silence."""
    with pytest.raises(ValueError, match="orientation must be 'upright', got 'stored'"):
        load("resnet164_org_cifar100", "--toy", "--cfg-options", "orientation=stored")
