"""UCF-QNRF, UCF_CC_50, NWPU-Crowd and JHU-CROWD++ as small files in their exact formats."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from crowd_counting import layout_facts
from crowd_counting.check import check_crowd
from crowd_counting.dataset import CrowdDataset, find_split
from crowd_counting.layout_facts import prepare_layout
from crowd_counting.layouts import LAYOUTS, find_layout
from crowd_counting.points import read_points
from crowd_counting.shanghaitech import detect_part
from ean_core.errors import UserError

Write = Callable[..., Path]


def heads(count: int) -> np.ndarray:
    return np.array([[1.5 + i, 2.25 + i] for i in range(count)]).reshape(-1, 2)


def beside(image: Write, folder: Path, names: Iterable[str], people: Callable[[int], int], mode: str = "RGB") -> None:
    for index, name in enumerate(names):
        image(folder / f"{name}.jpg", mode=mode)
        savemat(folder / f"{name}_ann.mat", {"annPoints": heads(people(index))}, do_compression=True)


@pytest.fixture
def qnrf(tmp_path: Path, image: Write) -> Path:
    root = tmp_path / "data" / "UCF-QNRF_ECCV18"
    beside(image, root / "Train", (f"img_{i:04}" for i in range(1, 13)), lambda i: i + 1)
    beside(image, root / "Test", ("img_0001", "img_0002"), lambda i: 5)
    return tmp_path / "data"


@pytest.fixture
def cc50(tmp_path: Path, image: Write) -> Path:
    root = tmp_path / "data" / "UCF_CC_50"
    beside(image, root, (str(i) for i in range(1, 51)), lambda i: i % 7, "L")
    return tmp_path / "data"


@pytest.fixture
def nwpu(tmp_path: Path, image: Write) -> Path:
    """Images 1 to 4 for training, 5 and 6 for validation, 7 without annotation for the test."""
    root = tmp_path / "data" / "NWPU-Crowd"
    for folder in ("jsons", "mats"):
        (root / folder).mkdir(parents=True)
    for number in range(1, 8):
        image(root / "images" / f"{number:04}.jpg")
        if number == 7:
            continue
        points = heads(number - 1)
        boxes = [[x - 1, y - 1, x + 1, y + 1] for x, y in points.tolist()]
        content = {"img_id": f"{number:04}.jpg", "human_num": len(points), "points": points.tolist(), "boxes": boxes}
        (root / "jsons" / f"{number:04}.json").write_text(json.dumps(content))
        savemat(root / "mats" / f"{number:04}.mat", {"annPoints": points, "annBoxes": np.array(boxes)})
    for name, numbers in (("train", (3, 1, 2, 4)), ("val", (5, 6)), ("test", (7,))):
        (root / f"{name}.txt").write_text("".join(f"{n:04} {n % 3} {n % 5}\n" for n in numbers))
    return tmp_path / "data"


@pytest.fixture
def jhu(tmp_path: Path, image: Write) -> Path:
    root = tmp_path / "data" / "jhu_crowd_v2.0"
    for split, names in (("train", ("0001", "0004", "0009")), ("val", ("0003",)), ("test", ("0002", "0005"))):
        (root / split / "gt").mkdir(parents=True)
        for index, name in enumerate(names):
            image(root / split / "images" / f"{name}.jpg")
            lines = [f"{10 + i} {5 + i} 24 25 {1 + i % 3} {i % 2}\n" for i in range(index)]
            (root / split / "gt" / f"{name}.txt").write_text("".join(lines))
        labels = [f"{name},{index},street,0,0\n" for index, name in enumerate(names)]
        (root / split / "image_labels.txt").write_text("".join(labels))
    return tmp_path / "data"


def names(root: Path, part: str, split: str) -> list[str]:
    return [sample.image.stem for sample in find_split(root, part, split)]


def test_qnrf(qnrf: Path) -> None:
    assert names(qnrf, "ucf_qnrf", "test") == ["img_0001", "img_0002"]
    train, val = names(qnrf, "ucf_qnrf", "train"), names(qnrf, "ucf_qnrf", "val")
    assert (len(train), len(val)) == (11, 1)
    assert sorted(train + val) == [f"img_{i:04}" for i in range(1, 13)]
    assert val == names(qnrf / "UCF-QNRF_ECCV18", "ucf_qnrf", "val")  # the folder itself does as well
    sample = find_split(qnrf, "ucf_qnrf", "test")[0]
    np.testing.assert_array_equal(read_points(sample.annotation), heads(5))


def test_folds_of_cc50(cc50: Path) -> None:
    """Each image is tested in one fold, and in the others it trains or validates."""
    tested = []
    for fold in range(1, 6):
        test, train, val = (names(cc50, f"ucf_cc_50-{fold}", split) for split in ("test", "train", "val"))
        assert (len(test), len(train), len(val)) == (10, 36, 4)
        assert sorted(map(int, test + train + val)) == list(range(1, 51))
        tested += test
    assert [int(name) for name in tested] == list(range(1, 51))
    dataset = CrowdDataset(cc50, part="ucf_cc_50-2", split="test")
    assert dataset[0]["inputs"].shape == (3, 30, 40)  # grey images have three channels
    assert dataset.counts.tolist() == [i % 7 for i in range(10, 20)]


@pytest.mark.parametrize("without", ["mats", "jsons"])
def test_nwpu(nwpu: Path, without: str) -> None:
    """The order is the list's; without the public annotations of the test, it is made on val."""
    folder = nwpu / "NWPU-Crowd"
    (folder / without).rename(folder / "gone")
    assert names(nwpu, "nwpu", "train") == ["0003", "0001", "0002", "0004"]
    assert names(nwpu, "nwpu", "val") == names(nwpu, "nwpu", "test") == ["0005", "0006"]
    counts = [len(read_points(sample.annotation)) for sample in find_split(nwpu, "nwpu", "train")]
    assert counts == [2, 0, 1, 3]
    check_crowd(nwpu, "nwpu", ("train", "val", "test"))


def test_jhu(jhu: Path) -> None:
    assert [names(jhu, "jhu", split) for split in ("train", "val", "test")] == [
        ["0001", "0004", "0009"], ["0003"], ["0002", "0005"],
    ]  # fmt: skip
    sample = find_split(jhu, "jhu", "train")[2]
    np.testing.assert_array_equal(read_points(sample.annotation), [[10, 5], [11, 6]])
    assert len(read_points(find_split(jhu, "jhu", "val")[0].annotation)) == 0  # an empty file: nobody


def test_the_table_of_a_partial_copy(jhu: Path) -> None:
    lines = prepare_layout("jhu", jhu).splitlines()
    assert [line.split() for line in lines[1:4]] == [
        ["train", "3", "3", "0", "2", "40x30", "40x30", "0", "0"],
        ["val", "1", "0", "0", "0", "40x30", "40x30", "0", "0"],
        ["test", "2", "1", "0", "1", "40x30", "40x30", "0", "0"],
    ]
    assert lines[4] == "JHU-CROWD++: a partial copy, 6 of 4,372 images with annotations; it can be used"
    assert lines[5] == "splits: the official splits"


def test_labels_that_count_others(jhu: Path) -> None:
    path = jhu / "jhu_crowd_v2.0" / "train" / "image_labels.txt"
    path.write_text(path.read_text().replace("0009,2", "0009,7"))
    with pytest.raises(ValueError, match=r"image_labels.txt', line 3: 7 people in '0009', but .* has 2 points"):
        prepare_layout("jhu", jhu)


def test_whole_and_changed_copies(qnrf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    total = sum(range(1, 13)) + 10
    layout = LAYOUTS["ucf_qnrf"]._replace(images={"train": 12, "test": 2}, people=total)
    monkeypatch.setitem(layout_facts.LAYOUTS, "ucf_qnrf", layout)
    assert f"UCF-QNRF: complete, {total} people" in prepare_layout("ucf_qnrf", qnrf)
    monkeypatch.setitem(layout_facts.LAYOUTS, "ucf_qnrf", layout._replace(people=1000))
    assert f"all images are there, with {total} people; the published total is 1,000" in prepare_layout(
        "ucf_qnrf", qnrf
    )


def test_the_published_numbers() -> None:
    found = {name: (sum(layout.images.values()), layout.people) for name, layout in LAYOUTS.items()}
    assert found["ucf_qnrf"] == (1535, 1_251_642)
    assert {found[f"ucf_cc_50-{fold}"] for fold in range(1, 6)} == {(50, 63_974)}
    assert found["nwpu"] == (5109 - 1500, None)
    assert found["jhu"] == (4372, 1_515_005)


def test_the_tool(tool, cc50: Path, nwpu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool("prepare_data")(["ucf_cc_50", "--root", str(cc50)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines[1:6]] == [
        ["fold", str(fold), "10", str(sum(i % 7 for i in range(10 * fold - 10, 10 * fold)))] for fold in range(1, 6)
    ]
    assert lines[6].endswith(f"with {sum(i % 7 for i in range(50))} people; the published total is 63,974")
    tool("prepare_data")(["nwpu", "--root", str(nwpu)])
    assert "a partial copy, 6 of 3,609 images" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        tool("prepare_data")(["jhu", "--root", str(tmp_path)])
    assert "error: no JHU-CROWD++ in" in capsys.readouterr().err


def test_damage_is_found(qnrf: Path, nwpu: Path) -> None:
    (qnrf / "UCF-QNRF_ECCV18" / "Test" / "img_0002_ann.mat").unlink()
    with pytest.raises(ValueError, match=r"img_0002\.jpg' has no annotation"):
        check_crowd(qnrf, "ucf_qnrf", ("test",))
    (nwpu / "NWPU-Crowd" / "jsons" / "0005.json").write_text("{}")
    with pytest.raises(ValueError, match="the object has no 'points'"):
        check_crowd(nwpu, "nwpu", ("val",))


def test_what_is_not_there(tmp_path: Path, own: Path) -> None:
    assert find_layout(tmp_path / "nowhere", "jhu") is None
    with pytest.raises(FileNotFoundError, match=r"no JHU-CROWD\+\+ in .* train/gt, val/gt, test/gt"):
        find_split(tmp_path, "jhu", "train")
    assert detect_part(own, "nwpu") is None  # images of one's own
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no NWPU-Crowd in"):
        detect_part(tmp_path / "empty", "nwpu")


def test_a_line_that_is_no_point(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1 2 3 4 0 0\n7\n")
    with pytest.raises(ValueError, match=r"a\.txt' cannot be read: line 2 has one number"):
        read_points(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2 3 4 0 0\n\n\n7\n", "line 4 has one number"),  # blank lines count
        ("1 2 3 4 0 0\n\nx y 1 1 0 0\n", "line 3: 'x y' are not two numbers; x and y"),
    ],
)
def test_a_wrong_line_is_found_by_its_number(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(UserError, match=words):
        read_points(tmp_path / "a.txt")


@pytest.mark.parametrize("points", ["abc", np.array(["a", 1], dtype=object)], ids=["text", "cells"])
def test_a_mat_file_of_other_things(tmp_path: Path, points: object) -> None:
    savemat(tmp_path / "1_ann.mat", {"annPoints": points})
    with pytest.raises(UserError, match=r"1_ann\.mat' cannot be read: its points are not all numbers: two a point"):
        read_points(tmp_path / "1_ann.mat")


@pytest.mark.parametrize("name", ["a_7.jpg", "²1.jpg", "copy.jpg"])
def test_images_of_other_names_are_left_aside(cc50: Path, image: Write, name: str) -> None:
    """UCF_CC_50's images are numbers; what else lies in the folder is none of them."""
    image(cc50 / "UCF_CC_50" / name)
    assert len(find_split(cc50, "ucf_cc_50-1", "test")) == 10
    assert check_crowd(cc50, "ucf_cc_50-1") == []


@pytest.mark.parametrize("text", ["", "0001.jpg 0 1\n"])
def test_a_list_without_a_known_image(nwpu: Path, text: str) -> None:
    """The data set is there; what is missing are its images."""
    (nwpu / "NWPU-Crowd" / "train.txt").write_text(text)
    with pytest.raises(FileNotFoundError, match=r"NWPU-Crowd' \(NWPU-Crowd\) has none of the images for train: "):
        find_split(nwpu, "nwpu", "train")


def test_the_doctor_names_them(qnrf: Path, cc50: Path) -> None:
    from crowd_counting.application import application

    found = list(application.found_data(qnrf))
    assert found == ["UCF-QNRF in UCF-QNRF_ECCV18 (14 images)", "UCF_CC_50 in UCF_CC_50 (50 images)"]


def test_a_config_finds_its_data(qnrf: Path) -> None:
    """By ``--data-root``; the limit reaches every split, and another limit is a word."""
    from ean_core.engine import load_config

    path = Path(__file__).resolve().parents[2] / "configs" / "crowd" / "org_ucf_qnrf.py"
    cfg = load_config(path, data_root=qnrf, options={"longest": 1536})
    datasets = [cfg[f"{name}_dataloader"].dataset for name in ("train", "val", "test")]
    assert {(dataset.part, dataset.longest) for dataset in datasets} == {("ucf_qnrf", 1536)}
    assert cfg.test_evaluator.baseline.part == "ucf_qnrf"
    with pytest.raises(FileNotFoundError, match="no JHU-CROWD"):
        load_config(path, data_root=qnrf / "UCF-QNRF_ECCV18", options={"part": "jhu"})
    with pytest.raises(ValueError, match="unknown part 'qnrf': choose from A, B, ucf_qnrf, "):
        load_config(path, data_root=qnrf, options={"part": "qnrf"})
