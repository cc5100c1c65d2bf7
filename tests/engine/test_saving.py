"""last.pth and best.pth, and files that are never half-written."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mmengine.logging import MessageHub

from ean_core.engine import SaveHook
from ean_core.files import build_once, write_atomic


class FakeRun(SimpleNamespace):
    """As much of a runner as the hook looks at; a checkpoint is the epoch that it was saved at."""

    def __init__(self, work_dir: Path, epoch: int = 0) -> None:
        super().__init__(work_dir=str(work_dir), epoch=epoch, iter=10 * epoch)
        self.message_hub = MessageHub.get_instance(str(work_dir))

    def save_checkpoint(self, folder: str, name: str, meta: dict[str, Any], **_: Any) -> None:
        Path(folder, name).write_text(str(meta["epoch"]))

    def train(self, hook: SaveHook, scores: list[float]) -> None:
        hook.before_train(self)
        for score in scores:
            hook.before_train_epoch(self)
            self.epoch += 1
            hook.after_val_epoch(self, {"score": score, "other": -score})
        hook.after_train(self)


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("rule", "scores", "best"),
    [
        ("greater", [1.0, 3.0, 2.0], 2),
        ("less", [3.0, 1.0, 2.0], 2),
        ("greater", [0.0, 0.0], 1),
        ("greater", [math.nan, 1.0, math.nan], 2),
        ("less", [5.0, math.nan], 1),
    ],
)
def test_best_and_last(tmp_path, rule, scores, best):
    run = FakeRun(tmp_path)
    run.train(SaveHook("score", rule), scores)
    assert files(tmp_path) == {"best.pth": str(best), "last.pth": str(len(scores))}
    assert run.message_hub.get_info("best_score") == scores[best - 1]
    assert run.message_hub.get_info("best_epoch") == best


def test_nan_is_never_best(tmp_path):
    FakeRun(tmp_path).train(SaveHook("score"), [math.nan, math.nan])
    assert files(tmp_path) == {"last.pth": "2"}


def test_another_metric_says_nothing(tmp_path):
    FakeRun(tmp_path).train(SaveHook("mIoU"), [1.0])
    assert files(tmp_path) == {"last.pth": "1"}


def test_a_resumed_run_keeps_a_better_best(tmp_path):
    FakeRun(tmp_path).train(SaveHook("score"), [5.0])
    FakeRun(tmp_path, epoch=1).train(SaveHook("score"), [4.0])  # best_score comes back with the message hub
    assert files(tmp_path) == {"best.pth": "1", "last.pth": "2"}


def test_nothing_is_saved_before_the_first_epoch(tmp_path):
    hook, run = SaveHook("score"), FakeRun(tmp_path, epoch=3)
    hook.before_train(run)
    hook.before_train_epoch(run)
    hook.after_train(run)
    assert files(tmp_path) == {}


def test_interval(tmp_path):
    hook, run = SaveHook("score", interval=2), FakeRun(tmp_path)
    hook.before_train(run)
    saved = []
    for run.epoch in range(1, 6):
        hook.before_train_epoch(run)
        saved.append(files(tmp_path).get("last.pth"))
    assert saved == [None, "2", "2", "4", "4"]
    hook.after_train(run)
    assert files(tmp_path)["last.pth"] == "5"


def test_a_save_that_fails_leaves_the_old_files(tmp_path):
    run = FakeRun(tmp_path)
    run.train(SaveHook("score"), [1.0])

    def full(folder, name, **_):
        Path(folder, name).write_text("ha")
        raise OSError("the disk is full")

    run.save_checkpoint = full
    with pytest.raises(OSError, match="full"):
        run.train(SaveHook("score"), [2.0])
    run.epoch = 5
    with pytest.raises(OSError, match="full"):
        SaveHook("score")._save(run, "last.pth", 5)
    left = files(tmp_path)
    assert (left["last.pth"], left["best.pth"]) == ("1", "1")


def test_unknown_rule():
    with pytest.raises(ValueError, match="'greater' or 'less', got 'larger'"):
        SaveHook("score", rule="larger")


@pytest.mark.parametrize(("data", "expected"), [("é\n", b"\xc3\xa9\n"), (b"\x00\xff", b"\x00\xff")])
def test_write_atomic(tmp_path, data, expected):
    path = tmp_path / "new" / "folder" / "file"
    write_atomic(path, "old")
    write_atomic(path, data)
    assert path.read_bytes() == expected
    assert list(path.parent.iterdir()) == [path]


def test_write_atomic_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, "old")

    def half(self, data):
        with self.open("wb") as file:
            file.write(data[:1])
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="full"):
        write_atomic(path, "new")
    assert files(tmp_path) == {"file": "old"}


def test_build_once_keeps_what_another_process_made_meanwhile(tmp_path):
    target = tmp_path / "sub" / "set"

    def build(folder):
        (folder / "content").write_text("mine")
        target.mkdir()
        (target / "content").write_text("of the first")

    for _ in range(2):
        assert build_once(target, build) == target
        assert (target / "content").read_text() == "of the first"
    assert [path.name for path in target.parent.iterdir()] == ["set"]


def test_build_once_leaves_nothing_of_a_failure(tmp_path):
    def build(folder):
        (folder / "content").write_text("half")
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        build_once(tmp_path / "set", build)
    assert list(tmp_path.iterdir()) == []
