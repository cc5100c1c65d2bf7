"""A user's mistake ends in one line that says what is wrong and what to do, and costs no earlier results."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch

from ean_core.work_dir import working_in
from segmentation.voc import encode_mask

ROOT = Path(__file__).resolve().parents[2]


class Mistakes:
    """Runs the tools on wrong arguments."""

    def __init__(self, tool, config, tiny, work_dir, capsys) -> None:
        self.tool, self.config, self.tiny, self.work_dir, self.capsys = tool, config, tiny, work_dir, capsys

    def train(self, *arguments: object, config: object = None) -> str:
        """What tools/train.py says of these arguments after the tiny ones; they may begin with config options."""
        return self.message("train", config or self.config, *self.tiny, *arguments)

    def test(self, checkpoint: object, *arguments: object) -> str:
        """What tools/test.py says."""
        return self.message("test", self.config, checkpoint, *self.tiny, *arguments)

    def message(self, name: str, *argv: object) -> str:
        with pytest.raises(SystemExit) as stopped:
            self.tool(name)([str(a) for a in (*argv, "--work-dir", self.work_dir)])
        assert stopped.value.code == 2
        out, err = self.capsys.readouterr()
        assert re.fullmatch(r"(checking    the data in .*\n)?", out)
        assert err.startswith("error: ")
        assert err.endswith("\n")
        assert "Traceback" not in err
        return err.removeprefix("error: ").removesuffix("\n")


@pytest.fixture
def work_dir(tmp_path):
    """A work directory with the results of an earlier run, which no mistake may touch."""
    folder = tmp_path / "work"
    folder.mkdir()
    earlier = {"last.pth": "the last", "best.pth": "the best", "history.jsonl": ""}
    for name, text in earlier.items():
        (folder / name).write_text(text)
    yield folder
    assert {path.name for path in folder.iterdir()} == earlier.keys()
    assert {name: (folder / name).read_text() for name in earlier} == earlier
    assert not (folder / "previous").exists()


@pytest.fixture
def mistakes(tool, config, tiny, run_name, work_dir, capsys, light):
    return Mistakes(tool, config, [*tiny, run_name], work_dir, capsys)


@pytest.fixture
def data(small_voc, tmp_path):
    """A copy of the small data set to break."""
    return Path(shutil.copytree(small_voc, tmp_path / "own"))


def assert_says(message: str, *parts: str) -> None:
    """It is a single line with all these parts."""
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["model.backbone.attention.type=SEE"], ["SEE"]),
        (["head=pps"], ["unknown head 'pps'", "psp, fcn, deeplabv3"]),
        (["inference=sliding"], ["'whole' or 'slide'", "'sliding'"]),
        (["model.backbone.depth=19"], ["depth 19", "18, 34, 50"]),
        (["--scheme", "11-11-11"], ["'11-11-11' does not fit", "8 bits, 2-2-2-2 a stage"]),
        (["--scheme", "paper/imagenet"], ["paper/imagenet"]),
        (["--scheme", "nowhere/scheme.json"], ["nowhere/scheme.json", "does not exist"]),
        (["model.backbone.scheme=0101"], ["got 101", "put dashes between the stages"]),
        (["train_dataloader.batch_size=99"], ["fewer training images (8)", "train_dataloader.batch_size (99)"]),
        (["train_list=trian"], ["trian.txt", "train, train_aug, val"]),
        (["--data-root", "nowhere/VOC2012"], ["'nowhere/VOC2012' does not exist", "prepare_data voc2012"]),
        (["--classes", "nowhere.txt"], ["'nowhere.txt' does not exist"]),
        (["--pretrained", "nowhere.pth"], ["'nowhere.pth' do not exist"]),
        (["--resume", "nowhere.pth"], ["'nowhere.pth' does not exist", "without --resume"]),
        (["--launcher", "pytorch"], ["torchrun --nproc_per_node"]),
    ],
    ids=lambda value: " ".join(value) if "=" in value[0] or "--" in value[0] else "",
)
def test_options(mistakes, options, parts, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if options[0].startswith("model.backbone.scheme"):
        mistakes.tiny = [option for option in mistakes.tiny if option not in ("--scheme", "full")]
    assert_says(mistakes.train(*options), *parts)


def test_one_class_name(mistakes, tmp_path):
    (tmp_path / "names.txt").write_text("background\n\n")
    assert_says(mistakes.train("--classes", tmp_path / "names.txt"), "names.txt", "1 class", "at least two")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("model = dict(\n", ["mine.py' cannot be read", "'('"]),
        ("model = dict(type=Unknown)\n", ["mine.py' cannot be read", "Unknown"]),
        ("_base_ = 'nowhere.py'\n", ["No such file", "nowhere.py"]),
        ("model = dict()\n", ["mine.py' names no task", "task = 'segmentation'"]),
        ("task = 'nothing'\n", ["unknown task 'nothing'"]),
    ],
    ids=["syntax", "name", "base", "no task", "unknown task"],
)
def test_config(mistakes, tmp_path, text, parts):
    path = tmp_path / "mine.py"
    path.write_text(text)
    mistakes.tiny = []
    assert_says(mistakes.train(config=path), *parts)


def test_missing_config(mistakes):
    wrong = mistakes.config.replace("ean_se", "ean_es")
    assert_says(mistakes.train(config=wrong), f"'{wrong}' does not exist", f"did you mean '{mistakes.config}'?")


def test_in_a_process_of_its_own():
    run = subprocess.run(
        [sys.executable, "tools/train.py", "missing.py"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert (
        run.stderr
        == "error: config 'missing.py' does not exist: name a file, or one of those that 'ean configs' lists\n"
    )


def test_empty_folder_of_data(mistakes, tmp_path):
    (tmp_path / "empty").mkdir()
    assert_says(mistakes.train("--data-root", tmp_path / "empty"), str(tmp_path / "empty"), "lists there: none")


def test_empty_list(mistakes, data):
    (data / "ImageSets" / "Segmentation" / "val.txt").write_text("\n")
    assert_says(mistakes.train("--data-root", data), "val.txt is empty", "write one image id a line")


def test_missing_image(mistakes, data):
    for path in (data / "JPEGImages").iterdir():
        path.unlink()
    assert_says(mistakes.train("--data-root", data), "is not in", "JPEGImages", "take its id out")


def data_problem(message: str) -> str:
    """The only problem that the data check lists, below the line that says what to do."""
    head, problem = message.splitlines()
    assert head.startswith("1 problem in the 8 images and masks of ")
    assert "correct them" in head
    return problem.strip()


def test_label_beyond_the_classes(mistakes, data):
    mask = sorted((data / "SegmentationClassAug").iterdir())[2]
    mask.write_bytes(encode_mask(np.full((48, 48), 21, np.uint8)))
    problem = data_problem(mistakes.train("--data-root", data))
    assert problem.startswith(f"SegmentationClassAug/{mask.name}: label 21 is neither below num_classes=21 nor 255")


def test_truncated_image(mistakes, data):
    image = sorted((data / "JPEGImages").iterdir())[0]
    image.write_bytes(image.read_bytes()[:-300])
    assert (
        data_problem(mistakes.train("--data-root", data)) == f"JPEGImages/{image.name}: truncated, its end is missing"
    )


def test_checkpoint_of_another_depth(mistakes, finished):
    message = mistakes.test(finished / "best.pth", "model.backbone.depth=34")
    assert_says(
        message, str(finished / "best.pth"), "does not fit the model", "is missing", "trained with another depth"
    )


def test_checkpoint_of_another_scheme(mistakes, finished):
    assert_says(mistakes.test(finished / "best.pth", "--scheme", "none"), "is not in the model", "scheme")


def test_truncated_checkpoint(mistakes, tmp_path):
    path = tmp_path / "cut.pth"
    torch.save({"state_dict": {"weight": torch.zeros(1000)}}, path)
    path.write_bytes(path.read_bytes()[:2000])
    said = f"'{path}' cannot be read: it is truncated"
    assert_says(mistakes.test(path), said)
    assert_says(mistakes.train("--resume", path), said)
    assert_says(mistakes.train("--pretrained", path), said)


def test_missing_checkpoint(mistakes):
    assert_says(mistakes.test("nowhere.pth"), "'nowhere.pth' does not exist")


def test_pretrained_weights_of_another_depth(mistakes, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    assert_says(mistakes.train("--pretrained", path), "does not cover the backbone", "another depth")


def test_pretrained_weights_without_a_network(mistakes, monkeypatch):
    def offline(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    message = mistakes.train("--pretrained", "torchvision")
    assert_says(message, "torchvision://resnet18", "could not be downloaded", "no route to host", "pass its path")


@pytest.mark.parametrize("name", ["train", "test"])
def test_work_dir_that_cannot_be(mistakes, tmp_path, finished, name):
    (tmp_path / "file").touch()
    mistakes.work_dir = tmp_path / "file" / "work"
    message = mistakes.train() if name == "train" else mistakes.test(finished / "best.pth")
    assert_says(message, f"'{mistakes.work_dir}' is not writable", "choose --work-dir")


def test_a_run_beside_another(mistakes, work_dir):
    with working_in(work_dir):
        assert_says(mistakes.train(), "another run has the work directory", f"process {os.getpid()} on", "--work-dir")
        shutil.copy(work_dir / ".run.json", work_dir.parent / "owner")
    assert json.loads((work_dir.parent / "owner").read_text())["process"] == os.getpid()


def test_no_room_on_the_disk(mistakes, monkeypatch):
    """Weights, momentum and the best weights, and a file beside them: about 250 MB for a ResNet-18."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=200_000_000))
    assert_says(mistakes.train(), f"disk of '{mistakes.work_dir}' has 200.0 MB free", "needs about 25", "make room")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    assert_says(mistakes.train(), "has 0.0 MB free", "needs about 1.0 MB")


@pytest.mark.parametrize("line", ["3", "[]", "{}", '{"mode": "train", "epoch": "x", "iter": 1}', "[" * 99_999])
def test_damaged_history(mistakes, work_dir, finished, line):
    shutil.copy(finished / "history.jsonl", work_dir.parent / "whole")
    (work_dir / "history.jsonl").write_text((work_dir.parent / "whole").read_text() + line + "\n")
    number = len((work_dir / "history.jsonl").read_text().splitlines())
    said = mistakes.train("--resume", finished / "last.pth")
    assert_says(said, f"line {number} of '{work_dir / 'history.jsonl'}'")
    (work_dir / "history.jsonl").write_text("")


def test_a_start_that_fails_makes_no_folder(mistakes, tmp_path, finished):
    mistakes.work_dir = tmp_path / "new" / "folder"
    path = tmp_path / "weights.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    mistakes.train("--pretrained", path)
    mistakes.train("model.backbone.depth=34", "--resume", finished / "last.pth")
    mistakes.test(finished / "best.pth", "model.backbone.depth=34")
    assert not (tmp_path / "new").exists()


def test_nothing_to_resume(mistakes, tmp_path):
    mistakes.work_dir = tmp_path / "new"
    assert_says(mistakes.train("--resume"), f"'{tmp_path / 'new' / 'last.pth'}' does not exist", "without --resume")
    assert not (tmp_path / "new").exists()
