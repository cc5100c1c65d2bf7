"""Pictures: densities where they belong, whatever the sizes; the worst images of all ranks."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from crowd_counting import visualize
from crowd_counting.metric import CrowdMetric
from crowd_counting.visualize import PictureHook, dots, heat, overlay, picture_of, place


def test_heat_is_people_in_a_square_of_100_pixels() -> None:
    """Half a person in each 8x8 cell is 0.5 x (100 / 8)^2 in a square of 100, everywhere."""
    values = heat(np.full((3, 4), 0.5), (21, 30), 8)
    assert values.shape == (21, 30)
    np.testing.assert_allclose(values, 0.5 * (100 / 8) ** 2, rtol=1e-6)


def test_heat_lies_over_its_cell() -> None:
    density = np.zeros((4, 5))
    density[1, 3] = 1
    values = heat(density, (32, 40), 8)
    rows, columns = (
        (values * np.arange(32)[:, None]).sum() / values.sum(),
        (values * np.arange(40)).sum() / values.sum(),
    )
    assert (rows, columns) == pytest.approx((8 + 3.5, 24 + 3.5), abs=1e-3)  # the middle of pixels 8-15 and 24-31


def test_overlay_shows_the_image_where_nobody_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    values = np.zeros((6, 7))
    values[2, 3] = 100.0
    found = overlay(image, values)
    grey = (image.mean(2, keepdims=True) * 0.6).round()
    assert np.abs(found - np.repeat(grey, 3, 2))[values == 0].max() <= 1
    assert found[2, 3, 0] > found[2, 3, 2]  # the last colour is red


def test_one_colour_means_one_density() -> None:
    """Whatever else is in the picture; twice the last tick has the last colour."""
    image = np.zeros((2, 2, 3), np.uint8)
    low, high = np.full((2, 2), 4.0), np.array([[4.0, 100], [200, 0]])
    assert (overlay(image, low)[0, 0] == overlay(image, high)[0, 0]).all()
    assert (overlay(image, high)[1, 0] == overlay(image, high)[0, 1]).all()
    assert place(np.array([0, 100, 200, -1, 25])).tolist() == [0, 1, 1, 0, 0.5]
    colours, legend = visualize.layer(np.full((1, 1), 4 / (100 / 8) ** 2), 8, (8, 8))
    (share,) = [share for share in legend if share.name == "4 people per 100x100 px"]
    assert np.abs(colours[4, 4, :3].astype(int) - share.colour).max() <= 1


def test_dots_mark_heads() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    found = np.asarray(dots(image, np.array([[10.0, 5.0]]), 1.0))
    rows, columns = np.nonzero(found.any(2))
    assert (rows.mean(), columns.mean()) == pytest.approx((4.5, 9.5), abs=0.6)
    assert not image.any()


def test_dots_of_a_dense_crowd_stay_apart() -> None:
    """Heads that are four pixels from each other: between two dots the image shows."""
    points = np.stack(np.meshgrid(np.arange(2, 40, 4), np.arange(2, 40, 4)), -1).reshape(-1, 2).astype(float)
    found = np.asarray(dots(np.zeros((40, 40, 3), np.uint8), points, 1.0)).max(2)
    assert ndimage.label(found > 128)[1] == len(points)


@pytest.mark.parametrize("size", [(768, 1024), (1, 1), (5, 400), (400, 5), (96, 128)])
def test_pictures_of_any_size(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    density = np.zeros((-(-size[0] // 8), -(-size[1] // 8)), np.float32)
    alone = picture_of(image, density, 8)
    full = picture_of(image, density + 1, 8)
    assert alone.size == full.size  # frames of a video
    both = picture_of(image, density, 8, np.zeros((0, 2)))
    assert both.width > alone.width
    assert max(both.size) < 1600


def item(number: int, predicted: float, people: int) -> tuple[dict, torch.Tensor]:
    batch = {"inputs": torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "points": [torch.zeros(people, 2)]}
    return {**batch, "img_path": [f"IMG_{number}.jpg"]}, torch.full((1, 1, 1, 1), predicted)


def test_the_worst_of_all_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks with an image of both: each is drawn once, the largest error first, a NaN before it."""
    metric = CrowdMetric()
    dataset = SimpleNamespace(stride=8, longest=None)
    runner = SimpleNamespace(
        cfg={}, work_dir=str(tmp_path), test_dataloader=SimpleNamespace(dataset=dataset),
        test_evaluator=SimpleNamespace(metrics=[metric]),
    )  # fmt: skip
    ranks = [PictureHook(worst=3), PictureHook(worst=3)]
    errors = [5.0, 1.0, float("nan"), 2.0, 9.0]
    for number, error in enumerate(errors):
        batch, density = item(number, 4 + error, 4)
        metric.process(batch, density)
        ranks[number % 2].after_test_iter(runner, number, batch, density)
    batch, density = item(4, 13.0, 4)
    ranks[1].after_test_iter(runner, 9, batch, density)  # what the sampler repeats
    metric.evaluate(5)
    monkeypatch.setattr(visualize, "all_gather_object", lambda own: [ranks[0]._kept, ranks[1]._kept])
    monkeypatch.setattr(visualize, "read_image", lambda path: np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "worst").mkdir()
    (tmp_path / "worst" / "10-old.png").touch()
    ranks[0].after_test_epoch(runner)
    assert sorted(p.name for p in (tmp_path / "worst").iterdir()) == [
        f"{rank}-IMG_{number}.jpg.png" for rank, number in (("01", 2), ("02", 4), ("03", 0))
    ]
    lines = (tmp_path / "counts.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [f"IMG_{n}.jpg" for n in (2, 4, 0, 3, 1)]
    assert Image.open(tmp_path / "worst" / "01-IMG_2.jpg.png").width > 100
