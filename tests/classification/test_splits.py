"""The search split: stratified, complete, repeatable, and away from the test set."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from classification.datasets import build_dataset
from classification.splits import split_search, split_test

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), [7, 9, 12, 8, 10]))


@pytest.mark.parametrize("seed", [None, 0, 3])
@pytest.mark.parametrize("held_out", [1, 6])
def test_stratified_and_complete(held_out: int, seed: int | None) -> None:
    training, validation = split_search(LABELS, held_out, seed)
    assert sorted([*training, *validation]) == list(range(len(LABELS)))
    assert np.bincount(LABELS[validation]).tolist() == [held_out] * 5
    assert (np.diff(training) > 0).all()
    assert (np.diff(validation) > 0).all()


def test_the_first_of_each_class() -> None:
    _, validation = split_search(LABELS, 3)
    expected = sorted(i for c in range(5) for i in [j for j, label in enumerate(LABELS) if label == c][:3])
    assert validation.tolist() == expected


def test_by_seed() -> None:
    splits = [split_search(LABELS, 3, seed)[1].tolist() for seed in (0, 0, 1, None)]
    assert splits[0] == splits[1]
    assert splits[0] != splits[2]
    assert splits[0] != splits[3]


def test_too_large_for_a_class() -> None:
    with pytest.raises(ValueError, match=r"hold out 7 images a class: class 'owl' has 7 .* held_out to 6 or less"):
        split_search(LABELS, 7, classes=("owl", "b", "c", "d", "e"))
    with pytest.raises(ValueError, match="class '1' has a single training image"):
        split_search(np.array([0, 0, 1]), 1)
    with pytest.raises(ValueError, match="at least 1"):
        split_search(LABELS, 0)


def test_a_fifth_for_testing() -> None:
    training, test = split_test(LABELS)
    assert sorted([*training, *test]) == list(range(len(LABELS)))
    assert np.bincount(LABELS[test]).tolist() == [1, 2, 2, 2, 2]
    with pytest.raises(ValueError, match="single image"):
        split_test(np.array([0, 0, 1]))


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("seed", [None, 4])
@pytest.mark.parametrize("layout", ["train and val", "train and test", "all three", "classes alone"])
def test_the_test_set_never_enters_the_search(
    tmp_path: Path, write_images: Callable[..., None], layout: str, seed: int | None, in_memory: bool
) -> None:
    """D_train and D_val are the training images, each once; none is among the validation or test images."""
    if layout == "classes alone":
        write_images(tmp_path, owl=10, wren=12)
    else:
        write_images(tmp_path / "train", owl=8, wren=10)
        for name in {"train and val": ["val"], "train and test": ["test"], "all three": ["val", "test"]}[layout]:
            write_images(tmp_path / name, owl=3, wren=2)

    def pixels(part: str) -> list[bytes]:
        dataset = build_dataset(str(tmp_path), part, image_size=8, in_memory=in_memory, held_out=3, split_seed=seed)
        if in_memory:
            return [image.numpy().tobytes() for image in dataset.images]
        return [path.read_bytes() for path in dataset.source.items]

    search = [*pixels("search_train"), *pixels("search_val")]
    assert sorted(search) == sorted(pixels("train"))
    assert len(set(search)) == len(search) == 18
    assert len(pixels("search_val")) == 6
    for part in ("val", "test"):
        assert pixels(part)
        assert not set(search) & set(pixels(part))
