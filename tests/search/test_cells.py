"""The search of cells through tools/search.py: its files, its resume, its ends, and mistakes in one line."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from mmengine.config import Config

from classification.toy_shapes import make_toy
from ean_core.cells import ATTENTIONS as ALL_ATTENTIONS
from ean_core.cells import OPERATIONS as ALL_OPERATIONS
from ean_core.cells import Genotype
from ean_core.cells.supernet import all_edges
from ean_core.checkpoint import read_checkpoint, write_checkpoint
from ean_core.demo.searches import Searches
from ean_core.files import read_json_lines
from ean_core.search import cell_perturbation, cell_training, cells
from ean_core.search.cell_plan import read_plan
from ean_core.search.cell_selection import Space, select
from ean_testing.fresh import CONTEXT, run_program

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs" / "search" / "att_darts_cifar10.py")
OPERATIONS = ["none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"]
ATTENTIONS = ["none", "SE", "CBAM"]
OPTIONS = [
    f"search.operations={OPERATIONS}".replace(" ", ""),
    f"search.attentions={ATTENTIONS}".replace(" ", ""),
    "held_out=4",
    "model.backbone.nodes=2",
    "train_dataloader.batch_size=12",
    "val_dataloader.batch_size=16",
    "train_cfg.max_epochs=4",
]
STEPS = 2  # an epoch: six classes of 4 images, 12 a batch
FILES = ("cells.jsonl", "genotype.json", "search.png", "cells_state.pth")
EDGES = 5
Run = Callable[..., Path]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes of 8 training images; the test images are damaged, so that reading them would fail."""
    root = make_toy(tmp_path_factory.mktemp("data"), "cifar100", train=8, test=3)
    (root / "cifar-100-python" / "test").write_bytes(b"no pickle")
    return root


@pytest.fixture(scope="module")
def search(tool: Callable, data: Path, light: None) -> Run:
    """``search(work_dir, *arguments, options=(...))``: a run of tools/search.py --toy with one node less or two."""
    main = tool("search")

    def run(work_dir: Path, *more: str, options: tuple[str, ...] = ()) -> Path:
        where = ["--toy", "--data-root", str(data), "--work-dir", str(work_dir)]
        main([CONFIG, *where, *more, "--cfg-options", *OPTIONS, *options])
        return work_dir

    return run


@pytest.fixture(scope="module")
def finished(search: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work directory of a whole run; tests leave it as it is."""
    return search(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copied"))


def contents(work_dir: Path) -> dict[str, bytes]:
    return {name: (work_dir / name).read_bytes() for name in FILES}


def fail(capsys: pytest.CaptureFixture[str], run: Callable[[], object]) -> str:
    """The one line that a mistake prints."""
    with pytest.raises(SystemExit) as stopped:
        run()
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    return err


def assert_same(one: Any, other: Any, where: str = "") -> None:
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}[{i}]")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


def assert_ends_alike(work_dir: Path, finished: Path) -> None:
    for name in FILES[:3]:
        assert (work_dir / name).read_bytes() == (finished / name).read_bytes(), name
    assert_same(read_checkpoint(work_dir / "cells_state.pth"), read_checkpoint(finished / "cells_state.pth"))


def in_lines(cells: dict[str, str]) -> str:
    return "\n".join(f"{name}: {text}" for name, text in cells.items())


def test_config() -> None:
    """The authors' values: those of DARTS."""
    cfg = Config.fromfile(CONFIG)
    backbone, sgd, adam = cfg.model.backbone, cfg.optim_wrapper.optimizer, cfg.search.architecture_optimizer
    assert (backbone.channels, backbone.layers, cfg.train_dataloader.batch_size) == (16, 8, 64)
    assert (sgd.type, sgd.lr, sgd.momentum, sgd.weight_decay) == ("SGD", 0.025, 0.9, 3e-4)
    assert (adam.type, adam.lr, tuple(adam.betas), adam.weight_decay) == ("Adam", 3e-4, (0.5, 0.999), 1e-3)
    assert (cfg.train_cfg.max_epochs, cfg.optim_wrapper.clip_grad.max_norm) == (50, 5)
    assert cfg.param_scheduler == [dict(type="CosineAnnealingLR", eta_min=0.001, begin=0, end=50, by_epoch=True)]
    assert (cfg.layout, cfg.train_part, cfg.val_part, cfg.held_out) == ("cifar10", "search_train", "search_val", 2500)
    plan = read_plan(cfg)
    assert (plan.order, plan.warmup, plan.selection, plan.max_skips) == (1, 0, "argmax", 2)


def test_files(finished: Path) -> None:
    """A line an epoch; the genotype is that of the last one's probabilities."""
    history = read_json_lines(finished / "cells.jsonl")
    assert [entry["epoch"] for entry in history] == [1, 2, 3, 4]
    assert [entry["learning_architecture"] for entry in history] == [False, True, True, True]
    assert ["val_loss" in entry for entry in history] == [False, True, True, True]
    rates = [0.001 + 0.024 * (1 + torch.cos(torch.tensor(torch.pi * e / 4)).item()) / 2 for e in range(4)]
    assert [entry["lr"] for entry in history] == pytest.approx(rates, rel=1e-5)
    for entry in history:
        for kind, width in (("operations", len(OPERATIONS)), ("attentions", len(ATTENTIONS))):
            for rows in entry[kind].values():
                assert len(rows) == EDGES
                assert all(len(row) == width and sum(row) == pytest.approx(1, abs=1e-6) for row in rows)
        assert [sum(entry["edges"]["normal"][:2]), sum(entry["edges"]["normal"][2:])] == pytest.approx([1, 1])
        assert 0 < entry["entropy_alpha"] <= 1
        assert 0 < entry["entropy_beta"] <= 1
        Genotype.parse(in_lines(entry["genotype"]))
    first, second, last = history[0], history[1], history[-1]
    assert first["operations"] != second["operations"]
    state = read_checkpoint(finished / "cells_state.pth")
    assert state["epoch"] == 4
    alpha = state["model"]["backbone.architecture.alpha_normal"].softmax(1)
    torch.testing.assert_close(torch.tensor(last["operations"]["normal"]), alpha)

    result = json.loads((finished / "genotype.json").read_text())
    assert result["genotype"] == last["genotype"]
    assert str(Genotype.load(finished / "genotype.json")) == in_lines(last["genotype"])
    assert (result["epoch"], result["epochs"], result["stopped"], result["seed"]) == (4, 4, None, 0)
    assert (result["order"], result["partial"], result["layers"], result["channels"]) == (1, 4, 3, 16)
    assert (result["operations"], result["attentions"]) == (OPERATIONS, ATTENTIONS)
    assert result["val_loss"] == last["val_loss"]
    assert (finished / "search.png").read_bytes().startswith(b"\x89PNG")


def test_toy(tool: Callable, data: Path, light: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All candidates in cells of four nodes, and what is said meanwhile."""
    options = ["held_out=4", "train_cfg.max_epochs=2"]
    where = ["--toy", "--data-root", str(data), "--work-dir", str(tmp_path)]
    tool("search")([CONFIG, *where, "--cfg-options", *options])
    result = json.loads((tmp_path / "genotype.json").read_text())
    assert (result["operations"], result["attentions"]) == (list(ALL_OPERATIONS), list(ALL_ATTENTIONS))
    assert [len(cell) for _, cell in Genotype.load(tmp_path / "genotype.json").cells()] == [4, 4]
    out = capsys.readouterr().out
    assert "D_train 24, D_val 24 images" in out
    assert "an epoch takes about" in out
    lines = [line for line in out.splitlines() if line.startswith("epoch ")]
    assert ["val_loss" in line for line in lines] == [False, True]
    command = f"ean train configs/cls/att_darts_cifar10.py --genotype {tmp_path / 'genotype.json'}"
    assert f"next        {command} --toy --data-root {data}" in out


class Killed(BaseException):
    """What ends a run in the middle, like a signal: nothing may catch it."""


def killed_after(calls: int, call: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which so often does its work, and then ends the run."""
    done = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        if len(done) == calls:
            raise Killed
        done.append(1)
        return call(*args, **kwargs)

    return counted


@pytest.mark.parametrize(
    ("where", "name", "calls", "lines", "epoch"),
    [
        (cell_training, "search_step", 1, 0, 0),  # in the first epoch
        (cell_training, "search_step", STEPS, 1, 1),  # between two epochs
        (cell_training, "search_step", 2 * STEPS + 1, 2, 2),  # in the third
        (cells, "_save", 2, 2, 1),  # between a line and its state
        (cells, "select", 7, 3, 3),  # before a line
        (cells, "_draw", 0, 4, 4),  # behind everything but the picture
    ],
)
def test_a_search_that_was_killed_ends_as_one_that_ran_through(
    where: Any, name: str, calls: int, lines: int, epoch: int, finished: Path, search: Run, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, name, killed_after(calls, getattr(where, name)))
        with pytest.raises(Killed):
            search(tmp_path)
    assert len(read_json_lines(tmp_path / "cells.jsonl")) == lines
    assert read_checkpoint(tmp_path / "cells_state.pth")["epoch"] == epoch
    torch.rand(7)  # what happens before the search is resumed does not matter
    search(tmp_path, "--resume")
    assert_ends_alike(tmp_path, finished)


def test_killed_by_a_signal(finished: Path, search: Run, data: Path, tmp_path: Path) -> None:
    """In a process of its own, after the first line; a line that was cut off does not matter either."""
    arguments = ["--toy", "--data-root", str(data), "--work-dir", str(tmp_path), "--cfg-options", *OPTIONS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        process = CONTEXT.Process(target=run_program, args=(ROOT / "tools" / "search.py", CONFIG, *arguments))
        process.start()
        until = time.monotonic() + 120
        while process.is_alive() and not read_json_lines(tmp_path / "cells.jsonl") and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    assert read_json_lines(tmp_path / "cells.jsonl") == read_json_lines(finished / "cells.jsonl")[:1]
    with (tmp_path / "cells.jsonl").open("a") as file:
        file.write('{"epoch": 2, "tra')
    search(tmp_path, "--resume")
    assert_ends_alike(tmp_path, finished)


def test_ctrl_c(search: Run, tmp_path: Path) -> None:
    def interrupt(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cell_training, "search_step", interrupt)
        with pytest.raises(SystemExit) as stopped:
            search(tmp_path)
    assert stopped.value.code == 130


def test_a_finished_search(copied: Path, search: Run) -> None:
    """Resumed, it changes nothing; a new one sets it aside."""
    before = contents(copied)
    search(copied, "--resume")
    assert contents(copied) == before
    search(copied, options=("train_cfg.max_epochs=2", "randomness.seed=3"))
    assert {path.name for path in (copied / "previous").iterdir()} == set(FILES)
    assert (copied / "previous" / "genotype.json").read_bytes() == before["genotype.json"]
    lines = read_json_lines(copied / "cells.jsonl")
    assert len(lines) == 2
    assert lines[0]["train_loss"] != json.loads(before["cells.jsonl"].splitlines()[0])["train_loss"]


def test_nothing_to_resume(search: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = fail(capsys, lambda: search(tmp_path / "new", "--resume"))
    assert f"nothing to resume: '{tmp_path / 'new' / 'cells_state.pth'}' does not exist (start without" in error
    assert not (tmp_path / "new").exists()


def test_second_order(search: Run, finished: Path, tmp_path: Path) -> None:
    """Another architecture than that of first order, from the same weights behind the warm-up."""
    search(tmp_path, options=("search.order=2", "train_cfg.max_epochs=2"))
    line = read_json_lines(tmp_path / "cells.jsonl")[1]
    assert line["operations"] != read_json_lines(finished / "cells.jsonl")[1]["operations"]
    assert json.loads((tmp_path / "genotype.json").read_text())["order"] == 2


def test_fewer_candidates(search: Run, tmp_path: Path) -> None:
    """Plain DARTS, without partial channels, from three operations; in bfloat16."""
    search(
        tmp_path,
        "--amp",
        options=(
            "search.attentions=['none']",
            "search.operations=['none','skip_connect','sep_conv_3x3']",
            "model.backbone.partial=1",
            "train_cfg.max_epochs=2",
        ),
    )
    line = read_json_lines(tmp_path / "cells.jsonl")[-1]
    assert "edges" not in line
    assert line["entropy_beta"] == 0
    genotype = Genotype.load(tmp_path / "genotype.json")
    edges = [edge for _, cell in genotype.cells() for pair in cell for edge in pair]
    assert {edge.attention for edge in edges} == {None}
    assert {edge.operation for edge in edges} <= {"skip_connect", "sep_conv_3x3"}


def test_selection_by_perturbation(
    finished: Path, search: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a finished search; killed between two decisions it ends as if it had run through."""
    whole, killed = (Path(shutil.copytree(finished, tmp_path / name)) for name in ("whole", "killed"))
    options = ("search.selection=perturbation", "search.perturbation.images=20", "search.perturbation.tune=1")
    search(whole, "--resume", options=options)
    decisions = read_json_lines(whole / "decisions.jsonl")
    assert [d["kind"] for d in decisions] == ["operations"] * 10 + ["sources"] * 4 + ["attentions"] * 8
    for decision in decisions:
        losses = decision["losses"]
        if decision["kind"] == "operations":
            assert set(losses) == {*OPERATIONS} - {"none"}
        if losses:
            assert len(set(losses.values())) > 1
            order = sorted(losses, key=lambda name: -losses[name])
            assert [str(kept) for kept in decision["kept"]] == order[: len(decision["kept"])]
    kept = {(d["kind"], d["cell"], d["place"]): d["kept"] for d in decisions}
    genotype = Genotype.load(whole / "genotype.json")
    for edge in genotype.normal[0]:
        assert [edge.operation] == kept["operations", "normal", edge.source]
        assert [edge.attention or "none"] == kept["attentions", "normal", edge.source]
    results = [json.loads((folder / "genotype.json").read_text()) for folder in (whole, finished)]
    assert [result["selection"] for result in results] == ["perturbation", "argmax"]
    assert results[0]["weights"] != results[1]["weights"]

    for calls in (4, 7):  # decisions
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cell_perturbation, "decide", killed_after(calls, cell_perturbation.decide))
            with pytest.raises(Killed):
                search(killed, "--resume", options=options)
    assert len(read_json_lines(killed / "decisions.jsonl")) == 11
    capsys.readouterr()
    error = fail(capsys, lambda: search(killed, "--resume", options=(*options, "search.perturbation.images=16")))
    assert "perturbation.images was 20, is 16" in error
    with pytest.MonkeyPatch.context() as patch:  # a line without its state
        patch.setattr(cells, "_save", killed_after(0, cells._save))
        with pytest.raises(Killed):
            search(killed, "--resume", options=options)
    assert len(read_json_lines(killed / "decisions.jsonl")) == 12
    search(killed, "--resume", options=options)
    for name in (*FILES[:3], "decisions.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert_same(*(read_checkpoint(folder / "cells_state.pth") for folder in (killed, whole)))


def stubborn(skips: list[int]) -> Callable[..., Any]:
    """``cells.describe``, but so many skip connections in each epoch."""

    def describe(*args: Any) -> dict[str, Any]:
        entry = DESCRIBE(*args)
        return entry | {"skips": skips[entry["epoch"] - 1], "genotype": {"as": "before"}}

    return describe


DESCRIBE = cells.describe


def untrained(training: cell_training.CellTraining, seen: Any) -> dict[str, float]:
    """An epoch in the place of ``run_epoch``: another architecture, drawn."""
    training.epoch += 1
    with torch.no_grad():
        for parameter in training.supernet.architecture_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(training.epoch)))
    return {"train_loss": 1.0, "val_loss": 1.0}


@pytest.mark.parametrize(
    ("skips", "options", "epochs", "epoch"),
    [
        ([4, 2, 3, 0], ["stop.skips=2"], 3, 2),  # warm-up does not count, and the epoch before is taken
        ([0, 3, 3, 2], ["stop.skips=2"], 4, 4),  # there was no epoch before that was good
        ([0, 1, 3, 1], ["stop.skips=2", "stop.after=3"], 4, 4),
        ([0, 0, 0, 0], ["stop.patience=1"], 3, 3),
        ([0, 0, 0, 0], ["stop.patience=3"], 4, 4),
    ],
)
def test_ends_before_the_last_epoch(
    skips: list[int], options: list[str], epochs: int, epoch: int, search: Run, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    changes = ("search.stop.after=0", *(f"search.{option}" for option in options), "search.max_skips=None")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "describe", stubborn(skips))
        patch.setattr(cell_training.CellTraining, "run_epoch", untrained)
        search(tmp_path, options=changes)
    history = read_json_lines(tmp_path / "cells.jsonl")
    result = json.loads((tmp_path / "genotype.json").read_text())
    assert (len(history), result["epoch"]) == (epochs, epoch)
    assert (result["stopped"] is not None) is (epochs < 4) is ("stopped     after epoch" in capsys.readouterr().out)
    space = Space(tuple(all_edges(2)), operations=result["operations"], attentions=result["attentions"])
    assert result["genotype"] == select(history[epoch - 1], space).as_dict()
    before = contents(tmp_path)
    search(tmp_path, "--resume", options=changes)  # it stays stopped
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"more": ["--strategy", "random"]}, "--strategy is of a search for schemes"),
        ({"more": ["--steps", "3"]}, "its length is train_cfg.max_epochs"),
        ({"more": ["--scheme", "full"]}, "scheme"),
        ({"options": ["search.order=3"]}, "search.order must be at most 2, got 3"),
        ({"options": ["search.selection=best"]}, "search.selection must be 'argmax' or 'perturbation', got 'best'"),
        ({"options": ["search.warmup=4"]}, "search.warmup=4 must be less than train_cfg.max_epochs=4"),
        ({"options": ["search.max_skip=1"]}, "search.max_skip: there is no such option; did you mean 'max_skips'?"),
        ({"options": ["search.max_skips=-1"]}, "search.max_skips must be at least 0, got -1"),
        ({"options": ["search.stop.skip=1"]}, "search.stop.skip: there is no such option; did you mean 'skips'?"),
        ({"options": ["search.stop.skips=2", "search.selection=perturbation"]}, "it needs search.selection=argmax"),
        (
            {"options": ["search.operations=['none','sep_conv_7x7']"]},
            "unknown operation 'sep_conv_7x7', known are none",
        ),
        ({"options": ["search.operations=['none']"]}, "needs a candidate besides 'none'"),
        ({"options": ["search.attentions=['none','SEE']"]}, "SEE"),
        ({"options": ["search.attentions=none"]}, "search.attentions must be a list, got 'none'"),
        ({"options": ["model.backbone.partial=3"]}, "partial=3 must divide the number of channels, 16"),
        ({"options": ["train_dataloader.batch_size=64"]}, "D_train has 24 images, fewer than one batch takes"),
        ({"options": ["held_out=7", "train_dataloader.batch_size=13"]}, "D_train has 6 images, fewer"),
        ({"options": ["optim_wrapper.optimizer.nesterov=True", "search.order=2"]}, "not of SGD with nesterov"),
        ({"options": ["optim_wrapper.paramwise_cfg.bias_lr_mult=2"]}, "optim_wrapper.paramwise_cfg: there is no such"),
        ({"options": ["search.architecture_optimizer.lrate=1"]}, "lrate"),
        ({"options": ["train_cfg.max_epochs=abc"]}, "train_cfg.max_epochs must be a whole number, got 'abc'"),
        ({"options": ["train_cfg.max_epochs=0"]}, "train_cfg.max_epochs must be at least 1, got 0"),
        ({"options": ["search.warmup=abc"]}, "search.warmup must be a whole number, got 'abc'"),
        ({"options": ["search.warmup=None"]}, "search.warmup must be a whole number, got None"),
        ({"options": ["search.order=True"]}, "search.order must be a whole number, got True"),
        ({"options": ["search.stop.after=None"]}, "search.stop.after must be a whole number, got None"),
        ({"options": ["search.stop.patience=True"]}, "search.stop.patience must be a whole number, got True"),
        ({"options": ["search.stop=5"]}, "search.stop must be a dict of options, got 5"),
        ({"options": ["search.stop=abc"]}, "search.stop must be a dict of options, got 'abc'"),
        ({"options": ["search.perturbation=5"]}, "search.perturbation must be a dict of options, got 5"),
        ({"options": ["search.val_dataset=5"]}, "search.val_dataset must be a dict of options, got 5"),
        ({"options": ["search.architecture_optimizer=5"]}, "search.architecture_optimizer must be a dict of options"),
        ({"options": ["optim_wrapper.clip_grad=5"]}, "optim_wrapper.clip_grad must be a dict of options, got 5"),
        ({"options": ["optim_wrapper.clip_grad.max_norm=abc"]}, "max_norm must be a number, got 'abc'"),
        ({"options": ["optim_wrapper.clip_grad.max_norm=0"]}, "clip_grad.max_norm must be greater than 0, got 0"),
        ({"more": ["--resume"], "options": ["search.order=2"]}, "search.order was 1, is 2"),
        ({"more": ["--resume"], "options": ["train_cfg.max_epochs=9"]}, "epochs was 4, is 9"),
        ({"more": ["--resume"], "options": ["held_out=3"]}, "held_out was 4, is 3"),
    ],
)
def test_mistakes_leave_everything_as_it_was(
    copied: Path, search: Run, capsys: pytest.CaptureFixture[str], arguments: dict[str, list[str]], message: str
) -> None:
    before = contents(copied)
    error = fail(capsys, lambda: search(copied, *arguments.get("more", []), options=arguments.get("options", ())))
    assert message in error
    assert contents(copied) == before
    assert not (copied / "previous").exists()


def in_state(**changes: Any) -> Callable[[Path], None]:
    """Write other values into ``cells_state.pth``."""

    def write(work_dir: Path) -> None:
        state = read_checkpoint(work_dir / "cells_state.pth") | changes
        state["settings"]["selection"] = "perturbation" if changes.get("decisions") else "argmax"
        write_checkpoint(state, work_dir / "cells_state.pth")

    return write


def in_file(name: str, text: str | bytes) -> Callable[[Path], object]:
    return lambda work_dir: (work_dir / name).write_bytes(text.encode() if isinstance(text, str) else text)


def without(*names: str) -> Callable[[Path], object]:
    return lambda work_dir: [(work_dir / name).unlink() for name in names]


@pytest.mark.parametrize(
    ("damages", "message"),
    [
        ([without("cells_state.pth")], "copied' has cells.jsonl but no cells_state.pth: start without --resume, which"),
        (
            [without("cells_state.pth", "cells.jsonl")],
            "copied' has genotype.json but no cells_state.pth: start without",
        ),
        ([in_file("cells.jsonl", "5\n" * 4)], "line 1 of '{}/cells.jsonl' is not a JSON object; start without"),
        ([in_file("cells.jsonl", '{"epoch": 1}\n' * 4)], "line 1 of '{}/cells.jsonl' is not that of epoch 1; start"),
        (
            [in_file("cells.jsonl", b"\xff\xfe\n" * 4)],
            "'{}/cells.jsonl' is not a file of JSON lines: it is no text in UTF-8; start without",
        ),
        (
            [lambda work_dir: write_checkpoint({"state_dict": {}}, work_dir / "cells_state.pth")],
            "'{}/cells_state.pth' is not the state of a search of cells; start without",
        ),
        ([in_state(epoch="x")], "'{}/cells_state.pth' is not the state of a search of cells; start without"),
        ([in_state(model={})], "the weights in '{}/cells_state.pth' are not those of this search; start without"),
        ([in_state(optimizer={})], "the weights in '{}/cells_state.pth' are not those of this search; start without"),
        ([in_state(decisions=3)], "'{}/decisions.jsonl' lacks lines of the 3 decisions; start without"),
        (
            [in_state(decisions=3), in_file("decisions.jsonl", '{"x": 1}\n' * 2)],
            "'{}/decisions.jsonl' lacks lines of the 3 decisions; start without",
        ),
        (
            [in_state(decisions=3), in_file("decisions.jsonl", '{"x": 1}\n' * 3)],
            "line 1 of '{}/decisions.jsonl' is not a decision of this search; start without",
        ),
        (
            [
                in_state(decisions=1),
                in_file("decisions.jsonl", '{"kind": "sources", "cell": "normal", "place": 3, "kept": ["SE"]}\n'),
            ],
            "line 1 of '{}/decisions.jsonl' is not a decision of this search; start without",
        ),
    ],
)
def test_damaged_folders_are_not_resumed(
    damages: list[Callable[[Path], object]], message: str, copied: Path, search: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names the file, and nothing is lost."""
    for damage in damages:
        damage(copied)
    names = [name for name in (*FILES, "decisions.jsonl") if (copied / name).exists()]
    before = [(copied / name).read_bytes() for name in names]
    options = ("search.selection=perturbation",) if len(damages) > 1 or "decisions" in message else ()
    error = fail(capsys, lambda: search(copied, "--resume", options=options))
    assert message.format(copied) in error
    assert error.startswith("error: cannot resume: ")
    assert [(copied / name).read_bytes() for name in names] == before


def test_training_a_config_of_a_search(tool: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = fail(capsys, lambda: tool("train")([CONFIG, "--toy", "--work-dir", str(tmp_path / "new")]))
    assert error == f"error: '{CONFIG}' searches cells: run 'ean search'\n"
    assert not (tmp_path / "new").exists()


def test_folders_of_another_search(
    finished: Path, search: Run, tool: Callable, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scheme.json").write_text("{}")
    assert "holds a search for schemes (scheme.json)" in fail(capsys, lambda: search(tmp_path))
    other = str(ROOT / "configs" / "search" / "se_cifar100.py")
    arguments = [other, "--toy", "--data-root", str(data), "--work-dir", str(finished)]
    assert "holds a search for cells (cells.jsonl)" in fail(capsys, lambda: tool("search")(arguments))
    compare = [CONFIG, "--toy", "--data-root", str(data), "--work-dir", str(tmp_path / "new")]
    assert "searches cells, not schemes" in fail(capsys, lambda: tool("compare_strategies")(compare))
    whole = read_json_lines(finished / "cells.jsonl")
    shutil.copytree(finished, tmp_path / "cut")
    (tmp_path / "cut" / "cells.jsonl").write_text(json.dumps(whole[0]) + "\n")
    assert "lacks lines of the 4 epochs" in fail(capsys, lambda: search(tmp_path / "cut", "--resume"))


def test_a_model_without_a_supernet() -> None:
    with pytest.raises(
        ValueError, match=r"needs model.backbone=dict\(type='ean_core.CellSupernet'\), and Linear has no"
    ):
        cell_training.find_supernet(torch.nn.Linear(2, 2))


def test_a_loss_that_is_not_finite(search: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = fail(capsys, lambda: search(tmp_path, options=("optim_wrapper.optimizer.lr=1e30",)))
    assert "the search diverged in epoch" in error
    assert not (tmp_path / "genotype.json").exists()


def test_the_page_shows_it_while_it_runs(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = read_json_lines(copied / "cells.jsonl")
    for name in ("genotype.json", "search.png"):
        (copied / name).unlink()
    (copied / "cells.jsonl").write_text(json.dumps(history[0]) + "\n")
    searches, drawn = Searches([copied]), []
    monkeypatch.setattr("ean_core.figures.cell_search.draw_search", lambda *args: drawn.append(args) or Figure())
    summary = searches.summary("copied")
    assert summary.state == "not running"
    assert summary.lines == [f"search of cells: epoch 1, training loss {history[0]['train_loss']:.3f}"]
    assert list(summary.pictures) == ["cells"]
    assert searches.picture("copied", "cells").startswith(b"\x89PNG")
    ((genotype, epochs, operations, attentions),) = drawn
    assert genotype.as_dict() == history[0]["genotype"]
    assert epochs == history[:1]
    assert (len(operations), len(attentions)) == tuple(
        np.shape(history[0][kind]["normal"])[1] for kind in ("operations", "attentions")
    )
