"""A run that was stopped and resumed is the run that was not stopped, bit for bit."""

import json
import os
import random
import re
import resource
import shlex
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from ean_core.checkpoint import read_checkpoint
from ean_core.engine import ReseedHook, SaveHook, reproduce, seed_worker
from ean_core.files import read_json_lines
from ean_testing.fresh import start_program
from ean_testing.runs import interrupt

ROOT = Path(__file__).resolve().parents[2]
ITERATIONS = 4  # of an epoch

# tools/train.py in a process that kills itself in the middle of the second epoch
KILLED = """
import os, runpy, signal, sys
from ean_core.engine import ReseedHook

def kill(self, runner, *args, **kwargs):
    if runner.iter == 5:
        os.kill(os.getpid(), signal.SIGKILL)

ReseedHook.after_train_iter = kill
sys.argv[0] = "tools/train.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def assert_equal(a: Any, b: Any, where: str = "") -> None:
    """Nested containers hold the same values; tensors to the last bit."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}[{i}]")
    else:
        assert a == b, where


def assert_same_run(a: Path, b: Path) -> None:
    for name in ("history.jsonl", "metrics.json"):
        assert (a / name).read_text() == (b / name).read_text()
    for name in ("last.pth", "best.pth"):
        one, two = read_checkpoint(a / name), read_checkpoint(b / name)
        assert_equal(one["state_dict"], two["state_dict"], name)
        assert_equal(one.get("optimizer"), two.get("optimizer"), name)
        assert_equal(one.get("param_schedulers"), two.get("param_schedulers"), name)
        for key in ("epoch", "iter"):
            assert one["meta"][key] == two["meta"][key]
        for key in ("best_score", "best_epoch"):
            assert one["message_hub"]["runtime_info"][key] == two["message_hub"]["runtime_info"][key]


def test_the_reference_run_draws_random_numbers(finished):
    """Otherwise the comparisons below would say little: two epochs see other crops, and the run has momentum."""
    losses = [entry["loss"] for entry in read_json_lines(finished / "history.jsonl") if entry["mode"] == "train"]
    assert len(set(losses)) == len(losses) == 3 * ITERATIONS
    state = read_checkpoint(finished / "last.pth")["optimizer"]["state"]
    assert all(entry["momentum_buffer"].any() for entry in list(state.values())[:3])


def test_killed_in_an_epoch_and_resumed(tmp_path, finished, train, config, tiny):
    process, _ = start_program(KILLED, config, *tiny, "--work-dir", str(tmp_path))
    process.join(timeout=120)
    assert process.exitcode == -9
    lines = read_json_lines(tmp_path / "history.jsonl")
    assert [line["iter"] for line in lines if line["mode"] == "train"][-1] > ITERATIONS
    assert read_checkpoint(tmp_path / "last.pth")["meta"]["epoch"] == 1
    assert not (tmp_path / "metrics.json").exists()

    train(tmp_path, "--resume")
    assert_same_run(tmp_path, finished)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_at_any_moment(tmp_path, finished, train, config, tiny, number, status):
    """It says how to go on, leaves nothing half, and the run that goes on is one that was never stopped."""
    options = [config, *tiny, "--work-dir", str(tmp_path)]
    process, answer = start_program(ROOT / "tools" / "train.py", *options)
    until = time.monotonic() + 120
    while not (tmp_path / "environment.json").is_file() and process.is_alive() and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 2))
    os.kill(process.pid or 0, number)
    ran = answer.recv()
    process.join()
    left = {path.name for path in tmp_path.iterdir()}
    assert not [name for name in left if ".part" in name or ".run." in name]
    if ran.status:  # else it was too late
        assert ran.status == status
        assert "Traceback" not in ran.err
        line = ran.err.splitlines()[-1]
        command = shlex.join(["python", str(ROOT / "tools" / "train.py"), *options])
        where = r"interrupted in (the first iteration|(the validation of )?epoch [123])"
        saved = "last.pth" in left
        how = f": go on with '{command} --resume'" if saved else f": start again with '{command}'"
        assert re.fullmatch(where + re.escape(how), line), line
        train(tmp_path, *(["--resume"] if saved else []))
    assert_same_run(tmp_path, finished)


def test_a_disk_that_is_full_in_the_middle(tmp_path, finished, train, monkeypatch, capsys, request):
    """One line that names the file; what was written before is whole, and the run can go on."""
    save, before = SaveHook._save, resource.getrlimit(resource.RLIMIT_FSIZE)
    request.addfinalizer(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before))

    def fill(self, runner, name, epoch, **options):
        if epoch == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
        save(self, runner, name, epoch, **options)

    with monkeypatch.context() as patch:
        patch.setattr(SaveHook, "_save", fill)
        with pytest.raises(SystemExit) as stopped:
            train(tmp_path)
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert stopped.value.code == 2
    assert re.fullmatch(rf"error: File too large: '{tmp_path}/(best|last).pth'\n", capsys.readouterr().err)
    assert not [path for path in tmp_path.iterdir() if ".part" in path.name]
    assert read_checkpoint(tmp_path / "last.pth")["meta"]["epoch"] == 1
    train(tmp_path, "--resume")
    assert_same_run(tmp_path, finished)


def test_interrupted_and_resumed_with_workers(tmp_path, train):
    options = ["train_dataloader.num_workers=2", "train_cfg.max_epochs=2"]
    through = train(tmp_path / "through", *options)
    interrupt(lambda: train(tmp_path / "stopped", *options), ITERATIONS + 1)
    assert_same_run(train(tmp_path / "stopped", *options, "--resume"), through)


def test_resume_with_more_epochs_follows_the_longer_schedule(tmp_path, finished, train, recwarn):
    shutil.copy(finished / "history.jsonl", tmp_path)
    train(tmp_path, "train_cfg.max_epochs=4", "--resume", str(finished / "last.pth"))
    lines = [entry for entry in read_json_lines(tmp_path / "history.jsonl") if entry["mode"] == "train"]
    assert [entry["iter"] for entry in lines] == list(range(1, 4 * ITERATIONS + 1))
    total = 4 * ITERATIONS
    for entry in lines[3 * ITERATIONS :]:
        assert entry["lr"] == pytest.approx(0.1 * (1 - (entry["iter"] - 1) / (total - 1)) ** 0.9, abs=1e-12)
    assert lines[3 * ITERATIONS]["lr"] > 0.02
    assert json.loads((tmp_path / "metrics.json").read_text())["last"]["epoch"] == 4
    assert not [warning for warning in recwarn if "scheduler" in str(warning.message)]  # nobody called anything early


def test_resuming_a_finished_run_changes_nothing(tmp_path, finished, train):
    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    before = (copy / "last.pth").stat().st_mtime_ns
    train(copy, "--resume")
    assert_same_run(copy, finished)
    assert (copy / "last.pth").stat().st_mtime_ns == before


def draw(epoch: int, rank: int, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> tuple[float, ...]:
    """The first numbers of Python, NumPy and torch in an epoch."""
    monkeypatch.setattr(reproduce, "get_rank", lambda: rank)
    ReseedHook().before_train_epoch(SimpleNamespace(seed=seed, epoch=epoch))
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_draws_depend_on_seed_epoch_and_rank(monkeypatch):
    draws = [
        draw(epoch, rank, monkeypatch, seed)
        for seed, epoch, rank in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (1, 1, 0)]
    ]
    for numbers in zip(*draws, strict=True):
        assert len(set(numbers)) == len(draws)
    assert draw(1, 1, monkeypatch) == draws[4]


class Draws(Dataset):
    """Items that are drawn in the worker: (Python's, NumPy's, torch's)."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([random.random(), np.random.rand(), torch.rand(()).item()], dtype=torch.float64)


def test_workers_draw_anew_in_every_epoch(monkeypatch):
    loader = DataLoader(Draws(), batch_size=1, num_workers=2, worker_init_fn=seed_worker)  # one item a worker

    def epoch(number: int) -> list[list[float]]:
        draw(number, 0, monkeypatch)
        return [batch[0].tolist() for batch in loader]

    first, second = epoch(0), epoch(1)
    for numbers in zip(*(first + second), strict=True):
        assert len(set(numbers)) == 4
    assert epoch(0) == first
