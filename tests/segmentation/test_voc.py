from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix

from segmentation import voc

HEIGHT, WIDTH = 6, 9


def reference_palette(n):
    """The colour map as the devkit's VOClabelcolormap.m writes it: eight rounds of shifting three bits off."""
    colours = []
    for label in range(n):
        r = g = b = 0
        rest = label
        for j in range(8):
            r |= ((rest >> 0) & 1) << (7 - j)
            g |= ((rest >> 1) & 1) << (7 - j)
            b |= ((rest >> 2) & 1) << (7 - j)
            rest >>= 3
        colours.append([r, g, b])
    return colours


def labels_of(number, kind):
    """A mask that no other image and no other kind has."""
    return np.random.default_rng([number, kind]).integers(0, 21, (HEIGHT, WIDTH)).astype(np.uint8)


def write_sbd_mat(path, labels):
    """One file as SBD has it: a 1x1 struct GTcls of Boundaries, Segmentation and CategoriesPresent."""
    boundaries = np.empty((20, 1), object)
    for index in range(20):
        boundaries[index, 0] = csc_matrix(labels == index + 1)
    present = np.unique(labels[labels > 0]).reshape(-1, 1)
    savemat(
        path,
        {"GTcls": {"Boundaries": boundaries, "Segmentation": labels, "CategoriesPresent": present}},
        do_compression=True,
    )


def write_lists(folder, **lists):
    folder.mkdir(parents=True, exist_ok=True)
    for name, ids in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(ids) + "\n")


@pytest.fixture
def data(tmp_path, monkeypatch):
    """VOC: train a b, val c d. SBD: train b c e, val d f. So train_aug: a b (VOC's masks), e f (SBD's)."""
    voc_root, dataset = tmp_path / "VOCdevkit" / "VOC2012", tmp_path / "sbd" / "benchmark_RELEASE" / "dataset"
    write_lists(voc_root / "ImageSets" / "Segmentation", train=["b", "a"], val=["c", "d"])
    write_lists(dataset, train=["f", "c", "b"], val=["d", "e"])
    for folder in (voc_root / "JPEGImages", voc_root / "SegmentationClass", dataset / "cls"):
        folder.mkdir()
    for number, image_id in enumerate("abcdef"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(voc_root / "JPEGImages" / f"{image_id}.jpg")
        if image_id in "abcd":
            png = voc.encode_mask(labels_of(number, 0))
            (voc_root / "SegmentationClass" / f"{image_id}.png").write_bytes(png)
        if image_id in "bcdef":
            write_sbd_mat(dataset / "cls" / f"{image_id}.mat", labels_of(number, 1))
    monkeypatch.setattr(voc, "COUNTS", {"train": 2, "val": 2, "train_aug": 4})
    return tmp_path


@pytest.fixture
def voc_root(data):
    return data / "VOCdevkit" / "VOC2012"


@pytest.fixture
def offline(monkeypatch):
    def fail(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "VOCSegmentation", fail)
    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", fail)


def test_palette_is_the_devkits():
    assert voc.palette(256) == reference_palette(256)
    assert voc.palette(0) == []


@pytest.mark.parametrize(
    ("label", "colour"),
    [
        (0, [0, 0, 0]),
        (1, [128, 0, 0]),
        (8, [64, 0, 0]),
        (15, [192, 128, 128]),
        (20, [0, 64, 128]),
        (255, [224, 224, 192]),
    ],
)
def test_palette_has_the_known_colours(label, colour):
    assert voc.palette(256)[label] == colour


@pytest.mark.parametrize("n", [-1, 257])
def test_palette_refuses_other_sizes(n):
    with pytest.raises(ValueError, match=str(n)):
        voc.palette(n)


def test_classes_and_colours_go_together():
    assert len(voc.CLASSES) == len(set(voc.CLASSES)) == len(voc.PALETTE) == 21
    assert voc.CLASSES[15] == "person"
    assert voc.CLASSES[20] == "tvmonitor"


def test_encode_mask_keeps_labels_and_colours(tmp_path):
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    (tmp_path / "mask.png").write_bytes(voc.encode_mask(labels))
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), labels)
        assert np.asarray(image.convert("RGB")).reshape(-1, 3).tolist() == reference_palette(256)


def test_read_list_strips_and_skips_blank_lines(tmp_path):
    write_lists(tmp_path / "ImageSets" / "Segmentation", train=[" 2007_000032 ", "", "2007_000039\r", "  "])
    assert voc.read_list(tmp_path, "train") == ["2007_000032", "2007_000039"]


def test_read_list_says_which_lists_there_are(voc_root):
    with pytest.raises(FileNotFoundError, match=r"tset\.txt.*train, val") as caught:
        voc.read_list(voc_root, "tset")
    assert "\n" not in str(caught.value)


def test_read_list_refuses_an_empty_list(tmp_path):
    write_lists(tmp_path / "ImageSets" / "Segmentation", train=["", " "])
    with pytest.raises(ValueError, match=r"train\.txt is empty"):
        voc.read_list(tmp_path, "train")


def test_merge_takes_vocs_masks_first_and_leaves_val_out(data, voc_root):
    assert voc.merge_sbd(data / "sbd", voc_root) == 4
    assert voc.read_list(voc_root, "train_aug") == ["a", "b", "e", "f"]
    masks = voc_root / "SegmentationClassAug"
    assert sorted(path.name for path in masks.iterdir()) == ["a.png", "b.png", "e.png", "f.png"]
    for number, image_id in enumerate("abcdef"):
        if image_id in "abef":
            with Image.open(masks / f"{image_id}.png") as image:
                assert image.mode == "P"
                assert np.reshape(image.getpalette(), (256, 3)).tolist() == reference_palette(256)
                assert np.array_equal(np.asarray(image), labels_of(number, 0 if image_id in "ab" else 1))


@pytest.mark.parametrize("layout", ["sbd", "sbd/dataset", "sbd/benchmark_RELEASE/dataset"])
def test_merge_finds_sbd_as_unpacked_and_as_torchvision_leaves_it(data, voc_root, layout):
    (data / "sbd").rename(data / "elsewhere")
    (data / layout).parent.mkdir(parents=True, exist_ok=True)
    (data / "elsewhere" / "benchmark_RELEASE" / "dataset").rename(data / layout)
    assert voc.merge_sbd(data / "sbd", voc_root) == 4


def test_merge_goes_on_where_it_stood(data, voc_root):
    voc.merge_sbd(data / "sbd", voc_root)
    masks = voc_root / "SegmentationClassAug"
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in masks.iterdir()}
    (masks / "e.png").write_bytes(before["e.png"][0][:-20])
    (masks / "f.png").unlink()
    assert voc.merge_sbd(data / "sbd", voc_root) == 4
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in masks.iterdir()}
    assert {name: content for name, (content, _) in after.items()} == {n: c for n, (c, _) in before.items()}
    assert [after[name][1] == before[name][1] for name in ("a.png", "b.png")] == [True, True]


def test_merge_stopped_half_way_leaves_no_list(data, voc_root):
    (data / "sbd" / "benchmark_RELEASE" / "dataset" / "cls" / "f.mat").write_bytes(b"MATLAB 5.0 MAT-file, cut off")
    with pytest.raises(ValueError, match=r"f\.mat is damaged"):
        voc.merge_sbd(data / "sbd", voc_root)
    assert not voc.list_path(voc_root, "train_aug").exists()
    assert sorted(p.name for p in (voc_root / "SegmentationClassAug").iterdir()) == ["a.png", "b.png", "e.png"]


def test_merge_names_the_image_without_a_mask(data, voc_root):
    (data / "sbd" / "benchmark_RELEASE" / "dataset" / "cls" / "e.mat").unlink()
    with pytest.raises(FileNotFoundError, match="image e has no mask"):
        voc.merge_sbd(data / "sbd", voc_root)


def test_merge_without_sbd(voc_root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no SBD in .*nowhere"):
        voc.merge_sbd(tmp_path / "nowhere", voc_root)


def test_write_atomic_leaves_nothing_behind_when_it_fails(tmp_path):
    (tmp_path / "target").mkdir()  # os.replace cannot put a file over a folder
    with pytest.raises(OSError):
        voc.write_atomic(tmp_path / "target", b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_verify_counts_images_with_masks(data, voc_root):
    voc.merge_sbd(data / "sbd", voc_root)
    assert voc.verify_voc2012(voc_root) == {"train": 2, "val": 2, "train_aug": 4}


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("SegmentationClass/c.png", r"val has 1 of 2 \(ids 2, images 2, masks 1\)"),
        ("JPEGImages/e.jpg", r"train_aug has 3 of 4 \(ids 4, images 3, masks 4\)"),
    ],
)
def test_verify_names_the_count_that_differs(data, voc_root, lost, message):
    voc.merge_sbd(data / "sbd", voc_root)
    (voc_root / lost).unlink()
    with pytest.raises(ValueError, match=message) as caught:
        voc.verify_voc2012(voc_root)
    assert "train has" not in str(caught.value)


def test_verify_refuses_a_list_that_is_too_long(data, voc_root):
    voc.list_path(voc_root, "train").write_text("a\nb\nz\n")
    with pytest.raises(ValueError, match=r"train has 2 of 2 \(ids 3"):
        voc.verify_voc2012(voc_root, ["train"])


def test_prepare_merges_what_is_there_without_a_network(data, voc_root, offline):
    table = voc.prepare_voc2012(data).splitlines()
    assert table[0].split() == ["list", "images", "masks", "expected"]
    assert table[-1].split() == ["train_aug", "4", "4", "4"]
    stamp = voc.list_path(voc_root, "train_aug").stat().st_mtime_ns
    assert voc.prepare_voc2012(data).splitlines() == table
    assert voc.list_path(voc_root, "train_aug").stat().st_mtime_ns == stamp


def test_prepare_without_sbd_and_network_says_what_is_usable(data, offline):
    (data / "sbd").rename(data / "away")
    table = voc.prepare_voc2012(data)
    assert "train and val are ready, train_aug is not" in table
    assert "benchmark.tgz" in table
    assert table.splitlines()[3].split() == ["train_aug", "0", "0", "4"]


def test_prepare_without_anything_lists_the_steps(tmp_path, offline):
    with pytest.raises(ConnectionError) as caught:
        voc.prepare_voc2012(tmp_path)
    message = str(caught.value)
    assert "no route to host" in message.splitlines()[0]
    for part in (
        "VOCtrainval_11-May-2012.tar",
        "benchmark.tgz",
        str(tmp_path / "VOCdevkit" / "VOC2012"),
        str(tmp_path / "sbd" / "benchmark_RELEASE"),
        f"ean prepare_data voc2012 --root {tmp_path}",
    ):
        assert part in message


def test_prepare_does_not_fetch_over_an_incomplete_folder(data, voc_root, offline):
    (voc_root / "JPEGImages" / "a.jpg").unlink()
    with pytest.raises(ValueError, match="train has 1 of 2"):
        voc.prepare_voc2012(data)


def test_prepare_unpacks_an_interrupted_archive_again(data, voc_root, monkeypatch):
    lost = voc_root / "JPEGImages" / "a.jpg"
    content = lost.read_bytes()
    lost.unlink()
    (data / voc.VOC_ARCHIVE).write_bytes(b"the archive")
    calls = []

    def unpack(root, year, download):
        calls.append((Path(root), year, download))
        lost.write_bytes(content)

    monkeypatch.setattr(torchvision.datasets, "VOCSegmentation", unpack)
    voc.prepare_voc2012(data)
    assert calls == [(data, "2012", True)]
