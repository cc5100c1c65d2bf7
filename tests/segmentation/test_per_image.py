"""Boundary F-scores against plain loops; the table of images and the confusion matrix against counting."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ean_core.figures.confusion import confusion_matrix
from ean_core.files import csv_text
from segmentation.per_image import COLUMNS, ImageMetric, boundary_scores

Labels = NDArray[np.uint8]
NAMES = ("background", "cat", "dog", "sheep")


def filled(labels: Labels, truth: Labels) -> Labels:
    """Ignored pixels with the label of the nearest pixel that counts."""
    known = np.argwhere(truth != 255)
    result = labels.copy()
    for y, x in np.argwhere(truth == 255):
        v, u = min(known, key=lambda place: math.dist(place, (y, x)))
        result[y, x] = labels[v, u]
    return result


def outline(labels: Labels, k: int) -> list[tuple[int, int]]:
    """Pixels of a class beside a pixel of another one."""
    height, width = labels.shape
    found = []
    for y in range(height):
        for x in range(width):
            beside = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            inside = [(v, u) for v, u in beside if 0 <= v < height and 0 <= u < width]
            if labels[y, x] == k and any(labels[place] != k for place in inside):
                found.append((y, x))
    return found


def reference(predicted: Labels, truth: Labels, tolerance: float) -> dict[int, float]:
    """The definition, pair by pair."""
    reach = tolerance * math.sqrt(truth.shape[0] ** 2 + truth.shape[1] ** 2)

    def share(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> float:
        near = [any(math.dist(a, b) <= reach for b in others) for a in some]
        return sum(near) / len(near)

    scores = {}
    predicted, truth = filled(predicted, truth), filled(truth, truth)
    for k in range(len(NAMES)):
        found, wanted = outline(predicted, k), outline(truth, k)
        if not found and not wanted:
            continue
        scores[k] = 0.0
        if found and wanted:
            p, r = share(found, wanted), share(wanted, found)
            scores[k] = 2 * p * r / (p + r) if p + r else 0.0
    return scores


def scene(seed: int, height: int = 30, width: int = 40) -> tuple[Labels, Labels]:
    """Truth of rectangles with a stripe of 255, and a prediction that is shifted and has a wrong patch.

    The stripe has two pixels, so that no ignored pixel lies midway between two that count.
    """
    generator = np.random.default_rng(seed)
    truth = np.zeros((height, width), np.uint8)
    for k in (1, 2):
        y, x = generator.integers(0, height - 12), generator.integers(0, width - 12)
        truth[y : y + 12, x : x + 10] = k
    predicted = np.roll(truth, (1, 2), (0, 1))
    predicted[:4, :4] = 3
    truth[:, 20:22] = 255
    return predicted, truth


@pytest.mark.parametrize("tolerance", [0.0075, 0.03, 0.06])
def test_boundaries_as_defined(tolerance: float) -> None:
    for seed in range(4):
        predicted, truth = scene(seed)
        expected = reference(predicted, truth, tolerance)
        assert set(expected) >= {0, 3}
        assert boundary_scores(predicted, truth, tolerance) == pytest.approx(expected)


def test_limits() -> None:
    predicted, truth = scene(0)
    assert set(boundary_scores(np.where(truth == 255, 0, truth), truth).values()) == {1.0}
    assert boundary_scores(np.zeros_like(truth), np.zeros_like(truth)) == {}
    assert boundary_scores(predicted, np.full_like(truth, 255)) == {}


def test_outlines_that_are_ignored_have_their_place_in_the_middle() -> None:
    """VOC's masks have a band of 255 around every object: no pixel of one class lies beside one of another."""
    y, x = np.mgrid[:60, :60] - 29.5
    radius = np.hypot(y, x)
    truth = np.where(radius < 20, 1, 0).astype(np.uint8)
    truth[abs(radius - 20) < 2] = 255
    within, outside = (np.where(radius < limit, 1, 0).astype(np.uint8) for limit in (20, 27))
    assert boundary_scores(within, truth) == {0: 1.0, 1: 1.0}
    assert set(boundary_scores(outside, truth).values()) == {0.0}
    truth[:5, :5] = 255  # an object that is ignored as a whole
    within[1:4, 1:4] = 2
    assert boundary_scores(within, truth) == {0: 1.0, 1: 1.0}


def test_the_table_and_the_matrix() -> None:
    metric = ImageMetric()
    metric.dataset_meta = {"classes": NAMES}
    matrix = np.zeros((4, 4), int)
    expected = {}
    for seed in range(3):
        predicted, truth = scene(seed)
        predicted = predicted if seed else np.zeros_like(predicted)  # the worst
        data = {
            "pred_sem_seg": {"data": torch.from_numpy(predicted)[None]},
            "gt_sem_seg": {"data": torch.from_numpy(truth)[None]},
            "img_path": f"{seed}.jpg",
        }
        metric.process(None, [data])
        own = np.zeros((4, 4), int)
        for t, p in zip(truth.ravel(), predicted.ravel(), strict=True):
            if t != 255:
                own[t, p] += 1
        unions = [own[k].sum() + own[:, k].sum() - own[k, k] for k in range(4)]
        ious = [100 * own[k, k] / unions[k] for k in range(4) if unions[k]]
        scores = reference(predicted, truth, 0.0075)
        expected[f"{seed}.jpg"] = sum(ious) / len(ious), 100 * sum(scores.values()) / len(scores), min(ious)
        matrix += own
    found = metric.evaluate(3)
    assert found == {"BF": pytest.approx(sum(bf for _, bf, _ in expected.values()) / 3, abs=1e-3)}
    assert np.array_equal(metric.confusion, matrix)
    assert [row["mIoU"] for row in metric.rows] == sorted(row["mIoU"] for row in metric.rows)
    for row in metric.rows:
        assert (row["mIoU"], row["BF"], row["its IoU"]) == pytest.approx(expected[row["image"]], abs=1e-3)
    lines = csv_text(COLUMNS, metric.rows).splitlines()
    assert lines[0] == "image,mIoU,aAcc,BF,worst class,its IoU"
    assert len(lines) == 4


def test_the_picture_shows_shares_of_rows(tmp_path: Path) -> None:
    counts = np.array([[90, 10, 0, 0], [5, 15, 0, 0], [0, 0, 0, 0], [0, 40, 0, 0]])
    figure = confusion_matrix(counts, NAMES)
    assert isinstance(figure, Figure)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["background", "cat", "sheep"]  # no dog occurs
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {
        ((0, 0), "90"), ((1, 0), "10"), ((0, 1), "25"), ((1, 1), "75"), ((1, 2), "100"),
    }  # fmt: skip
