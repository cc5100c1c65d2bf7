"""The whole way: search on labelled images -> scheme file -> retrained backbone -> segmentation."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from classification.toy_shapes import make_toy
from ean_core.checkpoint import read_checkpoint
from ean_core.scheme import ConnectionScheme
from ean_testing.runs import new_name

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = (2, 2, 2, 2)
SMALL = [
    "model.backbone.depth=18",
    "image_size=32",
    "held_out=4",
    "train_dataloader.batch_size=12",
    "train_dataloader.num_workers=0",
    "val_dataloader.num_workers=0",
    "test_dataloader.num_workers=0",
    "train_cfg.max_epochs=1",
    "optim_wrapper.optimizer.lr=0.05",
]


@pytest.fixture(scope="module")
def walked(tool: Callable, light: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``search/scheme.json`` and ``retrained/last.pth``."""
    folder = tmp_path_factory.mktemp("walk")
    data = str(make_toy(folder / "data", "folder", train=10, test=3))
    config = str(ROOT / "configs" / "search" / "se_imagenet.py")
    work_dirs = {name: ["--work-dir", str(folder / name)] for name in ("search", "retrained")}
    arguments = ["--data-root", data, "--steps", "4", *work_dirs["search"]]
    tool("search")([config, *arguments, "--cfg-options", *SMALL, new_name()])
    target = str(ROOT / Config.fromfile(config).search.retrain)
    arguments = ["--data-root", data, "--scheme", str(folder / "search" / "scheme.json"), *work_dirs["retrained"]]
    tool("train")([target, *arguments, "--cfg-options", *SMALL, new_name()])
    return folder


@pytest.fixture
def segment(tool: Callable, tiny: list[str], config: str, walked: Path, tmp_path: Path) -> Callable[..., Path]:
    """``segment(*options)``: trains a segmentation network on the scheme and the weights; its work directory."""
    at = tiny.index("--scheme")
    found = ["--scheme", str(walked / "search" / "scheme.json"), "--pretrained", str(walked / "retrained" / "last.pth")]
    arguments = [*tiny[:at], *found, "--work-dir", str(tmp_path), *tiny[at + 2 :]]

    def run(*options: str, name: str = config) -> Path:
        tool("train")([name, *arguments, "train_cfg.max_epochs=1", new_name(), *options])
        return tmp_path

    return run


def test_the_scheme_and_the_weights_arrive(walked: Path, segment: Callable[..., Path]) -> None:
    scheme = json.loads((walked / "search" / "scheme.json").read_text())["scheme"]
    frozen = segment("optim_wrapper.optimizer.lr=0.0")  # so that its weights are those it started from
    cfg = Config.fromfile(next(frozen.rglob("ean_se_voc.py")))
    assert cfg.model.backbone.scheme == scheme
    connected = [any(stage) for stage in ConnectionScheme.parse(scheme, BLOCKS).stages]
    before = read_checkpoint(walked / "retrained" / "last.pth")["state_dict"]
    after = read_checkpoint(frozen / "last.pth")["state_dict"]
    weights = {key for key in after if re.fullmatch(r"backbone\..*(weight|bias)", key)}
    assert sum(".attention." in key for key in weights) == 4 * sum(connected)
    # The convolutions' biases, which the segmentation network has not, are folded into the batch norms.
    folded = {key for key in before if re.fullmatch(r"backbone\..*(conv\d|downsample\.0|stem\.\d)\.bias", key)}
    assert weights == {key for key in before if re.fullmatch(r"backbone\..*(weight|bias)", key)} - folded
    assert all(torch.equal(before[key], after[key]) for key in weights)


@pytest.mark.parametrize(
    ("options", "name", "message"),
    [
        (["model.backbone.depth=50"], "ean_se_voc", "does not fit: expected 16 bits, 3-4-6-3 a stage"),
        ([], "ean_dia_voc", "SE"),
        (["model.backbone.attention.reduction=8"], "ean_se_voc", "reduction"),
    ],
)
def test_another_network_is_refused_in_one_line(
    segment: Callable[..., Path], capsys: pytest.CaptureFixture[str], options: list[str], name: str, message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        segment(*options, name=str(ROOT / "configs" / "seg" / f"{name}.py"))
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
