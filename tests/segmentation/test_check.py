from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ean_testing.damage import bomb, bound_by_permissions, make_unreadable, with_wrong_check_sum
from segmentation.check import check_voc, detect_suffix
from segmentation.voc import encode_mask, list_path

CAMVID = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "camvid_voc" / "VOC2012"
LISTS = {"train": "SegmentationClass"}
IDS = [f"im{number:02d}" for number in range(14)]


def write_image(path, size=(40, 30), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path):
    """Fourteen good images of 40x30 with labels 0 to 4 and 255."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    list_path(tmp_path, "train").write_text("\n".join(IDS))
    for seed, image_id in enumerate(IDS):
        write_image(tmp_path / "JPEGImages" / f"{image_id}.jpg", seed=seed)
        labels = np.random.default_rng(seed).choice(np.array([0, 1, 2, 3, 4, 255], np.uint8), (30, 40))
        (tmp_path / "SegmentationClass" / f"{image_id}.png").write_bytes(encode_mask(labels))
    return tmp_path


def problems(root, num_classes=5, **options):
    with pytest.raises(ValueError) as caught:
        check_voc(root, LISTS, num_classes, **options)
    return str(caught.value).splitlines()


def only_problem(root, num_classes=5):
    head, *lines = problems(root, num_classes)
    assert head.startswith(f"1 problem in the 14 images and masks of {root};")
    assert len(lines) == 1
    return lines[0].strip()


def image_of(root, number=3):
    return root / "JPEGImages" / f"{IDS[number]}.jpg"


def mask_of(root, number=3):
    return root / "SegmentationClass" / f"{IDS[number]}.png"


def test_good_data_passes(root):
    check_voc(root, LISTS, 5)


def test_missing_image(root):
    image_of(root).unlink()
    assert only_problem(root) == "JPEGImages/im03.jpg: missing"


def test_missing_mask(root):
    mask_of(root).unlink()
    assert only_problem(root) == "SegmentationClass/im03.png: missing"


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\xff\xd8\xff\xe0"], ids=["empty", "html", "head"])
def test_unreadable_image(root, content):
    image_of(root).write_bytes(content)
    assert only_problem(root).startswith("JPEGImages/im03.jpg: not readable")


@pytest.mark.parametrize("padding", [0, 5000], ids=["cut", "cut and filled with zeros"])
def test_truncated_image(root, padding):
    content = image_of(root).read_bytes()
    image_of(root).write_bytes(content[: len(content) // 2] + bytes(padding))
    assert only_problem(root) == "JPEGImages/im03.jpg: truncated, its end is missing"


@pytest.mark.parametrize("tail", [b"written by some camera " * 10, bytes(5000)], ids=["text", "zeros"])
def test_bytes_after_the_end_are_no_truncation(root, tail):
    image_of(root).write_bytes(image_of(root).read_bytes() + tail)
    check_voc(root, LISTS, 5)


def test_truncated_mask(root):
    content = mask_of(root).read_bytes()
    mask_of(root).write_bytes(content[: len(content) // 2])
    assert only_problem(root).startswith("SegmentationClass/im03.png: not readable")


def test_mask_of_another_size(root):
    mask_of(root).write_bytes(encode_mask(np.zeros((40, 30), np.uint8)))
    assert only_problem(root) == "SegmentationClass/im03.png: is 30x40, but its image is 40x30"


@pytest.mark.parametrize("label", [5, 254])
def test_label_out_of_range(root, label):
    labels = np.zeros((30, 40), np.uint8)
    labels[29, 39] = label
    mask_of(root).write_bytes(encode_mask(labels))
    assert only_problem(root) == (
        f"SegmentationClass/im03.png: label {label} is neither below num_classes=5 nor 255 (ignore)"
    )


def test_many_wrong_labels_are_cut_short(root):
    mask_of(root).write_bytes(encode_mask(np.arange(1200, dtype=np.uint8).reshape(30, 40) % 20))
    assert "label 5, 6, 7, 8, 9, ... is" in only_problem(root)


@pytest.mark.parametrize(("mode", "bands"), [("RGB", 3), ("RGBA", 4), ("LA", 2)])
def test_mask_with_several_channels(root, mode, bands):
    Image.new(mode, (40, 30)).save(mask_of(root))
    assert f"has {bands} channels (mode {mode})" in only_problem(root)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, bool])
def test_single_channel_masks_of_other_depths(root, dtype):
    Image.fromarray(np.ones((30, 40), dtype)).save(mask_of(root))
    check_voc(root, LISTS, 5)


def test_16_bit_labels_are_read_whole(root):
    Image.fromarray(np.full((30, 40), 256, np.uint16)).save(mask_of(root))  # its low byte alone would be 0
    assert "label 256 is" in only_problem(root)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("which", [image_of, mask_of])
def test_a_header_that_claims_more_than_memory(root, which, kind):
    which(root).write_bytes(bomb(kind))
    assert only_problem(root).endswith(
        f"{which(root).name}: not readable as an image (too large: Image size (3600000000 pixels) exceeds limit of "
        f"{2 * Image.MAX_IMAGE_PIXELS} pixels)"
    )


def test_a_wrong_check_sum(root):
    """Pillow would decode what is damaged; OpenCV, which reads the images of a training, returns nothing."""
    mask_of(root).write_bytes(with_wrong_check_sum(mask_of(root).read_bytes()))
    assert np.asarray(Image.open(mask_of(root))).shape == (30, 40)
    assert only_problem(root).startswith("SegmentationClass/im03.png: not readable as an image (damaged: ")
    (root / "JPEGImages").rename(root / "png")
    for image_id in IDS:
        write_image(root / "png" / f"{image_id}.png")
    mask_of(root).write_bytes(encode_mask(np.zeros((30, 40), np.uint8)))
    check_voc(root, LISTS, 5, img_dir="png", img_suffix=".png")
    wrong = root / "png" / "im05.png"
    wrong.write_bytes(with_wrong_check_sum(wrong.read_bytes()))
    (problem,) = problems(root, img_dir="png", img_suffix=".png")[1:]
    assert problem.startswith("  png/im05.png: not readable as an image (damaged: ")


@pytest.mark.parametrize("which", [image_of, mask_of])
def test_a_file_of_somebody_else(root, which):
    make_unreadable(which(root))
    with bound_by_permissions():
        assert only_problem(root).endswith(f"{which(root).name}: not readable as an image (no permission)")


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "YCbCr"])
def test_images_of_other_colours_pass(root, mode):
    file = BytesIO()
    Image.new("RGB", (40, 30), "teal").convert(mode).save(file, "PNG" if mode == "P" else "JPEG")
    image_of(root).write_bytes(file.getvalue())
    check_voc(root, LISTS, 5)


def test_first_ten_are_shown_and_the_rest_counted(root):
    for number in range(1, 13):
        mask_of(root, number).unlink()
    image_of(root, 12).unlink()
    head, *lines = problems(root)
    assert head.startswith("13 problems in the 14 images")
    assert lines[:10] == [f"  SegmentationClass/{image_id}.png: missing" for image_id in IDS[1:11]]
    assert lines[10:] == ["  ... and 3 more"]


def test_a_pair_in_two_lists_is_one_problem(root):
    list_path(root, "val").write_text("\n".join(IDS[:5]))
    mask_of(root).unlink()
    with pytest.raises(ValueError, match=r"^1 problem in the 14"):
        check_voc(root, {"train": "SegmentationClass", "val": "SegmentationClass"}, 5)


def test_missing_list(root):
    with pytest.raises(FileNotFoundError, match=r"val\.txt"):
        check_voc(root, {"val": "SegmentationClass"}, 5)


def test_other_folder_and_suffix(root):
    (root / "JPEGImages").rename(root / "png")
    for image_id in IDS:
        write_image(root / "png" / f"{image_id}.png")
    check_voc(root, LISTS, 5, img_dir="png", img_suffix=".png")
    cut = root / "png" / "im05.png"
    cut.write_bytes(cut.read_bytes()[:-30])
    lines = problems(root, img_dir="png", img_suffix=".png")
    assert lines[1:] == ["  png/im05.png: truncated, its end is missing"]


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png"])
def test_detect_suffix(tmp_path, suffix):
    (tmp_path / "JPEGImages").mkdir()
    write_image(tmp_path / "JPEGImages" / f"first{suffix}")
    assert detect_suffix(tmp_path, ["first", "second"]) == suffix


def test_detect_suffix_without_images(tmp_path):
    with pytest.raises(FileNotFoundError, match="image first is not in"):
        detect_suffix(tmp_path, ["first"])
    with pytest.raises(ValueError, match="no image ids"):
        detect_suffix(tmp_path, [])


@pytest.mark.skipif(not CAMVID.is_dir(), reason="the real test data are not beside this checkout")
def test_real_data():
    lists = {"train": "SegmentationClass", "val": "SegmentationClass"}
    check_voc(CAMVID, lists, 11)
    with pytest.raises(ValueError, match=r"problems in the 468 images .*\n.*label 10 is"):
        check_voc(CAMVID, lists, 10)
