"""Count errors against plain numpy and plain loops, over batches and ranks."""

import csv
import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator

from crowd_counting import metric as module
from crowd_counting.dataset import find_split
from crowd_counting.metric import CrowdMetric, Row, by_crowd_size, count_errors, grid_errors, to_csv, worst
from crowd_counting.points import read_points
from crowd_counting.toy_crowds import make_toy_crowd


def row(people: int, predicted: float, image: str = "", game: tuple[float, ...] = (0, 0, 0, 0)) -> Row:
    return Row(image or f"{people}-{predicted}.jpg", people, predicted, game, (0, 0, 0))


def test_count_errors() -> None:
    people, counts = [10, 0, 40, 5], [12.5, 1.0, 31.0, 5.0]
    found = count_errors(people, counts)
    differences = [2.5, 1.0, -9.0, 0.0]
    assert found["MAE"] == pytest.approx(sum(map(abs, differences)) / 4)
    assert found["MSE (RMSE)"] == pytest.approx(math.sqrt(sum(d * d for d in differences) / 4))
    assert found["NAE"] == pytest.approx((2.5 / 10 + 9 / 40 + 0 / 5) / 3)  # nobody in the second image: left out


def test_count_errors_of_nobody_nothing_and_nan() -> None:
    assert count_errors([0, 0], [1.0, 3.0]) == pytest.approx(
        {"MAE": 2, "MSE (RMSE)": 5**0.5, "NAE": math.nan}, nan_ok=True
    )
    assert all(math.isnan(value) for value in count_errors([], []).values())
    assert math.isnan(count_errors([1, 2], [1.0, math.nan])["MAE"])


def pixel_by_pixel(density: np.ndarray, points: np.ndarray, size: tuple[int, int], stride: int, level: int) -> float:
    """GAME from a map of a fine grid: every pixel of the image in 2^level x 2^level parts, one after the other."""
    height, width = size
    parts = 2**level
    predicted, true = np.zeros((parts, parts)), np.zeros((parts, parts))
    for y in range(height * parts):  # pixels are split where a part ends inside one
        for x in range(width * parts):
            i, j = y // parts // stride, x // parts // stride
            rows = min((i + 1) * stride, height) - i * stride
            columns = min((j + 1) * stride, width) - j * stride
            predicted[y // height, x // width] += density[i, j] / (rows * columns * parts**2)
    for x, y in points:
        true[min(int(y * parts / height), parts - 1), min(int(x * parts / width), parts - 1)] += 1
    return float(np.abs(predicted - true).sum())


@pytest.mark.parametrize("size", [(16, 24), (13, 21), (3, 5)])
@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_game_pixel_by_pixel(size: tuple[int, int], level: int) -> None:
    random = np.random.default_rng(level)
    density = random.random((-(-size[0] // 8), -(-size[1] // 8)))
    points = random.random((7, 2)) * (size[1], size[0])
    found = grid_errors(density, points, size, 8, level)
    assert found == pytest.approx(pixel_by_pixel(density, points, size, 8, level), rel=1e-9)


def test_game_by_hand() -> None:
    """All three in the right half, predicted in the left: no error at level 0, twice three at level 1."""
    density = np.array([[3.0, 0.0]])
    points = np.array([[9.0, 1.0], [15.9, 7.9], [12.0, 2.0]])
    assert grid_errors(density, points, (8, 16), 8, 0) == pytest.approx(0)
    # rows are halved too: 1.5 predicted in each left quarter; two heads above, one below
    assert grid_errors(density, points, (8, 16), 8, 1) == pytest.approx(1.5 + 1.5 + 2 + 1)
    assert grid_errors(density, np.zeros((0, 2)), (8, 16), 8, 3) == pytest.approx(3)
    points[0] = (16.0, 8.0)  # on the image's last corner
    assert grid_errors(np.zeros((1, 2)), points, (8, 16), 8, 2) == pytest.approx(3)


def test_game_grows_with_the_level() -> None:
    random = np.random.default_rng(0)
    density, points = random.random((9, 12)), random.random((60, 2)) * (90, 70)
    values = [grid_errors(density, points, (70, 90), 8, level) for level in range(4)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(abs(density.sum() - 60))


def test_quarters_by_crowd_size() -> None:
    rows = [row(people, people + error) for people, error in zip([5, 1, 9, 3, 7, 2, 8, 4, 6], range(9), strict=True)]
    table = by_crowd_size(rows)
    assert [entry["images"] for entry in table.values()] == [3, 2, 2, 2]
    assert [entry["people"] for entry in table.values()] == ["1-3", "4-5", "6-7", "8-9"]
    errors = {5: 0, 1: 1, 9: 2, 3: 3, 7: 4, 2: 5, 8: 6, 4: 7, 6: 8}
    expected = [np.mean([errors[p] for p in group]) for group in ((1, 2, 3), (4, 5), (6, 7), (8, 9))]
    assert [entry["MAE"] for entry in table.values()] == pytest.approx(expected)
    assert by_crowd_size(rows) == by_crowd_size(rows[::-1])  # whatever order the ranks bring them in
    assert [entry["MAE"] for entry in by_crowd_size(rows[:2]).values()] == [1, 0, None, None]


def test_csv_worst_first() -> None:
    rows = [row(5, 6.0, "a.jpg"), row(5, 1.5, "b.jpg", (3.5, 4, 5, 6)), row(2, math.nan, "c.jpg")]
    assert [r.image for r in worst(rows)] == ["c.jpg", "b.jpg", "a.jpg"]
    lines = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert lines[1] == {
        "image": "b.jpg", "people": "5", "count": "1.50", "error": "-3.50",
        "GAME0": "3.50", "GAME1": "4.00", "GAME2": "5.00", "GAME3": "6.00",
    }  # fmt: skip


def samples(count: int) -> list[tuple[dict, torch.Tensor]]:
    """Batches of one image, of several sizes: a raw batch and its density map (1, 1, h, w)."""
    random = np.random.default_rng(1)
    batches = []
    for i in range(count):
        height, width = int(random.integers(20, 40)), int(random.integers(20, 40))
        points = torch.from_numpy((random.random((i, 2)) * (width, height)).astype(np.float32))
        density = torch.from_numpy(random.random((1, 1, -(-height // 8), -(-width // 8))).astype(np.float32))
        batch = {"inputs": torch.zeros(1, 3, height, width, dtype=torch.uint8), "points": [points]}
        batches.append(({**batch, "img_path": [f"IMG_{i}.jpg"]}, density))
    return batches


def test_a_data_set() -> None:
    batches = samples(9)
    evaluator = Evaluator(CrowdMetric())
    for batch, density in batches:
        evaluator.process(data_samples=density, data_batch=batch)
    found = evaluator.evaluate(9)
    metric = evaluator.metrics[0]
    errors = np.array([float(density.double().sum()) - i for i, (_, density) in enumerate(batches)])
    assert found["MAE"] == pytest.approx(np.abs(errors).mean())
    assert found["MSE (RMSE)"] == pytest.approx(np.sqrt((errors**2).mean()))
    assert found["NAE"] == pytest.approx((np.abs(errors)[1:] / np.arange(1, 9)).mean())
    assert metric.tables["by region"]["all"]["GAME0"] == pytest.approx(found["MAE"])
    for level in (1, 2, 3):
        expected = [
            pixel_by_pixel(d[0, 0].double().numpy(), b["points"][0].numpy(), tuple(b["inputs"].shape[-2:]), 8, level)
            for b, d in batches
        ]
        assert metric.tables["by region"]["all"][f"GAME{level}"] == pytest.approx(np.mean(expected), rel=1e-6)
    assert set(found) == {"MAE", "MSE (RMSE)", "NAE"}  # no baseline was asked for
    assert [r.people for r in metric.rows] == list(range(9))


def test_two_ranks_and_a_last_incomplete_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 has images 0, 2, 4, rank 1 has 1, 3 and again 0, by which the sampler fills up: five count, once each."""
    batches = samples(5)
    whole, ranks = CrowdMetric(), [CrowdMetric(), CrowdMetric()]
    for i, (batch, density) in enumerate(batches):
        whole.process(batch, density)
        ranks[i % 2].process(batch, density)
    ranks[1].process(*batches[0])

    def collect(results: list, size: int, *_: str, **__: str) -> list:
        """What MMEngine's does: interleave the ranks' results, keep ``size`` of them."""
        return [r for pair in zip(ranks[0].results, ranks[1].results, strict=True) for r in pair][:size]

    expected = whole.evaluate(5)
    monkeypatch.setattr("mmengine.evaluator.metric.collect_results", collect)
    assert ranks[0].evaluate(5) == pytest.approx(expected)
    assert [r.image for r in ranks[0].rows] == [f"IMG_{i}.jpg" for i in range(5)]
    assert ranks[0].tables["by region"]["all"] == pytest.approx(whole.tables["by region"]["all"])


def test_a_batch_of_several_images() -> None:
    one, together = CrowdMetric(), CrowdMetric()
    random = np.random.default_rng(0)
    points = [torch.from_numpy((random.random((n, 2)) * (20, 30)).astype(np.float32)) for n in (3, 0, 8)]
    density = torch.from_numpy(random.random((3, 1, 4, 3)).astype(np.float32))
    images, names = torch.zeros(3, 3, 30, 20, dtype=torch.uint8), ["a", "b", "c"]
    together.process({"inputs": images, "points": points, "img_path": names}, density)
    for i in range(3):
        batch = {"inputs": images[i : i + 1], "points": points[i : i + 1], "img_path": names[i : i + 1]}
        one.process(batch, density[i : i + 1])
    assert one.evaluate(3) == pytest.approx(together.evaluate(3))
    assert one.rows == together.rows


def test_the_training_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_toy_crowd(tmp_path, train=6, test=2, size=(64, 64))
    counts = [len(read_points(sample.annotation)) for sample in find_split(root, "B", "train")]
    metric = CrowdMetric(baseline={"root": str(root), "part": "B", "out_of_frame": "clip"})
    for batch, density in samples(4):
        metric.process(batch, density)
    found = metric.evaluate(4)
    assert metric.training_mean() == pytest.approx(np.mean(counts))
    assert found["MAE of mean"] == pytest.approx(np.mean([abs(np.mean(counts) - people) for people in range(4)]))
    squares = [(np.mean(counts) - people) ** 2 for people in range(4)]
    assert found["RMSE of mean"] == pytest.approx(np.sqrt(np.mean(squares)))

    nowhere = CrowdMetric(baseline={"root": str(tmp_path / "nowhere"), "part": "B", "out_of_frame": "drop"})
    assert nowhere.training_mean() is None
    monkeypatch.setattr(module, "find_split", None)  # it is computed once
    assert metric.training_mean() == pytest.approx(np.mean(counts))
