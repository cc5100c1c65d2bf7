"""Reading labelled images: CIFAR's own files, and folders of classes."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from PIL import Image

from classification.datasets import FileDataset, build_dataset, check_files, collate, load_images
from classification.sources import CIFAR, detect_layout, read_classes, read_source
from ean_testing.damage import bomb, bound_by_permissions, make_unreadable

Write = Callable[..., None]


def write_cifar(root: Path, layout: str, classes: int = 3, test: int = 5, protocol: int = 2) -> dict[str, np.ndarray]:
    """CIFAR's files: rows of 3072 values, all red first; returns the images (N, 32, 32, 3) by part."""
    form = CIFAR[layout]
    folder = root / form.folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    parts = {"train": [], "test": []}
    for part, names in (("train", form.train), ("test", form.test)):
        for name in names:
            images = rng.integers(0, 256, (test, 32, 32, 3), np.uint8)
            rows = np.stack([np.concatenate([image[:, :, c].ravel() for c in range(3)]) for image in images])
            labels = [i % classes for i in range(test)]
            entry = {"data": rows, form.labels: labels, "batch_label": "a batch", "filenames": ["x.png"] * test}
            (folder / name).write_bytes(pickle.dumps(entry, protocol))
            parts[part].append(images)
    meta = {form.names: [f"class {i}" for i in range(classes)]}
    (folder / form.meta).write_bytes(pickle.dumps(meta, protocol))
    return {part: np.concatenate(images) for part, images in parts.items()}


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("layout", ["cifar10", "cifar100"])
def test_cifar_is_read_back(tmp_path: Path, layout: str, protocol: int) -> None:
    images = write_cifar(tmp_path, layout, protocol=protocol)
    assert len(images["train"]) == (25 if layout == "cifar10" else 5)
    assert detect_layout(tmp_path) == layout
    for root in (tmp_path, tmp_path / CIFAR[layout].folder):
        for part, expected in (("train", "train"), ("val", "test"), ("test", "test")):
            source = read_source(root, layout, part)
            assert np.array_equal(source.items, images[expected])
            assert source.labels.tolist() == [0, 1, 2, 0, 1] * (len(source.labels) // 5)
            assert source.classes == ("class 0", "class 1", "class 2")


def test_torchvision_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The format is torchvision's: its own class, without the check sums of the real files, returns the same."""
    from torchvision.datasets import CIFAR100, cifar

    write_cifar(tmp_path, "cifar100")
    monkeypatch.setattr(cifar, "check_integrity", lambda *_: True)
    theirs = CIFAR100(tmp_path, train=False)
    ours = read_source(tmp_path, "cifar100", "test")
    assert np.array_equal(ours.items, theirs.data)
    assert ours.labels.tolist() == theirs.targets


def test_the_preferred_of_two_cifars(tmp_path: Path) -> None:
    write_cifar(tmp_path, "cifar10")
    assert detect_layout(tmp_path, "cifar100") == "cifar10"
    write_cifar(tmp_path, "cifar100")
    assert [detect_layout(tmp_path, name) for name in ("cifar10", "cifar100")] == ["cifar10", "cifar100"]
    assert detect_layout(tmp_path / "elsewhere") == "folder"


class Evil:
    def __reduce__(self) -> tuple:
        return os.system, ("true",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train", b"\x80\x02", "cannot be read"),
        ("train", pickle.dumps({"data": np.zeros((2, 5), np.uint8), "fine_labels": [0, 1]}), "is not a CIFAR file"),
        ("train", pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]}), "is not a CIFAR file"),
        ("train", pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [0]}), "2 images and 1 labels"),
        ("train", pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "fine_labels": [9]}), "labels up to 9"),
        ("train", pickle.dumps([1]), "is not a CIFAR file"),
        ("meta", pickle.dumps({"fine_label_names": Evil()}), "system is neither an array nor a plain value"),
    ],
)
def test_damaged_cifar_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    write_cifar(tmp_path, "cifar100")
    (tmp_path / "cifar-100-python" / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_source(tmp_path, "cifar100", "train")


def test_missing_cifar_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no folder 'cifar-100-python'"):
        read_classes(tmp_path, "cifar100")
    write_cifar(tmp_path, "cifar100")
    (tmp_path / "cifar-100-python" / "test").unlink()
    with pytest.raises(FileNotFoundError, match="is missing"):
        read_source(tmp_path, "cifar100", "test")


def test_folders_get_the_labels_of_the_training_classes(tmp_path: Path, write_images: Write) -> None:
    """As ImageFolder gives them; but a class without test images shifts no label."""
    write_images(tmp_path / "train", owl=2, crow=3, wren=1)
    write_images(tmp_path / "val", wren=2, owl=1)
    (tmp_path / "train" / "owl" / "notes.txt").write_text("no image")
    (tmp_path / "train" / ".cache").mkdir()
    train, val = (read_source(tmp_path, "folder", part) for part in ("train", "val"))
    assert train.classes == val.classes == ("crow", "owl", "wren")
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 2]
    assert [train.classes[label] for label in val.labels] == [path.parent.name for path in val.items]
    chosen = read_source(tmp_path, "folder", "train", ("wren", "crow"))
    assert [path.parent.name for path in chosen.items] == ["wren", "crow", "crow", "crow"]
    assert chosen.labels.tolist() == [0, 1, 1, 1]


def test_val_and_test_are_two_where_both_exist(tmp_path: Path, write_images: Write) -> None:
    for name in ("train", "val", "test"):
        write_images(tmp_path / name, owl=1, wren=1)
    for part in ("val", "test"):
        assert all(path.is_relative_to(tmp_path / part) for path in read_source(tmp_path, "folder", part).items)
    for path in (tmp_path / "test").glob("*/*"):
        path.rename(tmp_path / "test" / f"{path.parent.name}.png")  # ImageNet's test images have no labels
    for name in ("owl", "wren"):
        (tmp_path / "test" / name).rmdir()
    assert all(path.is_relative_to(tmp_path / "val") for path in read_source(tmp_path, "folder", "test").items)


@pytest.mark.parametrize(
    ("folders", "error", "message"),
    [
        ({}, ValueError, "holds no class folders"),
        ({"owl": 3}, ValueError, "holds a single class, 'owl'"),
        ({"owl": 3, "wren": 0}, ValueError, "wren' holds no images"),
        ({"owl": 3, "wren": 1}, ValueError, "single image"),
        ({"train/owl": 2, "train/wren": 2}, FileNotFoundError, "has train/ but no class folders in val/ or test/"),
        ({"val/owl": 2, "val/wren": 2}, FileNotFoundError, "has no folder train/"),
        ({"train/owl": 2, "train/wren": 0, "val/owl": 1}, ValueError, "train/wren' holds no images"),
        ({"train/owl": 2, "train/wren": 2, "val/robin": 1}, ValueError, "class 'robin' in .* among the training"),
        ({"train/owl": 2, "train/wren": 2, "val/owl": 0}, ValueError, "val' holds no images"),
    ],
)
def test_folders_that_cannot_be_used(
    tmp_path: Path, write_images: Write, folders: dict[str, int], error: type[Exception], message: str
) -> None:
    for name, number in folders.items():
        write_images((tmp_path / name).parent, **{Path(name).name: number})
    with pytest.raises(error, match=message) as caught:
        [read_source(tmp_path, "folder", part) for part in ("train", "val")]
    assert "\n" not in str(caught.value)


def test_bad_choices(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path, owl=2, wren=2)
    with pytest.raises(ValueError, match="part must be one of"):
        build_dataset(str(tmp_path), "valid")
    with pytest.raises(ValueError, match="layout must be"):
        read_source(tmp_path, "voc", "train")
    with pytest.raises(ValueError, match="class 'robin' has no folder"):
        read_classes(tmp_path, "folder", ("owl", "robin"))
    with pytest.raises(ValueError, match="named twice"):
        read_classes(tmp_path, "folder", ("owl", "owl"))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_classes(tmp_path / "nowhere", "folder")


def test_decoding(tmp_path: Path, write_images: Write) -> None:
    """Images keep their pixels; grey, transparent and oddly sized ones become RGB of the asked size."""
    write_images(tmp_path, owl=5, wren=2)
    first = np.asarray(Image.open(tmp_path / "owl" / "000.png"))
    Image.fromarray(first[..., 0]).save(tmp_path / "owl" / "001.png")
    Image.fromarray(np.dstack([first, first[..., :1]])).save(tmp_path / "owl" / "002.png")
    Image.fromarray(np.full((40, 20, 3), 77, np.uint8)).save(tmp_path / "owl" / "003.png")
    source = load_images(str(tmp_path), "folder", "train", 8)
    paths = read_source(tmp_path, "folder", "train").items
    for path, image in zip(paths, source.items, strict=True):
        if path.name == "000.png" and path.parent.name == "owl":
            assert np.array_equal(image, first)
        elif path.name == "001.png" and path.parent.name == "owl":
            assert np.array_equal(image, np.repeat(first[..., :1], 3, 2))
        elif path.name == "003.png":
            assert (image == 77).all()
    assert source.items.shape == (len(paths), 8, 8, 3)


def test_corrupt_images_are_named(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path / "train", owl=3, wren=3)
    bad = tmp_path / "train" / "owl" / "001.png"
    bad.write_bytes(bad.read_bytes()[:60])
    paths = sorted((tmp_path / "train").glob("*/*.png"))
    write_images(tmp_path / "val", owl=1, wren=1)
    source = read_source(tmp_path, "folder", "train")
    assert source.items == paths
    for look in (lambda: check_files(source), lambda: load_images(str(tmp_path), "folder", "train", 8)):
        with pytest.raises(ValueError, match=r"^1 image of 6 cannot be read, first '.*owl/001\.png'") as caught:
            look()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "garbage"])
def test_damage_deep_inside_a_jpeg_is_found(tmp_path: Path, damage: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    for name in ("owl", "wren"):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "train" / name / "a.jpg", quality=95)
    source = read_source(tmp_path, "folder", "train")
    check_files(source)
    whole = source.items[0].read_bytes()
    middle = len(whole) // 2
    source.items[0].write_bytes(
        whole[:middle] if damage == "cut" else whole[:middle] + b"\xff\xc0" * 20 + whole[middle:]
    )
    with pytest.raises(ValueError, match=r"^1 image of 2 cannot be read"):
        check_files(source)


def test_what_is_too_large_or_not_ours_to_read_is_said(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path / "train", owl=3, wren=3)
    source = read_source(tmp_path, "folder", "train")
    first, second = source.items[:2]
    first.write_bytes(bomb("JPEG"))
    with pytest.raises(ValueError, match=rf"^1 image of 6 cannot be read, first '{first}' \(too large: Image size"):
        check_files(source)
    first.write_bytes(second.read_bytes())
    make_unreadable(second)
    with bound_by_permissions(), pytest.raises(ValueError, match=rf"^1 image of 6 .* '{second}' \(no permission\)"):
        check_files(source)


def test_a_corrupt_image_is_named_while_training(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path, owl=4, wren=4)
    dataset = build_dataset(str(tmp_path), "train", in_memory=False)
    dataset.source.items[2].write_bytes(b"no image")
    with pytest.raises(ValueError, match=rf"image '{dataset.source.items[2]}' cannot be read"):
        dataset[2]


def test_a_loader_of_mmengine_fetches_whole_batches(shapes: Path) -> None:
    dataset = build_dataset(str(shapes), "train", "cifar100")
    config = {"sampler": {"type": "DefaultSampler", "shuffle": True}, "collate_fn": {"type": collate}, "batch_size": 10}
    loader = Runner.build_dataloader({**config, "dataset": dataset, "num_workers": 0}, seed=3)
    batches = list(loader)
    assert [len(batch["labels"]) for batch in batches] == [10, 10, 10, 6]
    order = list(loader.sampler)
    assert torch.equal(torch.cat([batch["inputs"] for batch in batches]), dataset.images[order])
    assert torch.equal(torch.cat([batch["labels"] for batch in batches]), dataset.labels[order])
    single = collate([dataset[i] for i in order[:4]])
    assert torch.equal(single["inputs"], batches[0]["inputs"][:4])
    loader.sampler.set_epoch(1)
    assert list(loader.sampler) != order


def test_images_read_from_files(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path / "train", owl=2, wren=2)
    write_images(tmp_path / "val", owl=1, wren=1)
    flat = np.full((50, 30, 3), (10, 20, 30), np.uint8)
    Image.fromarray(flat).save(tmp_path / "val" / "owl" / "000.png")
    val = build_dataset(str(tmp_path), "val", image_size=14, in_memory=False)
    assert isinstance(val, FileDataset)
    assert val[0]["inputs"].shape == (14, 14, 3)
    assert (val[0]["inputs"] == torch.tensor([10, 20, 30])).all()
    assert torch.equal(val[1]["inputs"], val[1]["inputs"])
    train = build_dataset(str(tmp_path), "train", image_size=14, in_memory=False, augment=True)
    torch.manual_seed(0)
    first = [train[0]["inputs"] for _ in range(2)]
    torch.manual_seed(0)
    assert torch.equal(train[0]["inputs"], first[0])
    assert not torch.equal(*first)
    batch = collate([train[0], train[3]])
    assert batch["inputs"].shape == (2, 14, 14, 3)
    assert batch["inputs"].dtype == torch.uint8
    assert batch["labels"].tolist() == [0, 1]
