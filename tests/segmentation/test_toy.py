from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ean_testing.fresh import CONTEXT
from ean_testing.processes import make_scenes
from segmentation.check import check_voc
from segmentation.toy_scenes import HUES, draw_scene, make_toy_voc
from segmentation.voc import CLASSES, palette, read_list

LISTS = {"train": "SegmentationClass", "val": "SegmentationClass", "train_aug": "SegmentationClassAug"}


def contents(voc_root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(voc_root)): p.read_bytes() for p in sorted(voc_root.rglob("*")) if p.is_file()}


def test_layout(tmp_path):
    voc_root = make_toy_voc(tmp_path, train=7, val=3, size=64)
    assert voc_root.name == "VOC2012"
    train, val = read_list(voc_root, "train"), read_list(voc_root, "val")
    assert (len(train), len(val)) == (7, 3)
    assert not set(train) & set(val)
    assert read_list(voc_root, "train_aug") == train
    assert [p.stem for p in sorted((voc_root / "JPEGImages").iterdir())] == train + val
    assert [p.stem for p in sorted((voc_root / "SegmentationClassAug").iterdir())] == train
    check_voc(voc_root, LISTS, num_classes=21)
    for image_id in train + val:
        with Image.open(voc_root / "SegmentationClass" / f"{image_id}.png") as mask:
            assert (mask.mode, mask.size) == ("P", (64, 64))
            assert np.reshape(mask.getpalette(), (256, 3)).tolist() == palette(256)
        with Image.open(voc_root / "JPEGImages" / f"{image_id}.jpg") as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 64))


def test_same_seed_same_files_other_seed_other_files(tmp_path):
    arguments = {"train": 4, "val": 2, "size": 48}
    first = contents(make_toy_voc(tmp_path / "a", **arguments, seed=3))
    assert contents(make_toy_voc(tmp_path / "b", **arguments, seed=3)) == first
    other = contents(make_toy_voc(tmp_path / "c", **arguments, seed=4))
    assert all(other[name] != first[name] for name in first if name.endswith(".jpg"))


def test_every_scene_differs_also_between_train_and_val(tmp_path):
    voc_root = make_toy_voc(tmp_path, train=12, val=12, size=32)
    assert len({p.read_bytes() for p in (voc_root / "JPEGImages").iterdir()}) == 24


def test_val_does_not_depend_on_the_size_of_train(tmp_path):
    scenes = []
    for train in (3, 6):
        voc_root = make_toy_voc(tmp_path / str(train), train=train, val=2, size=32)
        scenes.append([(voc_root / "JPEGImages" / f"{i}.jpg").read_bytes() for i in read_list(voc_root, "val")])
    assert scenes[0] == scenes[1]


def test_second_call_changes_nothing(tmp_path):
    voc_root = make_toy_voc(tmp_path, train=2, val=1, size=32)
    (voc_root / "extra.txt").write_text("still here")
    make_toy_voc(tmp_path, train=2, val=1, size=32)
    assert (voc_root / "extra.txt").exists()


def test_other_arguments_make_another_set(tmp_path):
    first = make_toy_voc(tmp_path, train=2, val=1, size=32)
    before = contents(first)
    second = make_toy_voc(tmp_path, train=3, val=1, size=40)
    assert len(read_list(second, "train")) == 3
    check_voc(second, LISTS, num_classes=21)
    assert contents(first) == before


@pytest.mark.parametrize("arguments", [{"train": 0}, {"val": 0}, {"size": 16}])
def test_bad_arguments(tmp_path, arguments):
    with pytest.raises(ValueError, match=r"need train >= 1"):
        make_toy_voc(tmp_path, **arguments)


def test_two_processes_at_once(tmp_path):
    root = tmp_path / "shared"
    barrier, queue = CONTEXT.Barrier(2), CONTEXT.Queue()
    workers = [CONTEXT.Process(target=make_scenes, args=(root, barrier, queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    (made,) = {queue.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    assert contents(Path(made)) == contents(make_toy_voc(tmp_path / "alone", train=8, val=2, size=48))
    assert [p.name for p in root.iterdir()] == [Path(made).parent.name]


@pytest.mark.parametrize("size", [64, 96])
def test_scenes_can_be_learned(size):
    """All classes occur, large enough for stride 8, each with its own hue; borders are thin."""
    pixels = np.zeros(256, int)
    hues = {CLASSES.index(name): [] for name in HUES}
    for index in range(40):
        image, labels = draw_scene(size, 0, index)
        assert image.shape == (size, size, 3)
        assert labels.shape == (size, size)
        pixels += np.bincount(labels.ravel(), minlength=256)
        hue = np.asarray(Image.fromarray(image).convert("HSV"))[..., 0] * (360 / 255)
        for label in np.unique(labels):
            if label in hues and (labels == label).sum() > 64:
                angles = np.exp(1j * np.radians(hue[labels == label]))
                hues[label].append(np.degrees(np.angle(angles.mean())))
    assert set(np.flatnonzero(pixels)) == {0, 255, *hues}
    share = pixels / pixels.sum()
    assert 0.5 < share[0] < 0.85
    assert share[255] < 0.08
    assert all(share[label] > 0.02 for label in hues)
    for name, wanted in HUES.items():
        off = [abs((got - wanted + 180) % 360 - 180) for got in hues[CLASSES.index(name)]]
        assert len(off) >= 8
        assert max(off) < 25  # neighbouring hues are 50 degrees apart or more


def test_borders_surround_objects():
    """Along each row and column an object meets background or another object only across an ignored pixel."""
    for index in range(10):
        _, labels = draw_scene(96, 1, index)
        for a, b in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
            touching = (a != b) & (a != 255) & (b != 255)
            assert not touching.any()
