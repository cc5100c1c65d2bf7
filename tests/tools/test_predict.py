"""tools/predict.py on what training leaves, and its mistakes in one line."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ean_testing.checkpoints import CLS, classification_config, save

NAMES = ("cat", "dog", "fox", "owl", "ape", "bee", "ant")
Tool = Callable[[list[str]], None]


@pytest.fixture
def predict(tool: Callable[[str], Tool]) -> Callable[..., int]:
    """Runs the tool; returns its exit status."""
    main = tool("predict")

    def run(*argv: object) -> int:
        try:
            main([str(a) for a in argv])
        except SystemExit as stopped:
            return int(stopped.code or 0)
        return 0

    return run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("checkpoint") / "cls.pth", classification_config(), NAMES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{i}.png")
    return tmp_path / "in"


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_trained_segmentation(
    predict: Callable[..., int],
    finished: Path,
    small_voc: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
) -> None:
    """The checkpoint of a training carries its config, class names and colours; no data set is needed."""
    image = next((small_voc / "JPEGImages").glob("*.jpg"))
    monkeypatch.chdir(tmp_path)
    assert predict(finished / "best.pth", image, "--out", "out", "--fuse", "--device", "cpu") == 0
    (row,) = rows(tmp_path / "out")
    shares = {key: float(value) for key, value in row.items() if key.endswith(" %")}
    assert list(shares)[:2] == ["background %", "aeroplane %"]
    assert len(shares) == 21
    assert sum(shares.values()) == pytest.approx(100, abs=0.01)
    assert (tmp_path / "out" / row["picture"]).is_file()
    assert capsys.readouterr() == ("predictions out\n", "")


def test_a_trained_classification(
    predict: Callable[..., int], tool: Callable[[str], Tool], light: None, tmp_path: Path, folder: Path
) -> None:
    from classification.toy_shapes import HUES, make_toy

    data = make_toy(tmp_path / "data", "cifar100", train=4, test=2)
    options = "model.backbone.depth=11 image_size=16 train_cfg.max_epochs=1 train_dataloader.batch_size=12"
    arguments = ["--scheme", "full", "--data-root", str(data), "--cfg-options", *options.split()]
    tool("train")([CLS, *arguments, "--work-dir", str(tmp_path / "run")])
    assert predict(tmp_path / "run" / "last.pth", folder, "--out", tmp_path / "out") == 0
    found = rows(tmp_path / "out")
    assert len(found) == 3
    for row in found:
        names = [row[f"class_{k}"] for k in range(1, 6)]
        assert len(set(names)) == 5
        assert set(names) <= set(HUES)
        scores = [float(row[f"score_{k}"]) for k in range(1, 6)]
        assert scores == sorted(scores, reverse=True)
        assert 0 < sum(scores) <= 1 + 1e-6


@pytest.mark.parametrize("order", ["plain", "options first", "options between", "with a config"])
def test_arguments_in_any_order(
    predict: Callable[..., int], checkpoint: Path, folder: Path, tmp_path: Path, order: str
) -> None:
    out = ["--out", tmp_path / "out", "--batch", 2]
    config = tmp_path / "mine.py"
    classification_config().dump(config)
    argv = {
        "plain": [checkpoint, folder, *out],
        "options first": [*out, checkpoint, folder],
        "options between": [config, *out, checkpoint, folder / "0.png", folder / "*.png"],
        "with a config": [config, checkpoint, *sorted(folder.iterdir()), *out],
    }[order]
    assert predict(*argv) == 0
    names = [*(f"{number}.png.png" for number in range(3)), "predictions.csv"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names


def test_damaged_images_are_listed_at_the_end(
    predict: Callable[..., int], checkpoint: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "1.png").write_text("no image")
    assert predict(checkpoint, folder, "--out", tmp_path / "out") == 2
    said = capsys.readouterr()
    assert said.out == f"predictions {tmp_path / 'out'}\n"
    assert said.err == f"failed      image '{folder / '1.png'}' cannot be read: it is no image, or damaged\n"
    assert [Path(row["image"]).name for row in rows(tmp_path / "out")] == ["0.png", "2.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["CHECKPOINT"], "name a checkpoint and at least one image"),
        (["nowhere.pth", "FOLDER"], "checkpoint 'nowhere.pth' does not exist"),
        (["nowhere.py", "CHECKPOINT", "FOLDER"], "config 'nowhere.py' does not exist"),
        (["CHECKPOINT", "nowhere.jpg"], "there is no image, folder or video 'nowhere.jpg'"),
        (["CHECKPOINT", "FOLDER", "--device", "cuda:99"], "device 'cuda:99' cannot be used"),
        (["CHECKPOINT", "FOLDER", "--device", "meta"], "device 'meta' cannot be used"),
        (["CHECKPOINT", "FOLDER", "--device", "mps"], "device 'mps' cannot be used"),
        (["CHECKPOINT", "FOLDER", "--device", "xla"], "device 'xla' cannot be used"),
        (["CHECKPOINT", "FOLDER", "--batch", "0"], "--batch must be at least 1, got 0"),
        (["CHECKPOINT", "FOLDER", "--size", "0"], "--size must be at least 1, got 0"),
        (["CHECKPOINT", "FOLDER", "--out", "FOLDER"], "choose another --out"),
    ],
)
def test_mistakes(
    predict: Callable[..., int],
    checkpoint: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = {"CHECKPOINT": str(checkpoint), "FOLDER": str(folder)}
    argv = [words.get(a, a) for a in arguments]
    assert predict(*argv, *([] if "--out" in argv else ["--out", "out"])) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert message in said.err
    assert not (tmp_path / "out").exists()


def test_a_damaged_video_is_one_line(
    predict: Callable[..., int], checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """FFmpeg writes its own lines from C, past Python's streams."""
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(500))
    (tmp_path / "film%03d.avi").write_bytes(b"no film")
    for name in ("film.mp4", "film%03d.avi"):
        assert predict(checkpoint, tmp_path / name, "--out", tmp_path / "out") == 2
        said = capfd.readouterr()
        assert said.err == (
            f"failed      video '{tmp_path / name}' cannot be read: it is damaged, or its format is unknown to OpenCV\n"
        )


def test_types_that_are_trusted(
    predict: Callable[..., int],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "abroad.py").write_text("from torch import nn\nclass Still(nn.Identity):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    cfg = classification_config()
    cfg.model.backbone.attention = {"type": "abroad.Still"}
    path = save(tmp_path / "x.pth", cfg, ())
    assert predict(path, folder, "--out", tmp_path / "out", "--trust", "torch.nn.ReLU") == 2
    said = capsys.readouterr().err
    assert "builds 'abroad.Still', which is not a registered model part" in said
    assert "--trust abroad.Still" in said
    assert predict("--trust", "abroad.Other", "--trust", "abroad.Still", path, folder, "--out", tmp_path / "out") == 0
    assert len(rows(tmp_path / "out")) == 3
