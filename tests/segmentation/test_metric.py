"""VOCMetric against a confusion matrix that is counted pixel by pixel."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.registry import DATASETS, DefaultScope
from mmengine.structures import PixelData
from numpy.typing import NDArray
from PIL import Image

from segmentation.metric import VOCMetric
from segmentation.voc import CLASSES

Labels = NDArray[np.uint8]
NAMES = ("background", "cat", "dog", "sheep", "sofa")


def count(pairs: Sequence[tuple[Labels, Labels]], classes: int) -> list[list[int]]:
    """``matrix[truth][prediction]`` over the pixels whose truth is not 255."""
    matrix = [[0] * classes for _ in range(classes)]
    for truth, prediction in pairs:
        for row in range(truth.shape[0]):
            for column in range(truth.shape[1]):
                if truth[row, column] != 255:
                    matrix[int(truth[row, column])][int(prediction[row, column])] += 1
    return matrix


def expected(matrix: list[list[int]]) -> tuple[dict[str, float], list[tuple[float | None, float | None, int]]]:
    """The three means in percent, and (IoU, Acc, pixels) of each class; ``None`` where a quotient is 0/0."""
    classes = range(len(matrix))
    rows = []
    for k in classes:
        labelled = sum(matrix[k])
        predicted = sum(matrix[i][k] for i in classes)
        union = labelled + predicted - matrix[k][k]
        iou = 100 * matrix[k][k] / union if union else None
        rows.append((iou, 100 * matrix[k][k] / labelled if labelled else None, labelled))
    ious, accs = ([row[i] for row in rows if row[i] is not None] for i in (0, 1))
    correct = sum(matrix[k][k] for k in classes)
    means = {
        "mIoU": sum(ious) / len(ious),
        "mAcc": sum(accs) / len(accs),
        "aAcc": 100 * correct / sum(map(sum, matrix)),
    }
    return means, rows


def run(metric: BaseMetric, pairs: Sequence[tuple[Labels, Labels]], names: Sequence[str] = NAMES) -> dict[str, float]:
    """Evaluate as the loops do: one batch an image, samples as MMSegmentation's models return them."""
    metric.dataset_meta = {"classes": names}
    for truth, prediction in pairs:
        sample = {
            "gt_sem_seg": {"data": torch.from_numpy(truth)[None]},
            "pred_sem_seg": {"data": torch.from_numpy(prediction.astype(np.int64))[None]},
        }
        metric.process({}, [sample])
    return metric.evaluate(len(pairs))


def random_labels(seed: int, shape: tuple[int, int], values: Sequence[int]) -> Labels:
    return np.random.default_rng(seed).choice(np.array(values, np.uint8), shape)


def perfect() -> list[tuple[Labels, Labels]]:
    truth = random_labels(0, (5, 7), (0, 1, 2, 3, 4, 255))
    return [(truth, np.where(truth == 255, 0, truth).astype(np.uint8))]


def all_wrong() -> list[tuple[Labels, Labels]]:
    truth = random_labels(1, (5, 7), (0, 1, 2, 3, 4))
    return [(truth, (truth + 1) % 5)]


CASES = {
    "perfect": perfect(),
    "all wrong": all_wrong(),
    "absent from both": [(random_labels(2, (6, 4), (0, 1, 3, 255)), random_labels(3, (6, 4), (0, 1, 3)))],
    "predicted, never labelled": [(random_labels(4, (6, 4), (0, 1, 255)), random_labels(5, (6, 4), (0, 1, 4)))],
    "labelled, never predicted": [(random_labels(6, (6, 4), (0, 1, 4)), random_labels(7, (6, 4), (0, 1)))],
    "wrong only where ignored": [(np.array([[0, 255], [255, 2]], np.uint8), np.array([[0, 3], [4, 2]], np.uint8))],
    "several images": [
        (random_labels(10 + i, (3 + i, 9 - i), (0, 1, 2, 3, 255)), random_labels(20 + i, (3 + i, 9 - i), range(5)))
        for i in range(4)
    ],
    "one image without labels": [
        (np.full((3, 3), 255, np.uint8), np.zeros((3, 3), np.uint8)),
        (random_labels(8, (4, 4), range(5)), random_labels(9, (4, 4), range(5))),
    ],
}


@pytest.mark.parametrize("pairs", CASES.values(), ids=CASES)
def test_equals_a_count_by_hand(pairs: list[tuple[Labels, Labels]]) -> None:
    metric = VOCMetric()
    result = run(metric, pairs)
    means, rows = expected(count(pairs, len(NAMES)))
    assert list(result) == ["mIoU", "mAcc", "aAcc"]
    assert result == pytest.approx(means, rel=1e-12)
    assert list(metric.tables["per class"]) == list(NAMES)
    for (iou, acc, pixels), got in zip(rows, metric.tables["per class"].values(), strict=True):
        assert list(got) == ["IoU", "Acc", "pixels"]
        assert got["IoU"] == (None if iou is None else pytest.approx(iou, rel=1e-12))
        assert got["Acc"] == (None if acc is None else pytest.approx(acc, rel=1e-12))
        assert got["pixels"] == pixels


@pytest.mark.parametrize("pairs", CASES.values(), ids=CASES)
def test_equals_mmsegmentations_to_its_rounding(pairs: list[tuple[Labels, Labels]]) -> None:
    from mmseg.evaluation import IoUMetric

    reference = run(IoUMetric(prefix=""), pairs)
    assert run(VOCMetric(), pairs) == pytest.approx({k: float(v) for k, v in reference.items()}, abs=0.00501)


def test_perfect_and_all_wrong() -> None:
    assert run(VOCMetric(), perfect()) == {"mIoU": 100, "mAcc": 100, "aAcc": 100}
    assert run(VOCMetric(), all_wrong()) == {"mIoU": 0, "mAcc": 0, "aAcc": 0}


def test_nothing_labelled_gives_nan_and_no_number() -> None:
    metric = VOCMetric()
    blank = [(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8))]
    assert all(np.isnan(value) for value in run(metric, blank).values())
    assert list(metric.tables["per class"].values()) == [{"IoU": None, "Acc": None, "pixels": 0}] * len(NAMES)


def test_exact_beyond_what_float32_counts() -> None:
    """An image with 2^24 pixels of each class, then three with one pixel of each, found only for class 1."""
    large = torch.tensor([[2**24, 2**24]] * 3)  # right, union, labelled, of both classes
    small = torch.tensor([[0, 1], [1, 1], [1, 1]])
    results = [large, small, small, small]
    assert sum(counts.float() for counts in results)[1, 0] == 2**24  # float32 loses them
    metric = VOCMetric()
    metric.dataset_meta = {"classes": ("background", "cat")}
    result = metric.compute_metrics(results)
    n = 2**24
    iou = [Fraction(100 * n, n + 3), Fraction(100)]
    assert [row["pixels"] for row in metric.tables["per class"].values()] == [n + 3, n + 3]
    assert [row["IoU"] for row in metric.tables["per class"].values()] == [float(v) for v in iou]
    assert result["mIoU"] == float(sum(iou) / 2)
    assert result["aAcc"] == float(Fraction(100 * (2 * n + 3), 2 * n + 6))


def test_evaluator_on_a_data_set(load: Callable[..., Config], voc: Path) -> None:
    """The config's evaluator and data set, with a model that reverses every row of the truth."""
    cfg = load()
    with DefaultScope.overwrite_default_scope("mmseg"):
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
        evaluator = Evaluator(cfg.val_evaluator)
    evaluator.dataset_meta = dataset.metainfo
    pairs = []
    for item in dataset:
        sample = item["data_samples"]
        truth = np.asarray(Image.open(voc / "SegmentationClass" / f"{Path(sample.img_path).stem}.png"))
        prediction = np.where(truth == 255, 0, truth)[:, ::-1].astype(np.uint8)
        sample.pred_sem_seg = PixelData(data=torch.from_numpy(prediction.astype(np.int64))[None])
        evaluator.process([sample], {})
        pairs.append((truth, prediction))
    result = evaluator.evaluate(len(dataset))
    means, rows = expected(count(pairs, len(CLASSES)))
    assert result == pytest.approx(means, rel=1e-12)
    (metric,) = evaluator.metrics
    assert list(metric.tables["per class"]) == list(CLASSES)
    assert [row["pixels"] for row in metric.tables["per class"].values()] == [pixels for _, _, pixels in rows]
