"""A config's one-word choices, the data root, and mistakes in them."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from ean_core.engine.cli import add_config_options, config_of

ROOT = Path(__file__).resolve().parents[2]
Load = Callable[..., Config]


@pytest.fixture
def load(toy_crowd: Path) -> Load:
    """A config as ``tools/train.py`` loads it, on the small toy set."""

    def load(*options: str, name: str = "ean_se_shb", arguments: tuple[str, ...] = ()) -> Config:
        parser = argparse.ArgumentParser()
        add_config_options(parser)
        if not {"--toy", "--data-root"} & set(arguments):
            arguments = (*arguments, "--data-root", str(toy_crowd))
        line = [str(ROOT / "configs" / "crowd" / f"{name}.py"), *arguments]
        return config_of(parser.parse_args([*line, "--cfg-options", *options] if options else line))

    return load


def test_the_csrnet_schedule(load: Load) -> None:
    cfg = load("schedule=csrnet")
    optimizer = {"type": "SGD", "lr": 1e-7, "momentum": 0.95, "weight_decay": 5e-4}
    assert cfg.optim_wrapper.optimizer == optimizer
    assert cfg.train_dataloader.batch_size == 1
    assert (cfg.model.loss.reduction, cfg.model.loss.label_scale) == ("sum", 1.0)
    assert cfg.model.head.activation == "none"
    assert cfg.model.backbone.norm_eval is True
    assert cfg.model.backbone.attention.type == "SE"


def test_what_is_said_explicitly_goes_before_the_schedule(load: Load) -> None:
    cfg = load(
        "schedule=csrnet", "optim_wrapper.optimizer.lr=1e-6", "train_dataloader.batch_size=2",
        "model.loss.label_scale=10.0", "model.head.activation=relu", "train_cfg.max_epochs=7",
    )  # fmt: skip
    assert cfg.optim_wrapper.optimizer == {"type": "SGD", "lr": 1e-6, "momentum": 0.95, "weight_decay": 5e-4}
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.model.loss.label_scale == 10
    assert cfg.model.head.activation == "relu"
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_epochs == 7


def test_amp_keeps_the_schedules_optimizer(load: Load) -> None:
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    args = parser.parse_args([str(ROOT / "configs/crowd/org_shb.py"), "--data-root", str(load().data_root)])
    args.amp = True
    cfg = config_of(args)
    assert cfg.optim_wrapper.type == "AmpOptimWrapper"
    assert cfg.optim_wrapper.optimizer.lr == 1e-5


@pytest.mark.parametrize("word", ["bayesian", "dm_count"])
def test_losses_of_points_by_one_word(load: Load, word: str) -> None:
    """With the schedule's label scale; the data set makes no map, and the options are the loss's own."""
    cfg = load(f"loss={word}", "head=conv1x1", "model.backbone.depth=18", arguments=("--scheme", "none"))
    assert set(cfg.model.loss) == {"type", "label_scale"}
    assert cfg.model.loss.label_scale == 100
    assert cfg.train_dataloader.dataset.density is None
    model = MODELS.build(cfg.model)
    assert type(model.loss).__name__ == {"bayesian": "BayesianLoss", "dm_count": "DMCountLoss"}[word]
    other = {"bayesian": "model.loss.background=False", "dm_count": "model.loss.ot_weight=0.2"}[word]
    loss = MODELS.build(load(f"loss={word}", other).model).loss
    assert (getattr(loss, "background", None), getattr(loss, "ot_weight", None)) in ((False, None), (None, 0.2))


def test_an_unknown_loss(load: Load) -> None:
    with pytest.raises(ValueError, match="unknown loss 'mae': choose from mse, bayesian, dm_count"):
        load("loss=mae")


@pytest.mark.parametrize("stride", [8, 4, 2, 1])
def test_the_output_stride_is_that_of_head_data_and_metric(load: Load, stride: int) -> None:
    """The model's map of a 40x56 image has the data's size, at each stride."""
    cfg = load(f"output_stride={stride}", "head=conv1x1", "model.backbone.depth=18", arguments=("--scheme", "none"))
    assert cfg.train_dataloader.dataset.stride == cfg.val_evaluator.stride == cfg.model.stride == stride
    assert cfg.model.head.channels == (128,)
    model = MODELS.build(cfg.model).eval()
    with torch.inference_mode():
        found = model.predict(torch.zeros(1, 3, 41, 56, dtype=torch.uint8))
    assert found.shape == (1, 1, -(-41 // stride), -(-56 // stride))


def test_inference_in_tiles(load: Load) -> None:
    assert load().model.tiling is None
    assert load("inference=tiled").model.tiling == {"tile": 1024, "overlap": 192}
    assert load("inference=tiled", "tiling.tile=512", "tiling.overlap=256").model.tiling["tile"] == 512


def test_data_roots(load: Load, own: Path, toy_crowd: Path) -> None:
    """ShanghaiTech's part, or one's own data, which have no part; the metric's baseline reads the same images."""
    cfg = load(name="org_sha", arguments=("--data-root", str(own)))
    assert cfg.part is None
    assert [cfg[f"{n}_dataloader"].dataset.part for n in ("train", "val", "test")] == [None] * 3
    words = {"out_of_frame": "drop", "orientation": "upright"}
    assert cfg.test_evaluator.baseline == {"root": str(own), "part": None, **words}
    cfg = load()
    assert cfg.part == "B"
    assert cfg.val_dataloader.dataset.root == str(toy_crowd)


def test_the_toy_set_of_each_part(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from crowd_counting import application

    monkeypatch.chdir(tmp_path)
    made = []

    def make(root: Path, part: str) -> Path:
        folder = root / f"toy-{part}" / f"part_{part}_final" / "train_data" / "images"
        folder.mkdir(parents=True)
        made.append(part)
        return root / f"toy-{part}"

    monkeypatch.setattr(application, "make_toy_crowd", make)
    for name, part in (("ean_se_sha", "A"), ("share_dia_shb", "B")):
        cfg = load(name=name, arguments=("--toy",))
        assert cfg.data_root == f"data/toy/toy-{part}"
        assert cfg.train_cfg.max_epochs < 50
    assert made == ["A", "B"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["head=psp"], "unknown head 'psp': choose from csrnet, conv1x1"),
        (["schedule=fast"], "unknown schedule 'fast': choose from c3f, csrnet"),
        (["output_stride=3"], "output_stride must be 1, 2, 4 or 8, got 3"),
        (["inference=slide"], "inference must be 'whole' or 'tiled', got 'slide'"),
    ],
)
def test_unknown_words(load: Load, options: list[str], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        load(*options)
    assert str(caught.value).endswith(message)


def test_mistakes_with_data(load: Load, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data root '.*nowhere' does not exist"):
        load(arguments=("--data-root", str(tmp_path / "nowhere")))
    with pytest.raises(FileNotFoundError, match="no crowd data in"):
        load(arguments=("--data-root", str(tmp_path)))
    with pytest.raises(ValueError, match="crowd counting has no classes"):
        load(arguments=("--classes", "names.txt"))
