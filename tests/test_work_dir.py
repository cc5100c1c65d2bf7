"""One run at a time in a work directory, room on the disk, and nothing left of a run that never began."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.logging import MMLogger

from ean_core import work_dir
from ean_core.errors import UserError
from ean_core.work_dir import begin, require_space, set_aside, working_in
from ean_testing.runs import new_name

ROOT = Path(__file__).resolve().parents[1]
HOLDS = """
import sys, time
from pathlib import Path
from ean_core.work_dir import begin, working_in

with working_in(Path(sys.argv[1])):
    begin()
    print("ready", flush=True)
    time.sleep(60)
"""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_second_run_is_refused(tmp_path):
    """By another process: its number, host and start are told. A kill leaves files, and nothing is in the way."""
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            said = (
                rf"another run has the work directory '{tmp_path}': process {process.pid} on {socket.gethostname()}, "
                r"since 20\d\d-.*; wait for it, or choose another --work-dir"
            )
            for _ in range(2):  # the refusal does not spoil what the next one reads
                with pytest.raises(UserError, match=said), working_in(tmp_path):
                    pass
            with working_in(tmp_path, alone=False):  # a test beside it
                pass
        finally:
            os.kill(process.pid, signal.SIGKILL)
    assert names(tmp_path) == {".run.lock", ".run.json"}
    with working_in(tmp_path):
        begin()
        assert json.loads((tmp_path / ".run.json").read_text())["process"] == os.getpid()
    assert names(tmp_path) == set()


def test_runs_within_each_other(tmp_path):
    with working_in(tmp_path), working_in(tmp_path / "supernet"):
        with pytest.raises(UserError, match=f"process {os.getpid()} on"), working_in(tmp_path):
            pass
        begin()


def test_an_owner_that_cannot_be_read(tmp_path):
    with working_in(tmp_path):
        for text in ("", "[]", '{"process": 1}'):
            (tmp_path / ".run.json").write_text(text)
            with pytest.raises(UserError, match="a process that has just begun"), working_in(tmp_path):
                pass


def test_parts_of_a_killed_process_are_removed(tmp_path):
    for name in (".last.77.part.pth", ".test.77.part.json", ".last.new.part.pth", "last.pth"):
        (tmp_path / name).touch()
    with working_in(tmp_path, ["last.pth"]):
        begin()
    assert names(tmp_path) == {".test.77.part.json", ".last.new.part.pth", "last.pth"}


def fail_in(folder: Path, log: Path, begun: bool) -> None:
    with working_in(folder), working_in(folder / "supernet"):
        log.mkdir(parents=True)
        MMLogger.get_instance(new_name(), log_file=str(log / "run.log")).info("built")
        if begun:
            begin()
        raise ValueError("wrong")


@pytest.mark.parametrize("begun", [False, True])
def test_what_a_failed_start_leaves(tmp_path, begun):
    """Of folders of logs only its own are removed."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "20200101_000000").mkdir()
    for folder in (tmp_path / "there", tmp_path / "new" / "inner"):
        before = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
        log = folder / "supernet" / "20260101_000000"
        with pytest.raises(ValueError, match="wrong"):
            fail_in(folder, log, begun)
        after = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
        assert (after == before) is not begun
        assert log.exists() is begun


def test_a_failed_start_leaves_what_others_log(tmp_path):
    """A log of one's own lies in the work directory itself, or in a folder that was there; a path may have dots."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "best.pth").touch()

    def fail():
        with working_in(tmp_path / "mine" / ".."):
            for folder in (tmp_path, tmp_path / "mine", tmp_path / "20260101_000000"):
                folder.mkdir(exist_ok=True)
                MMLogger.get_instance(new_name(), log_file=str(folder / "own.log")).info("built")
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        fail()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {"best.pth", "own.log", "mine", "mine/own.log"}


def test_files_of_ones_own_stay_in_previous(tmp_path):
    (tmp_path / "previous").mkdir()
    for name in ("a.pth", "previous/a.pth", "previous/b.pth", "previous/mine.txt"):
        (tmp_path / name).write_text(name)
    set_aside(tmp_path, ["a.pth", "b.pth"])
    left = {path.name: path.read_text() for path in (tmp_path / "previous").iterdir()}
    assert left == {"a.pth": "a.pth", "mine.txt": "previous/mine.txt"}
    set_aside(tmp_path, ["a.pth", "b.pth"])
    assert (tmp_path / "previous" / "a.pth").read_text() == "a.pth"


def test_room_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=3_000_000))
    require_space(tmp_path, 1_000_000)
    with pytest.raises(UserError, match=rf"'{tmp_path}' has 3.0 MB free, and the run needs about 2.0 GB: make room"):
        require_space(tmp_path, 2_000_000_000)
    monkeypatch.setattr(work_dir, "launched_rank", lambda: 1)
    require_space(tmp_path / "missing", 2_000_000_000)
