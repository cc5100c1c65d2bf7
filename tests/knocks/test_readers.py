"""What the campaign has found in readers, each as one small file."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from classification.sources import read_source
from crowd_counting.annotations import find_samples
from crowd_counting.points import read_points
from ean_core.errors import UserError
from ean_core.files import read_json_lines, write_json_lines
from ean_core.images import read_image
from knocks.formats import FORMATS
from segmentation.voc import _merged_mask, encode_mask, list_path, read_list

NO_TEXT = b"2007_0\xff0001\n"


def test_an_image_list_that_is_no_text(tmp_path: Path) -> None:
    path = list_path(tmp_path, "train")
    path.parent.mkdir(parents=True)
    path.write_bytes(NO_TEXT)
    with pytest.raises(UserError, match=r"train\.txt' is no text in UTF-8"):
        read_list(tmp_path, "train")
    path.write_bytes("\ufeff2007_000001\n".encode())  # as an editor on Windows saves it
    assert read_list(tmp_path, "train") == ["2007_000001"]


def test_a_list_of_crowds_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "train.txt").write_bytes(NO_TEXT)
    with pytest.raises(UserError, match=r"train\.txt' is no text in UTF-8"):
        find_samples(tmp_path, "train")


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("meta", {}),
        ("meta", {"fine_label_names": 1.5}),
        ("meta", {"fine_label_names": [1, 2]}),
        ("meta", {"fine_label_names": "abc"}),
        ("train", {"data": np.zeros((2, 3072), np.uint8), "fine_labels": {"a": 1}}),
        ("train", {"data": np.zeros((2, 3072), np.uint8), "fine_labels": [0, 10**30]}),
        ("train", {"data": np.zeros((2, 3072), np.uint8), "fine_labels": [[0], [1]]}),
        ("train", {"data": np.zeros((2, 3072), np.uint8), "fine_labels": [0, 0.5]}),
        ("train", {"data": None, "fine_labels": [0, 1]}),
        ("train", {"data": np.full((1, 3072), 0.5), "fine_labels": [0]}),
    ],
    ids=str,
)
def test_cifar_files_with_other_values(tmp_path: Path, name: str, entry: dict[str, object]) -> None:
    whole = {
        "train": {"data": np.zeros((2, 3072), np.uint8), "fine_labels": [0, 1]},
        "meta": {"fine_label_names": ["a", "b"]},
    }
    home = tmp_path / "cifar-100-python"
    home.mkdir()
    for other, content in {**whole, name: entry}.items():
        (home / other).write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=f"{name}' is not a CIFAR file"):
        read_source(tmp_path, "cifar100", "train")


def test_what_the_unpickler_says_in_several_lines(tmp_path: Path) -> None:
    home = tmp_path / "cifar-100-python"
    home.mkdir()
    (home / "meta").write_bytes(b"P")
    with pytest.raises(UserError, match="meta' cannot be read") as refused:
        read_source(tmp_path, "cifar100", "train")
    assert "\n" not in str(refused.value)


def test_a_png_is_compared_with_its_check_sums(tmp_path: Path) -> None:
    """Pillow stops decoding when the picture is full, before the check sum of the compressed data."""
    data = bytearray(encode_mask(np.random.default_rng(0).integers(0, 21, (30, 40), dtype=np.uint8)))
    end = data.rindex(b"IEND") - 4
    for place in range(end - 40, end - 8):
        data[place] ^= 1
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(UserError, match=r"a\.png' cannot be read: it is .*damaged"):
            read_image(tmp_path / "a.png")
        data[place] ^= 1


def test_points_repeat_no_long_values(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"points": [["' + "x " * 3000 + '", 1]]}')
    with pytest.raises(UserError, match=r"a\.json' cannot be read") as refused:
        FORMATS["points .json"].read(tmp_path / "a.json")
    assert len(str(refused.value)) < 500 + len(str(tmp_path))


def test_a_line_break_that_became_another_character(tmp_path: Path) -> None:
    """Python takes many characters for the end of a line; only one of them ends a line of a log."""
    path = tmp_path / "history.jsonl"
    write_json_lines(path, [{"iter": i} for i in range(4)])
    path.write_bytes(path.read_bytes().replace(b"\n", b"\x0b", 1))
    with pytest.raises(UserError, match=r"line 1 of '.*history\.jsonl'"):
        read_json_lines(path)


def test_a_compressed_mat_is_compared_with_its_check_sums(tmp_path: Path) -> None:
    """SciPy stops decompressing when it has the values."""
    points = np.random.default_rng(0).integers(0, 50, (60, 2)) + 0.5
    savemat(tmp_path / "a.mat", {"annPoints": points}, do_compression=True)
    data = bytearray((tmp_path / "a.mat").read_bytes())
    np.testing.assert_array_equal(read_points(tmp_path / "a.mat"), points)
    for place in range(len(data) - 30, len(data)):
        data[place] ^= 1
        (tmp_path / "a.mat").write_bytes(data)
        with pytest.raises(UserError, match=r"a\.mat' cannot be read"):
            read_points(tmp_path / "a.mat")
        data[place] ^= 1


def test_a_compressed_mask_of_sbd_too(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 21, (30, 40), dtype=np.uint8)
    (tmp_path / "cls").mkdir()
    path = tmp_path / "cls" / "a.mat"
    savemat(path, {"GTcls": {"Segmentation": labels}}, do_compression=True)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.mat is damaged"):
        _merged_mask("a", tmp_path, tmp_path)
