"""Folders, patterns and videos in, pictures and a table out; a model of known answers stands in for a network."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ean_core.inference.predict_files import find_sources, predict_files
from ean_core.inference.video import VideoReader, writing
from ean_core.terminal import ProgressLines, report_part


@dataclass
class Fake:
    """Predicts the mean of an image, and remembers how many it was given at once."""

    wide: bool = False

    def __post_init__(self) -> None:
        self.batches: list[int] = []
        self.task = SimpleNamespace(
            draw=self.draw,
            row=lambda result: {"mean": result, "frames": "of a class"},
            over_time=(),
        )

    def predict(self, images: list[np.ndarray], names: Sequence[str] = ()) -> list[float]:
        self.batches.append(len(images))
        return [round(float(image.mean()), 1) for image in images]

    def draw(self, image: np.ndarray, result: float) -> Image.Image:
        grow = 16 * (len(self.batches) - 1) if self.wide else 0
        return Image.fromarray(np.pad(image, ((0, grow), (0, grow), (0, 0))))


def write(folder: Path, **pictures: int) -> None:
    """``a__b_png=7`` is a grey picture of value 7 in ``a/b.png``."""
    for name, value in pictures.items():
        path = folder / "/".join(name.rsplit("_", 1)[0].split("__"))
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (6, 4), value).save(f"{path}.{name.rsplit('_', 1)[1]}")


def table(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def grey(path: Path) -> int:
    return int(np.asarray(Image.open(path))[0, 0, 0])


@pytest.mark.parametrize("batch", [1, 2, 10])
def test_a_folder_with_subfolders(tmp_path: Path, batch: int) -> None:
    write(tmp_path / "in", b_png=2, a_bmp=1, sub__c_png=3)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    (tmp_path / "in" / ".hidden.png").write_text("no image")
    model, out = Fake(), tmp_path / "out"
    assert predict_files(model, [str(tmp_path / "in")], out, batch) == []
    assert files(out) == ["a.bmp.png", "b.png.png", "predictions.csv", "sub/c.png.png"]
    assert [grey(out / name) for name in ("a.bmp.png", "b.png.png", "sub/c.png.png")] == [1, 2, 3]
    places = [str(tmp_path / "in" / name) for name in ("a.bmp", "b.png", "sub/c.png")]
    assert [r["picture"] for r in table(out)] == ["a.bmp.png", "b.png.png", "sub/c.png.png"]
    assert [(r["image"], r["frame"], r["seconds"], r["mean"], r["frames"]) for r in table(out)] == [
        (place, "", "", f"{i + 1}.0", "of a class") for i, place in enumerate(places)
    ]
    assert model.batches == {1: [1, 1, 1], 2: [2, 1], 10: [3]}[batch]


def test_names_that_differ_only_in_their_ending(tmp_path: Path) -> None:
    """Each has a picture of its own, which the table names; so have two images of one name in two folders."""
    write(tmp_path, a__x_png=1, a__x_bmp=2, b__x_png=3, b__x_bmp=4)
    (tmp_path / "a" / "x.png-2.png").write_bytes((tmp_path / "a" / "x.png").read_bytes())
    predict_files(Fake(), [str(tmp_path / "a"), str(tmp_path / "b")], tmp_path / "out")
    values = {row["picture"]: row["mean"] for row in table(tmp_path / "out")}
    assert values == {
        "x.bmp.png": "2.0",
        "x.png.png": "1.0",
        "x.png-2.png.png": "1.0",
        "x.bmp-2.png": "4.0",
        "x.png-2.png": "3.0",
    }
    assert {name: f"{grey(tmp_path / 'out' / name)}.0" for name in values} == values


def test_patterns_files_and_repetitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, a1_png=1, a2_png=2, b__a3_png=3, odd_name_png=4)
    monkeypatch.chdir(tmp_path)
    found = [str(path) for path, _ in find_sources(["a*.png", "a1.png", "**/a3.png", "."], Path("out"))]
    assert found == ["a1.png", "a2.png", "b/a3.png", "odd_name.png"]


def test_a_name_with_brackets_is_a_name(tmp_path: Path) -> None:
    write(tmp_path, a_png=1)
    (tmp_path / "a.png").rename(tmp_path / "a[1].png")
    assert [p.name for p, _ in find_sources([str(tmp_path / "a[1].png")], tmp_path / "out")] == ["a[1].png"]


def test_what_an_earlier_call_wrote_is_no_input(tmp_path: Path) -> None:
    write(tmp_path, a_png=1)
    for _ in range(2):
        predict_files(Fake(), [str(tmp_path)], tmp_path / "out")
        assert files(tmp_path / "out") == ["a.png.png", "predictions.csv"]


def test_inputs_are_never_replaced(tmp_path: Path) -> None:
    write(tmp_path, a_png=1)
    (tmp_path / "a.png.png").write_bytes((tmp_path / "a.png").read_bytes())
    with pytest.raises(ValueError, match=r"would replace '.*a.png.png', which is an input: choose another --out"):
        predict_files(Fake(), [str(tmp_path / "*.png")], tmp_path)
    assert files(tmp_path) == ["a.png", "a.png.png"]


@pytest.mark.parametrize("source", ["in", "in/*.png"])
def test_out_may_lie_around_the_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    write(tmp_path, in__a_png=1)
    monkeypatch.chdir(tmp_path)
    predict_files(Fake(), [source], ".")
    assert files(tmp_path) == ["a.png.png", "in/a.png", "predictions.csv"]


def test_out_is_not_the_input_folder(tmp_path: Path) -> None:
    write(tmp_path, a_jpg=1)
    with pytest.raises(ValueError, match="is both an input and --out: choose another"):
        predict_files(Fake(), [str(tmp_path)], tmp_path / "x" / "..")
    assert files(tmp_path) == ["a.jpg"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.png", "there is no image, folder or video 'nowhere.png'"),
        ("*.jpg", "no image or video matches '\\*.jpg'"),
        ("empty", "folder 'empty' holds no images"),
    ],
)
def test_sources_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=message):
        predict_files(Fake(), [source], tmp_path / "out")
    assert files(tmp_path) == []


def test_damaged_files_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "in", a_png=1, b_png=2, c_png=3)
    (tmp_path / "in" / "b.png").write_text("no image")
    (tmp_path / "in" / "d.mp4").write_text("no video")
    failed = predict_files(Fake(), [str(tmp_path / "in")], tmp_path / "out", 2)
    assert len(failed) == 2
    assert failed[0] == f"image '{tmp_path}/in/b.png' cannot be read: it is no image, or damaged"
    assert failed[1].startswith(f"video '{tmp_path}/in/d.mp4' cannot be read")
    assert files(tmp_path / "out") == ["a.png.png", "c.png.png", "predictions.csv"]
    assert [row["mean"] for row in table(tmp_path / "out")] == ["1.0", "3.0"]


def test_a_failure_leaves_the_earlier_table(tmp_path: Path) -> None:
    write(tmp_path, a_png=1)
    predict_files(Fake(), [str(tmp_path / "a.png")], tmp_path / "out")
    model = Fake()
    model.predict = lambda images, names: 1 / 0
    with pytest.raises(ZeroDivisionError):
        predict_files(model, [str(tmp_path / "a.png")], tmp_path / "out")
    assert files(tmp_path / "out") == ["a.png.png", "predictions.csv"]
    assert len(table(tmp_path / "out")) == 1


def test_a_line_is_in_the_table_when_its_image_is_done(tmp_path: Path) -> None:
    """And an earlier table is gone with the first one."""
    write(tmp_path / "in", a_png=1, b_png=2, c_png=3)
    out = tmp_path / "out"
    predict_files(Fake(), [str(tmp_path / "in" / "c.png")], out)
    model, lines = Fake(), []
    predict = model.predict

    def watch(images: list[np.ndarray], names: Sequence[str] = ()) -> list[float]:
        lines.append([row["mean"] for row in table(out)])
        if len(lines) == 3:
            raise KeyboardInterrupt
        return predict(images)

    model.predict = watch
    with pytest.raises(KeyboardInterrupt):
        predict_files(model, [str(tmp_path / "in")], out)
    assert lines == [["3.0"], ["1.0"], ["1.0", "2.0"]]
    assert [row["mean"] for row in table(out)] == ["1.0", "2.0"]


def test_progress_reaches_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line every three seconds, also within one large image; here each image takes two tiles of two seconds."""
    write(tmp_path / "in", a_png=1, b_png=2)
    now = [0.0]
    monkeypatch.setitem(ProgressLines.__init__.__kwdefaults__, "clock", lambda: now[0])
    model = Fake()
    predict = model.predict

    def slow(images: list[np.ndarray], names: Sequence[str] = ()) -> list[float]:
        for tile in (1, 2):
            now[0] += 2
            report_part(f"tile {tile} of 2")
        return predict(images)

    model.predict = slow
    predict_files(model, [str(tmp_path / "in")], tmp_path / "out")
    assert capsys.readouterr().out.splitlines() == [
        "predicted 0 of 2, 4 s, a.png, tile 2 of 2",
        "predicted 1 of 2, 8 s, b.png, tile 2 of 2",
    ]


def film(path: Path, values: list[int], size: tuple[int, int] = (64, 48), rate: float = 5) -> Path:
    with writing(path, rate) as write:
        for value in values:
            write(Image.new("RGB", size, (value, value // 2, 255 - value)))
    return path


@pytest.mark.parametrize("batch", [1, 3])
def test_a_video(tmp_path: Path, batch: int) -> None:
    values = [0, 50, 100, 150, 200, 250, 30]
    film(tmp_path / "in" / "film.mp4", values)
    model = Fake()
    assert predict_files(model, [str(tmp_path / "in" / "film.mp4")], tmp_path / "out", batch) == []
    assert files(tmp_path / "out") == ["film.mp4.mp4", "predictions.csv"]
    assert max(model.batches) == batch  # no more are ever held
    rows = table(tmp_path / "out")
    assert [(row["frame"], row["seconds"]) for row in rows] == [(str(i), str(i / 5)) for i in range(7)]
    for row, value in zip(rows, values, strict=True):
        assert float(row["mean"]) == pytest.approx((value + value // 2 + 255 - value) / 3, abs=4)
    annotated = VideoReader(tmp_path / "out" / "film.mp4.mp4")
    assert annotated.rate == pytest.approx(5)
    frames = list(annotated)
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 7
    for frame, value in zip(frames, values, strict=True):
        assert np.abs(frame[20, 30].astype(int) - (value, value // 2, 255 - value)).max() <= 12  # lossy


def test_frames_of_a_video_keep_the_first_ones_size(tmp_path: Path) -> None:
    film(tmp_path / "film.mp4", [10, 20, 30], (51, 33))
    predict_files(Fake(wide=True), [str(tmp_path / "film.mp4")], tmp_path / "out")
    assert [f.shape for f in VideoReader(tmp_path / "out" / "film.mp4.mp4")] == [(32, 50, 3)] * 3


def test_a_video_that_stops_halfway_leaves_none(tmp_path: Path) -> None:
    film(tmp_path / "film.mp4", [10, 20, 30])
    model = Fake()

    def predict(images: list[Any], names: Sequence[str] = ()) -> list[float]:
        model.batches.append(1)
        if len(model.batches) == 2:
            raise KeyboardInterrupt
        return [0.0]

    model.predict = predict
    with pytest.raises(KeyboardInterrupt):
        predict_files(model, [str(tmp_path / "film.mp4")], tmp_path / "out")
    assert files(tmp_path / "out") == ["predictions.csv"]
    assert len(table(tmp_path / "out")) == 1  # of the frame that was done


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"a\xff.png")
    write(tmp_path / "in", b_png=3)
    (tmp_path / "in" / "b.png").rename(tmp_path / "in" / name)
    assert predict_files(Fake(), [str(tmp_path / "in")], tmp_path / "out") == []  # type: ignore[arg-type]
    (line,) = csv.DictReader((tmp_path / "out" / "predictions.csv").read_text().splitlines())
    assert line["picture"] == "a\\udcff.png.png"
    assert (tmp_path / "out" / f"{name}.png").is_file()
