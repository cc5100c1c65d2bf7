"""tools/export.py: what it prints, what it writes, and its mistakes in one line."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import ean_core.inference.export as exporting
from ean_testing.checkpoints import classification_config, save

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
NAMES = ("cat", "dog", "fox", "owl", "ape", "bee", "ant")


@pytest.fixture
def main(tool: Callable[[str], Callable[[list[str]], None]]) -> Callable[[list[str]], None]:
    return tool("export")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("checkpoint") / "cls.pth", classification_config(), NAMES)


def test_it_prints_difference_and_speed(
    main: Callable[[list[str]], None], checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "model.pt2"
    classification_config().dump(tmp_path / "mine.py")
    main([str(tmp_path / "mine.py"), "--format", "exported-program", "--fuse", str(checkpoint), "--out", str(out)])
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"wrote       {re.escape(str(out))} \(\d+\.\d MB\), output \(1, 7\)", lines[0])
    assert float(re.fullmatch(r"difference  (\S+) of the largest output", lines[1])[1]) < 1e-4
    before, after, ratio = map(
        float,
        re.fullmatch(r"speed       (\S+) ms in torch, (\S+) ms exported: (\S+) times as fast", lines[2]).groups(),
    )
    assert ratio == pytest.approx(before / after, rel=0.2, abs=0.1)
    assert exporting.read_description(out)["input"]["size"] == [16, 16]


def test_the_file_lies_beside_the_checkpoint(main: Callable[[list[str]], None], checkpoint: Path) -> None:
    main([str(checkpoint), "--format", "torchscript", "--size", "24", "32"])
    assert exporting.read_description(checkpoint.with_suffix(".ts"))["input"]["size"] == [24, 32]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["CHECKPOINT", "--size", "0", "16"], "--size must be positive, got 0 16"),
        (["CHECKPOINT", "CHECKPOINT"], "name one checkpoint"),
        (["CHECKPOINT", "--out", "CHECKPOINT"], "is the checkpoint itself: choose another file"),
        (["CHECKPOINT", "--out", "FOLDER"], f"{os.sep}folder' is a folder: name a file in it, such as '"),
        (["nowhere.pth"], "'nowhere.pth' does not exist"),
        (["CHECKPOINT"], "differs by"),
    ],
)
def test_mistakes(
    main: Callable[[list[str]], None],
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(exporting, "_write", lambda graph, *_: (b"", lambda image: graph(image) + 1))
    (folder := checkpoint.parent / "folder").mkdir(exist_ok=True)
    words = {"CHECKPOINT": str(checkpoint), "FOLDER": str(folder)}
    argv = ["--format", "exported-program", "--out", str(tmp_path / "x.pt2"), *arguments]
    with pytest.raises(SystemExit) as stopped:
        main([words.get(a, a) for a in argv])
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert message in said.err
    assert list(tmp_path.iterdir()) == []
