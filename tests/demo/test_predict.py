"""The tab "Predict": what the page shows and offers is what the networks say."""

import csv
import io
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ean_core.inference import Predictor
from ean_core.inference.video import VideoReader
from ean_testing.web import LIMITS, Web, encoded, film, picture

IMAGE = picture()


def rows(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode())))


def opened(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def test_classes_and_probabilities(web: Web, predictors: dict[str, Predictor]) -> None:
    result = predictors["cls"](IMAGE)
    answer = web.send("/predict", encoded(IMAGE), network=["cls"])
    best = result.top()
    assert f"{best[0][0]}, {100 * best[0][1]:.1f} %" in answer.text
    shown = re.findall(r"<span>(\w+)</span>\s*<meter[^>]*value=\"([\d.]+)\"", answer.data.decode())
    assert [(name, float(value)) for name, value in shown] == [(n, pytest.approx(v, abs=1e-4)) for n, v in best]
    (word,) = answer.words
    table = rows(web.get(f"/kept/{word}/result.csv?download=1").data)
    assert [table[0][f"class_{k}"] for k in range(1, 6)] == [name for name, _ in best]
    drawn = predictors["cls"].task.draw(IMAGE, result)
    assert np.array_equal(opened(web.get(f"/kept/{word}/picture.png").data), np.asarray(drawn))


def test_masks(web: Web, predictors: dict[str, Predictor]) -> None:
    result = predictors["seg"](IMAGE)
    answer = web.send("/predict", encoded(IMAGE), network=["seg"])
    (word,) = answer.words
    assert np.array_equal(opened(web.get(f"/kept/{word}/labels.png").data), result.labels)
    layer = opened(web.get(f"/kept/{word}/layer.png").data)
    colours = np.array(result.palette)[result.labels]
    assert np.array_equal(layer[..., :3], colours)
    assert np.array_equal(layer[..., 3], 255 * colours.any(-1))
    shown = re.findall(r"<span>(class \d+)</span>", answer.data.decode())
    assert shown == [result.classes[k] for k in result.present()]
    assert "data-opacity" in answer.data.decode()
    assert opened(web.get(f"/kept/{word}/image.jpg").data).shape == IMAGE.shape


def test_density_and_the_count_inside(web: Web, predictors: dict[str, Predictor]) -> None:
    result = predictors["crowd"](IMAGE)
    answer = web.send("/predict", encoded(IMAGE), network=["crowd"])
    (word,) = answer.words
    assert f"{result.count:.1f} people" in answer.text
    file = web.get(f"/kept/{word}/density.npy")
    assert np.array_equal(np.load(io.BytesIO(file.data)), result.density)
    height, width = IMAGE.shape[:2]

    def inside(left: float, top: float, right: float, bottom: float) -> float:
        path = f"/kept/{word}/count?left={left}&top={top}&right={right}&bottom={bottom}"
        return float(web.get(path).text.split()[0])

    assert inside(0, 0, width, height) == pytest.approx(result.count, abs=0.006)
    stride = result.stride
    first = float(result.density[0, :2].sum())
    assert inside(0, 0, 2 * stride, stride) == pytest.approx(first, abs=0.006)
    assert web.get(f"/kept/{word}/count?left=a&top=0&right=1&bottom=1").status == 422
    (word,) = web.send("/predict", encoded(IMAGE), network=["cls"]).words
    assert web.get(f"/kept/{word}/count?left=0&top=0&right=1&bottom=1").status == 400


def test_several_networks_side_by_side(web: Web) -> None:
    answer = web.send("/predict", encoded(IMAGE), network=["crowd", "cls", "crowd", "none of these"])
    assert re.findall(r"<h2>(\w+)</h2>", answer.data.decode()) == ["crowd", "cls"]
    assert len(answer.words) == 2
    assert web.send("/predict", encoded(IMAGE), network=["none of these"]).text == "Choose a network."
    assert web.send("/predict", encoded(IMAGE)).text == "Choose a network."


def test_a_large_image_is_reduced_and_the_page_says_so(web: Web) -> None:
    answer = web.send("/predict", encoded(picture(200, 400), "jpeg"), network=["seg"])
    assert f"reduced from 400 x 200 to {LIMITS.side} x {LIMITS.side // 2} pixels" in answer.text
    (word,) = answer.words
    assert opened(web.get(f"/kept/{word}/labels.png").data).shape == (LIMITS.side // 2, LIMITS.side)


def test_a_video(web: Web, tmp_path: Path) -> None:
    answer = web.send("/predict", film(tmp_path / "in.mp4", LIMITS.frames + 2), "film.mp4", network=["crowd"])
    assert f"the first {LIMITS.frames} of {LIMITS.frames + 2} frames" in answer.text
    (word,) = answer.words
    table = rows(web.get(f"/kept/{word}/result.csv").data)
    assert [float(row["seconds"]) for row in table] == [k / 10 for k in range(LIMITS.frames)]
    (tmp_path / "out.mp4").write_bytes(web.get(f"/kept/{word}/video.mp4").data)
    assert sum(1 for _ in VideoReader(tmp_path / "out.mp4")) == LIMITS.frames
    film_of_two = film(tmp_path / "two.mp4", 2)
    assert "2 frames" in web.send("/predict", film_of_two, network=["crowd"]).text
    both = web.send("/predict", film_of_two, network=["crowd", "cls"])
    assert (both.status, both.text) == (400, "A video goes through one network: choose one.")


@pytest.mark.parametrize(("states", "count", "said"), [
    (0, 2, "the first 4 frames"), (1, 2, "the first 4 frames"), (0, -2, " 2 frames"), (9, -2, " 2 frames"),
])  # fmt: skip
def test_a_video_that_does_not_tell_its_length(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states: int, count: int, said: str
) -> None:
    """As what a browser records says 0; of a file that was cut it is wrong."""

    class Reader(VideoReader):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self.frames = states

    monkeypatch.setattr("ean_core.demo.uploads.VideoReader", Reader)
    text = web.send("/predict", film(tmp_path / "in.mp4", LIMITS.frames + count), network=["crowd"]).text
    assert LIMITS.frames == 4
    assert said in text
    assert " of " not in text


def test_a_video_of_large_frames(web: Web, tmp_path: Path) -> None:
    assert LIMITS.pixels < 800 * 600
    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (800, 600))
    writer.write(np.zeros((600, 800, 3), np.uint8))
    writer.release()
    answer = web.send("/predict", (tmp_path / "a.mp4").read_bytes(), network=["crowd"])
    assert (answer.status, "800 x 600" in answer.text) == (413, True)


def test_nothing_is_left_on_the_disk(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    web.send("/predict", film(tmp_path / "in.mp4", 2), network=["crowd"])
    web.send("/predict", bytes(4) + b"ftypisom" + bytes(400), network=["crowd"])
    web.send("/predict", encoded(IMAGE), network=["crowd"])
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_without_a_checkpoint_the_page_says_how_to_start(predictors: dict[str, Predictor]) -> None:
    from ean_testing.web import serving

    with serving({}, []) as empty:
        assert "python tools/demo.py work_dirs/demo/best.pth" in empty.get("/").text
        assert "python tools/demo.py" in empty.get("/inside").text
        assert "There is no network whose blocks" in empty.get("/schemes").text
        assert "There is no search" in empty.get("/searches").text
        assert empty.send("/predict", encoded(IMAGE), network=["cls"]).status == 400
