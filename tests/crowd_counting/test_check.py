"""What the check finds before a training, one line each."""

import numpy as np
import pytest
from PIL import Image

from crowd_counting.check import check_crowd
from crowd_counting.toy_crowds import encode_mat
from ean_testing.damage import bomb, bound_by_permissions, make_unreadable

DATA = "part_B_final/train_data"


def problems(root, part="B", splits=("train", "val")):
    with pytest.raises(ValueError) as caught:
        check_crowd(root, part, splits)
    return str(caught.value).splitlines()


def only_problem(root, **options):
    head, *lines = problems(root, **options)
    assert head.startswith("1 problem with the ")
    assert str(root) in head
    assert len(lines) == 1
    return lines[0].strip().replace(str(root) + "/", "")


def test_good_data_pass(part, toy_crowd, own):
    check_crowd(part(), "B", ("train", "val", "test"))
    check_crowd(toy_crowd, "B", ("train", "val", "test"))
    check_crowd(own, None, ("train", "val", "test"))


def test_nobody_is_valid(part):
    check_crowd(part(points=()), "B")


def test_single_points_outside_are_valid(part):
    check_crowd(part(points=((-3, 5), (10, 10), (41, 31))), "B")


def test_all_points_outside(part):
    root = part()
    (root / DATA / "ground_truth/GT_IMG_2.mat").write_bytes(encode_mat(np.array([(-3, 5), (400, 10)])))
    assert (
        only_problem(root) == f"annotation '{DATA}/ground_truth/GT_IMG_2.mat': all 2 points lie outside its 40x30 image"
    )


def test_an_image_without_annotation(part):
    root = part()
    (root / DATA / "ground_truth/GT_IMG_2.mat").unlink()
    assert only_problem(root) == f"image '{DATA}/images/IMG_2.jpg' has no annotation '{DATA}/ground_truth/GT_IMG_2.mat'"


def test_an_annotation_without_image(part):
    root = part()
    (root / DATA / "images/IMG_2.jpg").unlink()
    assert only_problem(root) == f"annotation '{DATA}/ground_truth/GT_IMG_2.mat' has no image"
    check_crowd(root, "B", ("test",))


def test_an_annotation_of_another_structure(part):
    root = part()
    (root / DATA / "ground_truth/GT_IMG_3.mat").write_bytes(b"MATLAB 7.3 MAT-file" + bytes(200))
    assert only_problem(root).startswith(f"annotation '{DATA}/ground_truth/GT_IMG_3.mat' cannot be read")


def test_coordinates_that_are_no_numbers(part):
    root = part()
    (root / DATA / "ground_truth/GT_IMG_1.mat").write_bytes(encode_mat(np.array([(3, 5), (np.nan, 10)])))
    assert "point 2 is not finite" in only_problem(root)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\xff\xd8\xff\xe0"], ids=["empty", "html", "head"])
def test_an_unreadable_image(part, content):
    root = part()
    (root / DATA / "images/IMG_1.jpg").write_bytes(content)
    assert only_problem(root).startswith(f"image '{DATA}/images/IMG_1.jpg' is not readable")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_header_that_claims_more_than_memory(part, kind):
    root = part()
    (root / DATA / "images/IMG_1.jpg").write_bytes(bomb(kind))
    problem = only_problem(root)
    assert problem.startswith(f"image '{DATA}/images/IMG_1.jpg' is not readable (too large: Image size (3600000000")


def test_files_of_somebody_else(part):
    root = part()
    make_unreadable(root / DATA / "images/IMG_1.jpg")
    make_unreadable(root / DATA / "ground_truth/GT_IMG_2.mat")
    with bound_by_permissions():
        head, *lines = problems(root)
    annotation, image = sorted(lines)
    assert head.startswith("2 problems with the 3 images of ")
    assert image.endswith(f"{DATA}/images/IMG_1.jpg' is not readable (no permission)")
    assert f"{DATA}/ground_truth/GT_IMG_2.mat' cannot be read: [Errno 13] Permission denied" in annotation


@pytest.mark.parametrize("padding", [0, 5000], ids=["cut", "cut and filled with zeros"])
def test_a_truncated_image(part, padding):
    root = part()
    path = root / DATA / "images/IMG_1.jpg"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(padding))
    assert only_problem(root) == f"image '{DATA}/images/IMG_1.jpg' is truncated, its end is missing"


@pytest.mark.parametrize("tail", [b"written by some camera " * 10, bytes(5000)], ids=["text", "zeros"])
def test_bytes_after_the_end_are_no_truncation(part, tail):
    root = part()
    path = root / DATA / "images/IMG_1.jpg"
    path.write_bytes(path.read_bytes() + tail)
    check_crowd(root, "B")


def test_first_ten_are_shown_and_the_rest_counted(part):
    root = part(train=tuple(range(1, 15)))
    for number in range(1, 13):
        (root / DATA / f"ground_truth/GT_IMG_{number}.mat").unlink()
    head, *lines = problems(root)
    assert head.startswith("12 problems with the 14 images of")
    assert len(lines) == 11
    assert lines[-1] == "  ... and 2 more"


def test_only_the_splits_asked_for(part):
    root = part()
    (root / "part_B_final/test_data/ground_truth/GT_IMG_1.mat").unlink()
    check_crowd(root, "B")
    assert only_problem(root, splits=("test",)).startswith("image 'part_B_final/test_data/images/IMG_1.jpg' has no")


def test_own_data(own):
    (own / "annotations/3.csv").write_text("1,2,3\n")
    assert "'annotations/3.csv' cannot be read: it has 3 columns" in only_problem(own, part=None)
    (own / "annotations/3.csv").unlink()
    assert only_problem(own, part=None) == "image 'images/3.jpg' has no annotation 'annotations/3.csv'"
    (own / "annotations/3.csv").write_text("")
    (own / "annotations/extra.json").write_text("[]")
    assert only_problem(own, part=None) == "annotation 'annotations/extra.json' has no image"


def test_relative_coordinates(own):
    (own / "annotations/3.csv").write_text("0.25,0.5\n1,0.75\n")
    assert only_problem(own, part=None) == (
        "annotation 'annotations/3.csv': all 2 points lie between 0 and 1: relative coordinates? Write pixels, x times "
        "40 and y times 30"
    )


def test_two_images_with_one_annotation(own, image):
    image(own / "images/3.png")
    assert only_problem(own, part=None) == (
        f"images '{own}/images/3.jpg' and '{own}/images/3.png' share the annotation '{own}/annotations/3.csv': rename "
        "one with its points"
    ).replace(f"{own}/", "")


def test_two_annotations_of_one_image(own):
    np.save(own / "annotations/3.npy", np.ones((4, 2)))
    assert only_problem(own, part=None) == (
        "one image has the annotations 'annotations/3.csv' and 'annotations/3.npy': keep one"
    )


def test_an_image_of_another_ending(own):
    (own / "images/extra.heic").write_bytes(b"ftypheic")
    (own / "annotations/extra.csv").write_text("1,2\n")
    assert only_problem(own, part=None) == (
        "image 'images/extra.heic' has an annotation, but its ending is not read: convert it to .jpg or .png"
    )


def test_a_floating_point_image(own):
    Image.fromarray(np.zeros((30, 40), np.float32)).save(own / "images/extra.tif")
    (own / "annotations/extra.csv").write_text("1,2\n")
    assert "extra.tif' has floating-point values: save it with 8 or 16 bits" in only_problem(own, part=None)


def test_points_outside_are_noted_with_their_file(own):
    (own / "annotations/3.csv").write_text("1,2\n41,3\n5,6\n7,-8\n")
    assert check_crowd(own) == [
        f"annotation '{own}/annotations/3.csv': 2 of 4 points lie outside its 40x30 image and are dropped, first point "
        "2 (41, 3): correct them, or keep them at the border with out_of_frame='clip'"
    ]


def test_no_data(tmp_path):
    with pytest.raises(FileNotFoundError, match="no part_B_final/"):
        check_crowd(tmp_path, "B")
    with pytest.raises(FileNotFoundError, match="no crowd data"):
        check_crowd(tmp_path)


def test_real_data(mini):
    for letter in ("A", "B"):
        check_crowd(mini, letter, ("train", "val", "test"))
