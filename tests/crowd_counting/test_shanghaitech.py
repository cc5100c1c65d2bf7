"""Both layouts, the shipped split, partial copies, and the table of prepare_data."""

import json
from pathlib import Path

import numpy as np
import pytest

import crowd_counting.facts
import crowd_counting.shanghaitech
from crowd_counting.facts import prepare_shanghaitech
from crowd_counting.points import read_points
from crowd_counting.shanghaitech import (
    COUNTS,
    detect_part,
    draw_order,
    find_part,
    find_shanghaitech,
    number_of,
    partial_notice,
    read_order,
)
from crowd_counting.toy_crowds import encode_mat


def numbers(samples):
    return [number_of(sample) for sample in samples]


def empty_part(folder: Path, letter: str) -> Path:
    """A part with all its images as empty files, which listing does not open."""
    for split in ("train", "test"):
        images = folder / f"part_{letter}_final" / f"{split}_data" / "images"
        images.mkdir(parents=True)
        for number in range(1, COUNTS[letter, split] + 1):
            (images / f"IMG_{number}.jpg").touch()
    return folder


@pytest.mark.parametrize(("letter", "sizes"), [("A", (270, 30, 182)), ("B", (360, 40, 316))])
def test_splits_of_the_whole_data(tmp_path, letter, sizes):
    root = empty_part(tmp_path, letter)
    train, val, test = (numbers(find_shanghaitech(root, letter, split)) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == sizes
    assert sorted(train + val) == list(range(1, sum(sizes[:2]) + 1))
    assert val == sorted(read_order(letter)[: sizes[1]])
    assert train == sorted(train)
    assert test == list(range(1, sizes[2] + 1))
    assert not any(partial_notice(root, letter, split) for split in ("train", "val", "test"))


@pytest.mark.parametrize("letter", ["A", "B"])
def test_the_shipped_order_is_the_drawn_one(letter):
    path = Path(crowd_counting.shanghaitech.__file__).with_name("splits.json")
    assert json.loads(path.read_text())[letter] == draw_order(letter)
    assert sorted(draw_order(letter)) == list(range(1, COUNTS[letter, "train"] + 1))


def test_a_missing_image_hardly_changes_the_split(tmp_path):
    root = empty_part(tmp_path, "B")
    before = set(numbers(find_shanghaitech(root, "B", "val")))
    gone = min(before)
    (root / "part_B_final/train_data/images" / f"IMG_{gone}.jpg").unlink()
    after = set(numbers(find_shanghaitech(root, "B", "val")))
    assert before - after == {gone}
    assert after - before == {read_order("B")[40]}


@pytest.mark.parametrize("folder", ["part_B_final", "part_B", "ShanghaiTech/part_B", "other/part_B_final"])
@pytest.mark.parametrize("truth", ["ground_truth", "ground-truth"])
def test_both_layouts_and_where_they_may_lie(part, folder, truth):
    root = part(name=folder, truth=truth)
    for start in (root, root / folder):
        (sample,) = find_shanghaitech(start, "B", "test")
        assert sample.annotation == root / folder / "test_data" / truth / "GT_IMG_1.mat"
        np.testing.assert_array_equal(read_points(sample.annotation), [(5.5, 6.5), (20, 10)])
    assert find_part(root, "A") is None
    assert find_part(root / "nowhere", "B") is None


def test_only_img_files_are_read_in_the_order_of_their_numbers(part):
    root = part(train=(10, 2, 1), test=(12, 3))
    images = root / "part_B_final" / "test_data" / "images"
    for name in ("IMG_7.png", "IMG_3 (copy).jpg", "3.jpg", "._IMG_3.jpg", "IMG_.jpg"):
        (images / name).touch()
    assert numbers(find_shanghaitech(root, "B", "test")) == [3, 12]


def test_partial_copies(part):
    root = part(train=(4, 8, 15, 16, 23, 42), test=(1, 2))
    train, val = (numbers(find_shanghaitech(root, "B", split)) for split in ("train", "val"))
    assert val == [min((4, 8, 15, 16, 23, 42), key=read_order("B").index)]
    assert sorted(train + val) == [4, 8, 15, 16, 23, 42]
    assert partial_notice(root, "B", "val") == "6 of 400 images of train_data"
    assert partial_notice(root, "B", "test") == "2 of 316 images of test_data"


def test_detect_part(part, own):
    root = part()
    assert detect_part(root, "B") == "B"
    assert detect_part(own, "A") is None  # `own` has images/ in the same folder
    assert detect_part(root, None) is None
    with pytest.raises(FileNotFoundError, match=r"put part_A_final/ \(or part_A/\) of ShanghaiTech there, or images/"):
        detect_part(root / "part_B_final", "A")


def test_mistakes(tmp_path, part):
    with pytest.raises(ValueError, match="part must be A or B, or None for data of your own, got 'C'"):
        find_part(tmp_path, "C")
    with pytest.raises(FileNotFoundError, match="no part_A_final/ or part_A/"):
        find_shanghaitech(tmp_path, "A", "train")
    (tmp_path / "part_A" / "train_data" / "images").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"no IMG_\*\.jpg in"):
        find_shanghaitech(tmp_path, "A", "train")


def rows_of(table: str) -> dict[str, list[str]]:
    lines = [line.split() for line in table.splitlines()]
    return {" ".join(line[:2]): line[2:] for line in lines if line and line[0] in ("A", "B")}


def test_prepare_prints_what_there_is(part):
    root = part(points=((5, 5), (5, 5), (-1, 3), (39, 29)))
    folder = root / "part_B_final" / "train_data" / "ground_truth"
    (folder / "GT_IMG_2.mat").write_bytes(encode_mat(np.zeros((0, 2))))
    table = prepare_shanghaitech(root)
    assert rows_of(table) == {
        "B train": ["3", "400", "8", "0", "4", "40x30", "40x30", "0", "2", "2"],
        "B test": ["1", "316", "4", "4", "4", "40x30", "40x30", "0", "1", "1"],
    }
    assert table.endswith("part B: a partial copy, 3 + 1 of 400 + 316 images; it can be used")


@pytest.mark.parametrize(
    ("totals", "words"),
    [
        ((8, 7), "8 people, the published total"),
        (
            (9, 8),
            "8 people; differs from the published total of 9 by 1 fewer; another copy that circulates has",
        ),
        ((5, 6), "8 people; differs from the published total of 5 by 3 more"),
    ],
)
def test_prepare_compares_the_total_with_the_published_one(part, monkeypatch, totals, words):
    """Who changed an annotation, and whether anybody did, a number cannot tell."""
    root = part(mode="L")
    monkeypatch.setattr(crowd_counting.facts, "COUNTS", {("B", "train"): 3, ("B", "test"): 1})
    monkeypatch.setattr(crowd_counting.facts, "PEOPLE", {"B": totals})
    table = prepare_shanghaitech(root)
    assert f"part B: all images are there, {words}" in table.splitlines()[-1]
    assert rows_of(table)["B train"][-3:] == ["3", "0", "0"]


def test_the_totals_that_are_known():
    assert crowd_counting.facts.PEOPLE == {"A": (241_677, 241_275), "B": (88_488, 88_272)}


def test_prepare_reports_a_declared_number_that_differs(part, monkeypatch):
    root = part()
    describe = crowd_counting.facts.describe
    monkeypatch.setattr(crowd_counting.facts, "describe", lambda sample: describe(sample)._replace(declared=99))
    assert "part B, train: in 3 files the declared number is not that of the points" in prepare_shanghaitech(root)


def test_prepare_without_data(tmp_path, part):
    with pytest.raises(FileNotFoundError, match=r"no ShanghaiTech in .*by hand"):
        prepare_shanghaitech(tmp_path)
    root = part()
    (root / "part_B_final/train_data/ground_truth/GT_IMG_2.mat").unlink()
    with pytest.raises(ValueError, match="1 problem with the 4 images"):
        prepare_shanghaitech(root)


def test_real_data(mini):
    assert rows_of(prepare_shanghaitech(mini)) == {
        "A train": ["50", "300", "26,818", "74", "2,672", "464x183", "1024x792", "0", "0", "11"],
        "A test": ["24", "182", "9,809", "89", "1,156", "300x200", "1024x768", "3", "0", "2"],
        "B train": ["40", "400", "5,537", "20", "414", "1024x768", "1024x768", "0", "0", "8"],
        "B test": ["20", "316", "2,461", "51", "465", "1024x768", "1024x768", "0", "0", "3"],
    }


def test_tool(tool, part, capsys, tmp_path):
    tool("prepare_data")(["shanghaitech", "--root", str(part())])
    assert "it can be used" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        tool("prepare_data")(["shanghaitech", "--root", str(tmp_path / "nowhere")])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no ShanghaiTech in '")
    assert error.count("\n") == 1
