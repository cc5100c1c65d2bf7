"""Files that are damaged, too large or somebody else's: a line each, before a training or beside what is predicted."""

import re
import resource
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ean_testing.checkpoints import classification_config, save
from ean_testing.damage import bomb, bound_by_permissions, make_unreadable, with_wrong_check_sum

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def refused(tool, capsys):
    """``refused(name, *argv)``: what the tool, bound by permissions, says before it exits with 2."""

    def run(name: str, *argv: object) -> str:
        with bound_by_permissions(), pytest.raises(SystemExit) as stopped:
            tool(name)([str(a) for a in argv])
        out, err = capsys.readouterr()
        assert stopped.value.code == 2
        assert re.fullmatch(r"(checking    the data in .*\n)?", out)
        assert "Traceback" not in err
        return err.removeprefix("error: ").removesuffix("\n")

    return run


@pytest.fixture
def data(small_voc, tmp_path):
    return Path(shutil.copytree(small_voc, tmp_path / "own"))


def test_no_training_starts_on_damaged_files(refused, config, tiny, data, tmp_path):
    """Nor does their check take the memory that they claim."""
    images, masks = (sorted((data / name).iterdir()) for name in ("JPEGImages", "SegmentationClassAug"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    images[0].write_bytes(bomb("JPEG"))
    masks[1].write_bytes(bomb("PNG"))
    masks[2].write_bytes(with_wrong_check_sum(masks[2].read_bytes()))
    make_unreadable(images[3])
    options = ["--data-root", data, "--work-dir", tmp_path / "work"]
    head, *lines = refused("train", config, *tiny, *options).splitlines()
    assert head.startswith("4 problems in the 8 images and masks of ")
    for path, line, reason in zip(
        (images[0], masks[1], masks[2], images[3]), lines, ("too large", "too large", "damaged", "no permission"),
        strict=True,
    ):  # fmt: skip
        assert f"{path.parent.name}/{path.name}: not readable as an image ({reason}" in line
    assert not list(tmp_path.rglob("*.pth"))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 2**30  # bytes; one of the images has ten times that


@pytest.mark.parametrize("what", ["list", "config", "base", "scheme", "names", "pretrained", "checkpoint"])
def test_no_training_starts_on_files_of_somebody_else(refused, config, tiny, data, tmp_path, what):
    own = tmp_path / "own_config.py"
    own.write_text(f"_base_ = '{config}'\n")
    path, arguments = {
        "list": (data / "ImageSets" / "Segmentation" / "train_aug.txt", []),
        "config": (own, []),
        "base": (tmp_path / "base.py", []),
        "scheme": (tmp_path / "scheme.json", ["--scheme"]),
        "names": (tmp_path / "names.txt", ["--classes"]),
        "pretrained": (tmp_path / "weights.pth", ["--pretrained"]),
        "checkpoint": (tmp_path / "last.pth", ["--resume"]),
    }[what]
    if what == "base":
        own.write_text(f"_base_ = '{path}'\n")
    if not path.exists():
        path.write_text("")
    make_unreadable(path)
    options = [*arguments, *([path] if arguments else []), "--data-root", data, "--work-dir", tmp_path / "work"]
    said = refused("train", own, *tiny, *options)
    assert "\n" not in said
    assert str(path) in said
    assert "permission" in said.lower()
    assert not list(tmp_path.rglob("history.jsonl"))


def test_prediction_goes_on_beside_them(tool, tmp_path, capsys):
    """A line for each file that cannot be read; the others are predicted."""
    folder = tmp_path / "in"
    folder.mkdir()
    good = Image.fromarray(np.zeros((20, 30, 3), np.uint8))
    bad = {"a.jpg": bomb("JPEG"), "b.png": bomb("PNG"), "c.tif": bomb("TIFF"), "d.png": b""}
    for name, content in bad.items():
        (folder / name).write_bytes(content)
    for name in ("e.png", "f.png"):
        good.save(folder / name)
    make_unreadable(folder / "e.png")
    checkpoint = save(tmp_path / "cls.pth", classification_config(), tuple("abcdefg"))
    with bound_by_permissions(), pytest.raises(SystemExit) as stopped:
        tool("predict")([str(checkpoint), str(folder), "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5, lines
    for name, reason in zip(bad, ("too large", "too large", "too large", "no image"), strict=True):
        assert sum(f"'{folder / name}'" in line and reason in line for line in lines) == 1
    assert sum("e.png" in line and "no permission" in line for line in lines) == 1
    assert (tmp_path / "out" / "predictions.csv").read_text().count("\n") == 2


def test_the_checkpoint_of_somebody_else(refused, tmp_path):
    path = make_unreadable(save(tmp_path / "cls.pth", classification_config(), tuple("abcdefg")))
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    said = refused("predict", path, tmp_path / "a.png", "--out", tmp_path / "out")
    assert "\n" not in said
    assert str(path) in said
    assert "permission" in said.lower()
