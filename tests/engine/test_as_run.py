"""The config as run, run again, and a test by the checkpoint alone: for every task."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from ean_core.checkpoint import read_checkpoint, write_checkpoint
from ean_testing import runs
from ean_testing.fresh import run_program

ROOT = Path(__file__).resolve().parents[2]
Tool = Callable[[str], Callable[[list[str]], None]]
TASKS = {
    "seg/ean_se_voc": ["model.backbone.depth=18", "crop_size=32", "head=fcn", "optim_wrapper.optimizer.lr=0.1"],
    "crowd/ean_se_shb": ["model.backbone.depth=18", "head=conv1x1"],
    "cls/resnet164_ean_se_cifar100": ["model.backbone.depth=11"],
}
COMMON = ["train_cfg.max_epochs=1", "train_cfg.val_interval=1"]
COMMON += [f"{part}_dataloader.num_workers=0" for part in ("train", "val", "test")]


@pytest.fixture(scope="module", params=TASKS)
def run(request: Any, tool: Tool, light: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the name of a training of one epoch on toy data."""
    folder = tmp_path_factory.mktemp("run")
    name = request.param.rpartition("/")[2]
    config = str(ROOT / "configs" / f"{request.param}.py")
    options = [*TASKS[request.param], *COMMON, runs.new_name()]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tool("train")([config, "--toy", "--scheme", "full", "--work-dir", "w", "--cfg-options", *options])
    return folder, name


def scores(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return {key: value for key, value in found.items() if key != "checkpoint"}


def test_again_from_its_own_config(run: tuple[Path, str], tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training by the written config ends in the same weights; a test by it in the same figures."""
    folder, name = run
    monkeypatch.chdir(folder)
    tool("train")([f"w/{name}.py", "--work-dir", "again", "--cfg-options", runs.new_name()])
    first, second = (read_checkpoint(folder / where / "last.pth")["state_dict"] for where in ("w", "again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    tool("test")([f"w/{name}.py", "w/best.pth", "--work-dir", "t1", "--cfg-options", runs.new_name()])
    tool("test")(["again/best.pth", "--cfg-options", runs.new_name()])
    assert scores(folder / "t1" / "test.json") == scores(folder / "again" / "test.json")


def test_a_checkpoint_alone_in_a_process_of_its_own(run: tuple[Path, str], fresh: Any) -> None:
    """There nothing has been imported before."""
    folder, name = run
    more = ["--tta"] if name.endswith("voc") else []
    program = ROOT / "tools" / "test.py"
    ran = fresh.apply(run_program, (program, "w/best.pth", *more), {"folder": folder})
    assert ran.status == 0, ran.err


def test_a_checkpoint_alone_builds_nothing_of_strangers(
    run: tuple[Path, str], tool: Tool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = run
    monkeypatch.chdir(folder)
    checkpoint = read_checkpoint(folder / "w" / "best.pth")
    cfg = Config.fromstring(checkpoint["meta"]["cfg"], ".py")
    strange: list[tuple[str, Any]] = [
        ("custom_hooks", [*cfg.custom_hooks, {"type": "os.mkdir"}]),
        ("test_dataloader", {**cfg.test_dataloader, "collate_fn": {"type": "os.system"}}),
        ("test_dataloader", {**cfg.test_dataloader, "worker_init_fn": {"type": "ean_core.files.write_atomic"}}),
        ("test_evaluator", {"type": "DumpResults", "out_file_path": "a.pkl"}),
        (
            "test_dataloader",
            {**cfg.test_dataloader, "dataset": {**cfg.test_dataloader.dataset, "backend_args": {"a": 1}}},
        ),
        ("visualizer", {"type": "Visualizer", "vis_backends": [{"type": "WandbVisBackend"}]}),
    ]
    for key, value in strange:
        changed = Config({**cfg._cfg_dict, key: value})
        meta = {**checkpoint["meta"], "cfg": changed.pretty_text}
        write_checkpoint({**checkpoint, "meta": meta}, folder / "strange.pth")
        with pytest.raises(SystemExit) as stopped:
            tool("test")(["strange.pth"])
        error = capsys.readouterr().err
        assert stopped.value.code == 2
        assert error.count("\n") == 1
        assert error.startswith("error: the config in 'strange.pth' ")


def test_a_choice_that_was_made_is_not_made_again(
    run: tuple[Path, str], tool: Tool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, name = run
    if name not in ("ean_se_voc", "ean_se_shb"):
        pytest.skip("no head to choose")
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit):
        tool("train")([f"w/{name}.py", "--work-dir", "other", "--cfg-options", "head=psp"])
    assert "has made its choice of a head" in capsys.readouterr().err
