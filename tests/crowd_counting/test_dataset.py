"""Items and batches: pixels as stored, points after augmentation, maps whose sum is the number of people."""

from functools import partial

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from PIL import Image

from crowd_counting.dataset import CrowdDataset, collate
from crowd_counting.density import adaptive_sigma, density_map
from crowd_counting.toy_crowds import encode_mat
from ean_core.engine.reproduce import seed_worker
from ean_core.images import read_image

FIXED = {"type": "fixed", "sigma": 3}
ADAPTIVE = {"type": "adaptive", "cap": 8}


def test_an_item_without_augmentation_is_the_file(part):
    root = part(width=45, height=37)
    dataset = DATASETS.build(
        dict(type="crowd_counting.dataset.CrowdDataset", root=str(root), part="B", split="test", density=FIXED)
    )
    item = dataset[0]
    path = root / "part_B_final/test_data/images/IMG_1.jpg"
    assert item["img_path"] == str(path)
    assert item["inputs"].dtype == torch.uint8
    np.testing.assert_array_equal(item["inputs"].numpy(), np.asarray(Image.open(path)).transpose(2, 0, 1))
    assert item["points"].dtype == torch.float32
    assert item["points"].tolist() == [[5.5, 6.5], [20, 10]]
    expected = density_map(item["points"].numpy(), (37, 45), 8, 3.0)
    assert item["density"].dtype == torch.float32
    np.testing.assert_array_equal(item["density"].numpy(), expected[None])
    assert "density" not in CrowdDataset(root, part="B", split="test")[0]


@pytest.mark.parametrize("density", [FIXED, ADAPTIVE])
def test_the_sum_of_a_map_is_the_number_of_points(toy_crowd, density):
    augment = dict(crop=(40, 56), scale=(0.6, 1.7), jitter=0.3)
    dataset = CrowdDataset(toy_crowd, part="B", split="train", augment=augment, density=density, stride=8)
    assert dataset.counts.tolist() == [
        len(CrowdDataset(toy_crowd, part="B", split="train")[i]["points"]) for i in range(9)
    ]
    torch.manual_seed(0)
    seen = 0
    for index in [*range(9)] * 4:
        item = dataset[index]
        assert item["inputs"].shape == (3, 40, 56)
        assert item["density"].shape == (1, 5, 7)
        assert item["density"].sum(dtype=torch.float64) == pytest.approx(len(item["points"]), rel=1e-6, abs=1e-6)
        assert bool(((item["points"] >= 0) & (item["points"] < torch.tensor([56, 40]))).all())
        seen += len(item["points"])
    assert seen > 100


def test_adaptive_kernels_do_not_change_at_the_border_of_a_crop(toy_crowd):
    """Where only the kernels of points inside reach, a crop's map is a piece of the whole image's."""
    whole = CrowdDataset(toy_crowd, part="B", split="train", density=dict(ADAPTIVE, cap=3), stride=1)
    crop = CrowdDataset(
        toy_crowd, part="B", split="train", augment=dict(crop=80, flip=0), density=dict(ADAPTIVE, cap=3), stride=1
    )
    index = int(np.argmax(whole.counts))
    torch.manual_seed(3)
    draw = torch.rand(7, dtype=torch.float64).tolist()
    top, left = int(draw[1] * 17), int(draw[2] * 49)
    torch.manual_seed(3)
    item = crop[index]
    expected = whole[index]["density"][0, top : top + 80, left : left + 80]
    inner = slice(
        24, -24
    )  # a kernel cut at the border is renormalised: two reaches of 4 x 3 pixels away it is not felt
    assert expected[inner, inner].sum() > 3
    torch.testing.assert_close(item["density"][0, inner, inner], expected[inner, inner], rtol=1e-5, atol=1e-8)


def test_adaptive_kernels_grow_with_the_picture(part):
    points = ((10, 10), (20, 10), (10, 22))
    root = part(points=points)
    dataset = CrowdDataset(
        root, part="B", split="test", augment=dict(scale=(2, 2), flip=0), density=dict(ADAPTIVE, cap=100)
    )
    sigma = adaptive_sigma(2 * np.array(points), cap=100)
    np.testing.assert_allclose(
        dataset[0]["density"][0], density_map(2 * np.array(points), (60, 80), 8, sigma), rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", ".jpg"), ("CMYK", ".jpg"), ("P", ".png"), ("RGBA", ".png"), ("1", ".png")]
)
def test_every_mode_becomes_rgb(tmp_path, image, mode, suffix):
    pixels = read_image(image(tmp_path / f"a{suffix}", mode=mode))
    assert pixels.shape == (30, 40, 3)
    assert pixels.dtype == np.uint8
    if mode == "L":
        assert (pixels[..., 0] == pixels[..., 1]).all()
        assert (pixels[..., 0] == pixels[..., 2]).all()


def test_own_data(own):
    dataset = CrowdDataset(own, part=None, split="train", density=ADAPTIVE)
    assert len(dataset) == 9
    assert [len(item["points"]) for item in dataset] == [int(sample.image.stem) for sample in dataset.samples]
    assert all(item["density"].sum() == pytest.approx(len(item["points"]), abs=1e-5) for item in dataset)


@pytest.mark.parametrize("points", [(), ((-5, -5), (50, 3))], ids=["nobody", "all outside"])
@pytest.mark.parametrize("density", [FIXED, ADAPTIVE])
def test_nobody_in_the_picture(part, points, density):
    item = CrowdDataset(part(points=points), part="B", split="test", augment=dict(crop=16), density=density)[0]
    assert item["points"].shape == (0, 2)
    assert item["density"].shape == (1, 2, 2)
    assert not item["density"].any()


def test_points_outside_are_logged(part, monkeypatch):
    lines = []
    monkeypatch.setattr("crowd_counting.dataset.print_log", lambda line, logger: lines.append(line))
    root = part(points=((-5, 3), (20, 10), (40, 30), (20, 10)))
    dropped, clipped = (CrowdDataset(root, part="B", split="train", out_of_frame=policy) for policy in ("drop", "clip"))
    assert dropped.counts.tolist() == [3, 3]
    assert clipped.counts.tolist() == [4, 4]
    assert clipped[0]["points"][0].tolist() == [0, 3]
    copy = "; a partial copy, 3 of 400 images of train_data"
    assert lines == [
        f"ShanghaiTech part B, train: 2 images, 6 people, 2 points outside their image dropped{copy}",
        f"ShanghaiTech part B, train: 2 images, 8 people, 2 points outside their image moved to the border{copy}",
    ]


def test_a_test_on_the_validation_images_is_logged(own, monkeypatch):
    lines = []
    monkeypatch.setattr("crowd_counting.dataset.print_log", lambda line, logger: lines.append(line))
    for split in ("val", "test"):
        CrowdDataset(own, part=None, split=split)
    assert "these are the images of val" not in lines[0]
    assert lines[1].endswith("; these are the images of val, for want of a test list or folder")


def test_an_image_smaller_than_the_stride(part):
    root = part(width=5, height=3, points=((4, 2), (1, 1)))
    item = CrowdDataset(root, part="B", split="test", density=FIXED)[0]
    assert item["inputs"].shape == (3, 3, 5)
    assert item["density"].tolist() == [[[pytest.approx(2)]]]
    item = CrowdDataset(root, part="B", split="test", augment=dict(crop=(48, 64), flip=0), density=FIXED)[0]
    assert item["density"].shape == (1, 6, 8)
    assert item["density"].sum() == pytest.approx(len(item["points"]), abs=1e-5)


def test_an_items_points_are_its_own(part):
    dataset = CrowdDataset(part(), part="B", split="test")
    dataset[0]["points"].zero_()
    assert dataset[0]["points"].tolist() == [[5.5, 6.5], [20, 10]]


def test_a_batch(toy_crowd):
    dataset = CrowdDataset(toy_crowd, part="B", split="train", augment=dict(crop=(48, 64)), density=FIXED)
    items = [dataset[index] for index in range(3)]
    batch = collate(items)
    assert batch["inputs"].shape == (3, 3, 48, 64)
    assert batch["inputs"].dtype == torch.uint8
    assert batch["density"].shape == (3, 1, 6, 8)
    for index, item in enumerate(items):
        assert torch.equal(batch["inputs"][index], item["inputs"])
        assert torch.equal(batch["density"][index], item["density"])
        assert batch["points"][index] is item["points"]
        assert batch["img_path"][index] == item["img_path"]
    single = collate([CrowdDataset(toy_crowd, part="B", split="test")[0]])
    assert set(single) == {"inputs", "points", "img_path"}
    assert single["inputs"].shape == (1, 3, 96, 128)


def test_a_batch_of_several_sizes_is_refused(part):
    items = [CrowdDataset(part(), part="B", split="test")[0] for _ in "a"]
    items.append(dict(items[0], inputs=torch.zeros(3, 8, 9, dtype=torch.uint8)))
    with pytest.raises(ValueError, match=r"several sizes \(9x8, 40x30\): set augment.crop"):
        collate(items)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_repeats_with_its_seed(toy_crowd, workers):
    """What ReseedHook and seed_worker do at an epoch's start makes the augmentation a function of the seed."""
    dataset = CrowdDataset(
        toy_crowd, part="B", split="train", augment=dict(crop=32, scale=(0.7, 1.4), jitter=0.3), density=ADAPTIVE
    )
    loader = Runner.build_dataloader(
        dict(
            dataset=dataset,
            batch_size=3,
            num_workers=workers,
            sampler=dict(type="DefaultSampler", shuffle=True),
            collate_fn=dict(type="crowd_counting.dataset.collate"),
        ),
        seed=0,
    )
    loader.worker_init_fn = partial(seed_worker)
    epochs = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        epochs.append(list(loader))
    for key in ("inputs", "density"):
        assert all(torch.equal(a[key], b[key]) for a, b in zip(*epochs[:2], strict=True))
    assert not all(torch.equal(a["inputs"], b["inputs"]) for a, b in zip(*epochs[1:], strict=True))
    pictures = [picture for batch in epochs[0] for picture in batch["inputs"]]
    assert len({picture.numpy().tobytes() for picture in pictures}) == 9  # no two workers draw the same


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "valid"}, "split must be train, val or test, got 'valid'"),
        ({"part": "C"}, "part must be A or B"),
        ({"out_of_frame": "keep"}, "out_of_frame must be drop or clip"),
        ({"density": {"type": "box"}}, "density.type must be 'fixed' or 'adaptive', got 'box'"),
        ({"density": {"sigma": 3}}, "density.type must be"),
        ({"density": {"type": "fixed", "k": 3}}, "density has no option 'k' for 'fixed': sigma"),
        ({"density": {"type": "fixed", "sigma": -1}}, "positive and finite"),
        ({"density": {"type": "adaptive", "cap": 0.5}}, "0 < floor <= cap"),
        ({"density": {"type": "adaptive", "k": 0}}, "at least 1"),
        ({"density": {"type": "adaptive", "beta": 0}}, "beta must be positive"),
        ({"density": FIXED, "stride": 0}, "stride of at least 1"),
        ({"augment": {"zoom": 2}}, "augment has an option that does not exist: .*zoom"),
        ({"augment": {"flip": 2}}, "flip must be in"),
    ],
)
def test_wrong_options_are_refused_when_the_data_set_is_built(part, options, message):
    with pytest.raises(ValueError, match=message):
        CrowdDataset(**{"root": part(), "part": "B", "split": "train", **options})


def test_broken_files(part):
    root = part()
    data = root / "part_B_final/test_data"
    truth, picture = data / "ground_truth/GT_IMG_1.mat", data / "images/IMG_1.jpg"
    content = picture.read_bytes()
    dataset = CrowdDataset(root, part="B", split="test")
    picture.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"image '.*IMG_1\.jpg' cannot be read: it is truncated"):
        dataset[0]
    picture.write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"image '.*IMG_1\.jpg' cannot be read"):
        CrowdDataset(root, part="B", split="test")
    picture.write_bytes(content)
    truth.write_bytes(encode_mat(np.array([(1, np.inf)])))
    with pytest.raises(ValueError, match="not finite"):
        CrowdDataset(root, part="B", split="test")
    truth.unlink()
    with pytest.raises(FileNotFoundError, match=r"annotation '.*GT_IMG_1\.mat' does not exist"):
        CrowdDataset(root, part="B", split="test")
    with pytest.raises(FileNotFoundError, match=r"image '.*' does not exist"):
        read_image(root / "nowhere.jpg")


def test_real_data(mini):
    for letter in ("A", "B"):
        dataset = CrowdDataset(mini, part=letter, split="test", density={"type": "adaptive"})
        index = int(np.argmax(dataset.counts))
        item = dataset[index]
        assert item["density"].sum(dtype=torch.float64) == pytest.approx(int(dataset.counts[index]), rel=1e-6)
    grey = [item for item in (dataset[i] for i in range(4)) if (item["inputs"][0] == item["inputs"][1]).all()]
    assert grey == []  # part B is in colour


@pytest.mark.parametrize(("longest", "size"), [(20, (15, 20)), (40, (30, 40)), (100, (30, 40)), (None, (30, 40))])
def test_a_limit_of_the_longest_side(own, longest, size):
    """Image, points and map shrink together; nobody is lost, and nothing is enlarged."""
    plain = CrowdDataset(own, split="train")
    limited = CrowdDataset(own, split="train", longest=longest, density={"type": "fixed", "sigma": 2})
    factor = size[1] / 40
    for index in range(len(plain)):
        item = limited[index]
        assert item["inputs"].shape == (3, *size)
        assert item["density"].sum() == pytest.approx(len(plain[index]["points"]), abs=1e-4)
        np.testing.assert_allclose(item["points"], plain[index]["points"] * factor, rtol=1e-5)
    with pytest.raises(ValueError, match="longest, the limit of a side, must be at least 1 pixel, got 0"):
        CrowdDataset(own, longest=0)
