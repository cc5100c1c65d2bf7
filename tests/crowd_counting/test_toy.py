"""The generated crowds: in the true layout, repeatable, and with heads where the points are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from crowd_counting.check import check_crowd
from crowd_counting.dataset import CrowdDataset
from crowd_counting.points import read_points
from crowd_counting.shanghaitech import find_shanghaitech
from crowd_counting.toy_crowds import draw_scene, encode_mat, make_toy_crowd

SMALL = {"train": 3, "test": 2, "size": (64, 80)}


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("part", ["A", "B"])
def test_layout(tmp_path, part):
    root = make_toy_crowd(tmp_path, part, train=8, test=3, size=(64, 80))
    assert [p.name for p in root.iterdir()] == [f"part_{part}_final"]
    assert [len(find_shanghaitech(root, part, split)) for split in ("train", "val", "test")] == [7, 1, 3]
    check_crowd(root, part, ("train", "val", "test"))
    sizes, modes = set(), set()
    for path in (root / f"part_{part}_final/train_data/images").iterdir():
        with Image.open(path) as image:
            assert image.format == "JPEG"
            sizes.add(image.size)
            modes.add(image.mode)
    assert (len(sizes) > 3) if part == "A" else (sizes == {(80, 64)})
    assert modes == ({"RGB", "L"} if part == "A" else {"RGB"})


def test_the_mat_file_has_the_structure_of_the_real_ones(tmp_path, mini):
    path = tmp_path / "a.mat"
    points = np.array([(1.5, 2.5), (3, 4)])
    path.write_bytes(encode_mat(points))
    infos = []
    for file in (path, next((mini / "part_B_final/test_data/ground_truth").iterdir())):
        outer = loadmat(file)["image_info"]
        inner = outer[0, 0]
        infos.append((outer.shape, outer.dtype, inner.shape, inner.dtype.names, inner[0, 0]["location"].dtype))
        assert inner[0, 0]["number"].shape == (1, 1)
        assert inner[0, 0]["number"].item() == len(inner[0, 0]["location"])
    assert infos[0] == infos[1]
    np.testing.assert_array_equal(read_points(path), points)
    assert encode_mat(points) == path.read_bytes()


def test_same_seed_same_files_other_seed_other_files(tmp_path):
    first = contents(make_toy_crowd(tmp_path / "a", **SMALL, seed=3))
    assert contents(make_toy_crowd(tmp_path / "b", **SMALL, seed=3)) == first
    other = contents(make_toy_crowd(tmp_path / "c", **SMALL, seed=4))
    assert all(other[name] != first[name] for name in first)


def test_every_scene_differs_and_does_not_depend_on_how_many_there_are(tmp_path):
    few = contents(make_toy_crowd(tmp_path, **SMALL))
    many = contents(make_toy_crowd(tmp_path, train=6, test=4, size=(64, 80)))
    assert all(many[name] == few[name] for name in few)
    images = [content for name, content in many.items() if name.endswith(".jpg")]
    assert len(set(images)) == len(images) == 10


def test_second_call_changes_nothing(tmp_path):
    root = make_toy_crowd(tmp_path, **SMALL)
    assert list(tmp_path.iterdir()) == [root]  # nothing of the making is left
    (root / "extra.txt").write_text("still here")
    assert make_toy_crowd(tmp_path, **SMALL) == root
    assert (root / "extra.txt").exists()


@pytest.mark.parametrize("arguments", [{"part": "C"}, {"train": 1}, {"train": 401}, {"test": 0}, {"size": (63, 80)}])
def test_bad_arguments(tmp_path, arguments):
    with pytest.raises(ValueError, match="not "):
        make_toy_crowd(tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_heads_are_where_the_points_are_and_smaller_with_distance():
    """The same scene with and without people differs around the points, in larger patches lower down."""
    size = (192, 256)
    upper, lower = [], []
    for seed in range(6):
        empty, none = draw_scene(size, 0, np.random.default_rng(seed))
        crowd, points = draw_scene(size, 25, np.random.default_rng(seed))
        assert none.shape == (0, 2)
        assert len(points) == 25
        changed = np.abs(crowd.astype(int) - empty).max(2) > 40
        for x, y in points:
            assert 0 <= x < 256
            assert 0 <= y < 192
            assert changed[max(0, int(y) - 2) : int(y) + 3, max(0, int(x) - 2) : int(x) + 3].any()
            patch = changed[int(y) : int(y) + 9, max(0, int(x) - 8) : int(x) + 9].sum()
            (upper if y < 70 else lower).append(patch)
    assert np.mean(lower) > 1.5 * np.mean(upper)


def test_no_head_hides_another_and_a_full_square_ends_the_drawing():
    _, points = draw_scene((192, 256), 400, np.random.default_rng(1))
    assert 300 < len(points) <= 400
    gaps = np.linalg.norm(points[:, None] - points, axis=-1)[~np.eye(len(points), dtype=bool)]
    assert gaps.min() > 1
    _, points = draw_scene((192, 256), 800, np.random.default_rng(1))
    assert 400 < len(points) < 700


def test_counts_reach_from_none_to_hundreds(tmp_path):
    root = make_toy_crowd(tmp_path, train=30, test=20, size=(96, 128))
    counts = np.concatenate([CrowdDataset(root, part="B", split=split).counts for split in ("train", "val", "test")])
    assert counts.min() == 0
    assert 200 < counts.max() <= 400
    mean_error = np.abs(counts - counts.mean()).mean()
    assert mean_error > 0.6 * counts.mean()  # who always says the mean is far off
