"""Accuracy against plain loops."""

import math
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from classification.metric import TopK, label_ranks


def reference(logits: list[list[float]], labels: list[int], k: int) -> float:
    """Percent of the rows whose label is among the k highest scores; the lower class first among equals."""
    hits = 0
    for row, label in zip(logits, labels, strict=True):
        if any(math.isnan(score) for score in row):
            continue
        order = sorted(range(len(row)), key=lambda c: (-row[c], c))
        hits += label in order[:k]
    return 100 * hits / len(labels)


def evaluate(metric: TopK, logits: torch.Tensor, labels: torch.Tensor, batch: int, size: int) -> dict[str, float]:
    for start in range(0, len(labels), batch):
        part = slice(start, start + batch)
        metric.process({"labels": labels[part]}, list(logits[part]))
    return metric.evaluate(size)


@pytest.mark.parametrize("classes", [2, 4, 5, 30])
@pytest.mark.parametrize("ties", [False, True])
def test_against_a_loop(classes: int, ties: bool) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(53, classes, generator=generator)
    if ties:
        logits = logits.round()
    labels = torch.randint(0, classes, (53,), generator=generator)
    values = evaluate(TopK((1, 3, 5)), logits, labels, batch=8, size=53)  # the last batch has 5
    assert list(values) == ["top1", "top3", "top5"]
    for k in (1, 3, 5):
        assert values[f"top{k}"] == pytest.approx(reference(logits.tolist(), labels.tolist(), k))


def test_nan_is_never_right() -> None:
    logits = torch.tensor([[math.nan, 0.0], [0.0, math.nan], [math.nan, math.nan], [1.0, 0.0]])
    labels = torch.tensor([0, 0, 1, 0])
    assert evaluate(TopK(), logits, labels, 4, 4) == {"top1": 25.0, "top5": 25.0}


def test_infinite_scores() -> None:
    logits = torch.tensor([[math.inf, 0.0, -math.inf]])
    assert [label_ranks(logits, torch.tensor([c])).item() for c in range(3)] == [0, 1, 2]


def test_half_precision() -> None:
    logits = torch.randn(20, 6).bfloat16()
    labels = torch.randint(0, 6, (20,))
    assert evaluate(TopK((2,)), logits, labels, 7, 20)["top2"] == reference(logits.tolist(), labels.tolist(), 2)


def test_repeated_samples_of_a_distributed_sampler_do_not_count() -> None:
    """Five samples on two ranks: the sampler repeats the first; what the ranks gather is cut back to five."""
    metric = TopK((1,))
    metric.dataset_meta = {"classes": ("a", "b")}
    logits, labels = torch.tensor([[1.0, 0.0]] * 6), torch.tensor([0, 1, 1, 1, 1, 0])
    assert evaluate(metric, logits, labels, 2, size=5) == {"top1": 20.0}
    assert metric.tables["per class"] == {"a": {"top1": 100.0, "images": 1}, "b": {"top1": 0.0, "images": 4}}


def _rank(rank: int, folder: Path, logits: torch.Tensor, labels: torch.Tensor, queue: Any) -> None:
    os.chdir(folder)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    metric = TopK((1, 2))
    own = torch.arange(rank, 2 * math.ceil(len(labels) / 2), 2) % len(labels)  # as MMEngine's sampler deals them out
    queue.put(evaluate(metric, logits[own], labels[own], 3, len(labels)))


def test_two_processes(tmp_path: Path) -> None:
    """Seven samples, dealt out to two ranks, the first of them twice: the values of one process on both."""
    torch.manual_seed(0)
    logits, labels = torch.randn(7, 4), torch.randint(0, 4, (7,))
    logits[0, labels[0]] = 9  # right: counting it twice would show
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_rank, args=(i, tmp_path, logits, labels, queue)) for i in range(2)]
    for worker in workers:
        worker.start()
    values = [queue.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(timeout=60)
    expected = {f"top{k}": reference(logits.tolist(), labels.tolist(), k) for k in (1, 2)}
    assert values == [pytest.approx(expected)] * 2


def test_a_class_without_images_has_no_accuracy() -> None:
    metric = TopK((1,))
    metric.dataset_meta = {"classes": ("a", "b")}
    evaluate(metric, torch.tensor([[1.0, 0.0]]), torch.tensor([0]), 1, 1)
    assert metric.tables["per class"]["b"] == {"top1": None, "images": 0}


def test_no_samples() -> None:
    values = TopK().compute_metrics([])
    assert all(math.isnan(v) for v in values.values())


@pytest.mark.parametrize("topk", [(), (0,), (1, -2)])
def test_bad_k(topk: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="positive"):
        TopK(topk)
