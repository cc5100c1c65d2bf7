"""The generated data set: real formats, repeatable, safe for two processes, and it can be learned."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classification.sources import detect_layout, read_source
from classification.toy_shapes import HUES, draw_image, make_toy


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("layout", ["cifar100", "folder"])
def test_layouts_hold_the_same_images(tmp_path: Path, layout: str) -> None:
    root = make_toy(tmp_path, layout, train=3, test=2)
    assert detect_layout(root) == layout
    for part, count, first in (("train", 3, 0), ("test", 2, 1_000_000)):
        source = read_source(root, layout, part)
        assert source.classes == tuple(HUES)
        assert np.bincount(source.labels).tolist() == [count] * 6
        found = {np.asarray(i if layout == "cifar100" else Image.open(i)).tobytes() for i in source.items}
        assert found == {draw_image(i % 6, 0, first + i).tobytes() for i in range(6 * count)}
        assert len(found) == 6 * count


def test_a_second_call_finds_the_set(tmp_path: Path) -> None:
    root = make_toy(tmp_path, train=1, test=1)
    before = contents(root)
    (root / "extra").touch()
    assert make_toy(tmp_path, train=1, test=1) == root
    assert (root / "extra").exists()
    assert contents(make_toy(tmp_path / "other", train=1, test=1)) == before
    assert make_toy(tmp_path, train=1, test=1, seed=1) != root


@pytest.mark.parametrize("arguments", [{"layout": "voc"}, {"train": 0}, {"test": 0}])
def test_bad_arguments(tmp_path: Path, arguments: dict) -> None:
    with pytest.raises(ValueError, match=r"layout must be|at least one image"):
        make_toy(tmp_path, **arguments)


def _make(root: Path, barrier, queue) -> None:
    barrier.wait()
    queue.put(str(make_toy(root, "folder", train=20, test=2)))


def test_two_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_make, args=(tmp_path, barrier, queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    (root,) = {queue.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    assert len(contents(Path(root))) == 6 * 22
    assert [p.name for p in tmp_path.iterdir()] == [Path(root).name]


def test_classes_can_be_told_apart() -> None:
    """Nearest class mean of hue histograms: far above the chance of one in six."""

    def histogram(label: int, index: int) -> np.ndarray:
        hsv = np.asarray(Image.fromarray(draw_image(label, 0, index)).convert("HSV"))
        hue, weight = hsv[..., 0].ravel(), hsv[..., 1].ravel().astype(float) ** 2
        counts, _ = np.histogram(hue, 24, (0, 256), weights=weight)
        return counts / counts.sum()

    means = np.stack([np.mean([histogram(c, i) for i in range(20)], 0) for c in range(6)])
    right = [np.abs(means - histogram(c, 100 + i)).sum(1).argmin() == c for c in range(6) for i in range(10)]
    assert np.mean(right) > 0.6
