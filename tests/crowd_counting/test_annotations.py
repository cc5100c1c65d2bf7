"""Points from files of every kind, the policy for those outside, and the layouts of one's own data."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from crowd_counting.annotations import clamp, find_samples, hold_out, keep_inside
from crowd_counting.points import read_points
from crowd_counting.toy_crowds import encode_mat

POINTS = np.array([(1.5, 2.25), (30, 40), (30, 40), (-3.5, 1000)])


def write(path: Path, content) -> Path:
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(content)
    elif path.suffix == ".mat":
        savemat(path, content)
    else:
        np.save(path, content, allow_pickle=True)
    return path


ROWS = "1.5,2.25\n30,40\n30,40\n-3.5,1000\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", ROWS),
        ("a.csv", "x,y\n" + ROWS),
        ("a.CSV", "\ufeffX, Y\r\n" + ROWS.replace("\n", "\r\n")),
        ("a.csv", "y,name,x\n2.25,p,1.5\n40,,30\n40,q,30\n1000,r,-3.5\n"),
        ("a.csv", ROWS.replace("\n", "\n\n")),
        ("a.json", json.dumps(POINTS.tolist())),
        ("a.json", "\ufeff" + json.dumps(POINTS.tolist())),
        ("a.json", json.dumps({"points": POINTS.tolist(), "human_num": 4})),
        ("a.npy", POINTS),
        ("a.npy", POINTS.astype(np.float16)),
        ("a.mat", encode_mat(POINTS)),
        ("a.mat", {"annPoints": POINTS}),
    ],
)
def test_every_format(tmp_path, name, content):
    points = read_points(write(tmp_path / name, content))
    assert points.dtype == np.float64
    np.testing.assert_array_equal(points, POINTS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", ""),
        ("a.csv", "x,y\n"),
        ("a.csv", "\n\n"),
        ("a.json", "[]"),
        ("a.json", '{"points": []}'),
        ("a.npy", np.zeros((0, 2))),
        ("a.npy", np.zeros(0)),
        ("a.mat", encode_mat(np.zeros((0, 2)))),
        ("a.mat", {"annPoints": np.zeros((0, 0))}),
    ],
)
def test_nobody_is_a_count_of_zero(tmp_path, name, content):
    assert read_points(write(tmp_path / name, content)).shape == (0, 2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "1,2,3\n4,5,6\n", "it has 3 columns: keep two, x and y, or name them"),
        ("a.csv", "1\n2\n", "it has 1 columns"),
        ("a.csv", "1,2\n3\n", "line 2 has 1 columns, not 2"),
        ("a.csv", "x,y\n1,two\n", "line 2: 'two' is no number; write x,y in pixels"),
        ("a.csv", "a,b\n1,2\n", "line 1: 'a' is no number; write x,y in pixels, under a header x,y or none"),
        ("a.csv", "x,y\n1,\n", "line 2: a number is missing"),
        ("a.csv", "1;2\n", "separate them by a comma"),
        ("a.csv", b"\xff\xfe1\x00", "it is no text in UTF-8 (byte 0 is none): save it as such"),
        ("a.csv", "1,nan\n", "point 1 is not finite (1 such)"),
        ("a.json", "[[1, 2],\n[3, }", "line 2 is no JSON (Expecting value): correct it"),
        ("a.json", '[[1, "2"]]', "point 1 is [1, '2']: write it as [x, y], two numbers in pixels"),
        ("a.json", "3", "no list of"),
        ("a.json", '{"boxes": []}', "no 'points'"),
        ("a.json", "[[1, 2], [3]]", "point 2 is [3]: write it as [x, y]"),
        ("a.json", "[[1, 2, 3]]", "point 1 is [1, 2, 3]: write it as [x, y]"),
        ("a.json", "[[1, NaN], [2, Infinity]]", "point 1 is not finite (2 such)"),
        ("a.json", '[{"x": 1, "y": 2}]', "point 1 is {'x': 1, 'y': 2}: write it as [x, y]"),
        ("a.npy", np.zeros((2, 3)), "shape (2, 3)"),
        ("a.npy", np.zeros(2), "shape (2,)"),
        ("a.npy", np.array([{"x": 1}], object), "it is no array of numbers: write it with numpy.save"),
        ("a.npy", b"not an array", "it is no array of numbers"),
        ("a.json", f"[[1, {'9' * 400}]]", "its points are not all numbers"),
        ("a.npy", np.array([["1", "2"]]), "it holds <U1, and no numbers"),
        ("a.mat", b"not a mat file", "cannot be read"),
        ("a.mat", encode_mat(POINTS)[:200], "cannot be read"),
        ("a.mat", {"density": POINTS}, "neither image_info (ShanghaiTech) nor annPoints"),
        ("a.mat", {"image_info": POINTS}, "image_info is not ShanghaiTech's"),
        ("a.mat", {"image_info": np.zeros((0, 0))}, "image_info is not ShanghaiTech's"),
        ("a.mat", encode_mat(np.array([(1, np.nan)])), "point 1 is not finite"),
        ("a.xml", "1,2", "is no .csv, .json, .npy or .mat file"),
    ],
)
def test_another_structure_is_one_line(tmp_path, name, content, message):
    with pytest.raises(ValueError) as caught:
        read_points(write(tmp_path / name, content))
    assert str(tmp_path / name) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_array_of_objects_runs_no_code(tmp_path):
    """A pickle inside a .npy is refused, not loaded."""

    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    array = np.empty(1, object)
    array[0] = Trap()
    with pytest.raises(ValueError, match="cannot be read"):
        read_points(write(tmp_path / "a.npy", array))
    assert not (tmp_path / "ran").exists()


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.csv' does not exist"):
        read_points(tmp_path / "a.csv")


def test_points_outside_are_dropped_or_clipped():
    points = np.array([(-0.5, 3), (0, 0), (10, 8), (10.5, 3), (5, 8.01), (4, 4), (4, 4)])
    kept, outside = keep_inside(points, 10, 8, "drop")
    assert outside == 3
    assert kept.dtype == np.float32
    np.testing.assert_allclose(kept, [(0, 0), (10, 8), (4, 4), (4, 4)], atol=1e-5)  # duplicates are people
    clipped, outside = keep_inside(points, 10, 8, "clip")
    assert outside == 3
    np.testing.assert_allclose(clipped, [(0, 3), (0, 0), (10, 8), (10, 3), (5, 8), (4, 4), (4, 4)], atol=1e-5)
    for result in (kept, clipped):
        assert (result < (10, 8)).all()  # a point on the border is in the last pixel
    with pytest.raises(ValueError, match="out_of_frame must be drop or clip, got 'keep'"):
        keep_inside(points, 10, 8, "keep")


@pytest.mark.parametrize("width", [1, 7, 1024, 6000])
def test_the_border_belongs_to_the_last_pixel(width):
    assert int(clamp(np.array([[width, 0]], np.float32), width, 5)[0, 0]) == width - 1
    assert int(keep_inside(np.array([[width - 1e-12, 0]]), width, 5)[0][0, 0]) == width - 1


def names(samples):
    return [sample.image.stem for sample in samples]


def test_folder_without_lists(own):
    train, val, test = (find_samples(own, split) for split in ("train", "val", "test"))
    assert len(train) == 9
    assert len(val) == 1
    assert test == val
    assert sorted(names(train) + names(val)) == [str(number) for number in range(10)]
    assert all(sample.annotation == own / "annotations" / f"{sample.image.stem}.csv" for sample in train)
    assert names(find_samples(own, "val")) == names(val)


def test_lists(own):
    (own / "train.txt").write_text("3\n1.jpg\n\n2\n")
    (own / "val.txt").write_text("7\n")
    (own / "test.txt").write_text("8\n9\n")
    assert names(find_samples(own, "train")) == ["3", "1", "2"]
    assert names(find_samples(own, "val")) == ["7"]
    assert names(find_samples(own, "test")) == ["8", "9"]


def test_images_listed_for_a_test_are_not_trained_on(own):
    (own / "test.txt").write_text("8\n9\n")
    train, val = find_samples(own, "train"), find_samples(own, "val")
    assert len(train) == 7
    assert len(val) == 1
    assert sorted(names(train) + names(val)) == [str(number) for number in range(8)]
    (own / "val.txt").write_text("0\n")
    assert names(find_samples(own, "train")) == [str(number) for number in range(1, 8)]


def test_a_list_that_names_a_missing_image(own):
    (own / "train.txt").write_text("3\n77\n")
    with pytest.raises(FileNotFoundError, match=r"train\.txt' names '77', which is not in"):
        find_samples(own, "train")
    (own / "train.txt").write_text("\n")
    with pytest.raises(FileNotFoundError, match="is empty"):
        find_samples(own, "train")


def test_split_folders_and_annotations_beside_images(tmp_path, image):
    for split, count in (("train", 4), ("val", 2), ("test", 1)):
        for number in range(count):
            path = image(tmp_path / split / "images" / f"{split}{number}.png")
            path.with_suffix(".json").write_text("[[1, 2]]")
        (tmp_path / split / "images" / "notes.txt").write_text("no image")
    assert names(find_samples(tmp_path, "train")) == ["train0", "train1", "train2", "train3"]
    assert names(find_samples(tmp_path, "val")) == ["val0", "val1"]
    (sample,) = find_samples(tmp_path, "test")
    assert read_points(sample.annotation).tolist() == [[1, 2]]


def test_no_data(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither images/ nor train/images/ is there"):
        find_samples(tmp_path, "train")


@pytest.mark.parametrize(("count", "held"), [(2, 1), (9, 1), (10, 1), (16, 2), (300, 30)])
def test_hold_out(count, held):
    samples = [object() for _ in range(count)]
    order = list(reversed(range(count)))
    train, val = hold_out(samples, order, 0.1)
    assert val == samples[count - held :]
    assert train == samples[: count - held]
    with pytest.raises(ValueError, match="two are the least"):
        hold_out(samples[:1], [0], 0.1)


def test_a_mark_of_byte_order_inside_a_list(own):
    """Two lists of an editor that begins files with a mark, joined."""
    (own / "train.txt").write_text("\ufeff3\n\ufeff1.jpg\n")
    (own / "val.txt").write_text("\u200b7\u200b \n")
    assert names(find_samples(own, "train")) == ["3", "1"]
    assert names(find_samples(own, "val")) == ["7"]
    (own / "train.txt").write_text("3\u200b1\n")
    with pytest.raises(FileNotFoundError, match=r"names '3\\u200b1', which is not in"):
        find_samples(own, "train")


def test_endings_in_capitals(own, image):
    (own / "annotations/3.csv").rename(own / "annotations/3.CSV")
    (own / "images/3.jpg").rename(own / "images/3.JPG")
    samples = {sample.image.name: sample.annotation.name for sample in find_samples(own, "train")}
    assert samples["3.JPG"] == "3.CSV"


def test_a_name_of_two_images_needs_its_ending(own, image):
    image(own / "images/3.png")
    (own / "train.txt").write_text("3\n")
    with pytest.raises(ValueError, match=r"train\.txt' names '3', which is '3.jpg' and '3.png': write the ending"):
        find_samples(own, "train")


@pytest.mark.parametrize("suffix", [".webp", ".tif", ".gif", ".jfif"])
def test_every_image_that_can_be_read_is_found(own, image, suffix):
    image(own / f"images/more{suffix}")
    (own / "annotations/more.csv").write_text("1,2\n")
    found = [sample for split in ("train", "val") for sample in find_samples(own, split)]
    assert own / f"images/more{suffix}" in [sample.image for sample in found]
