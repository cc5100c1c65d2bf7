"""ImageNet's archives, made tiny in their exact format."""

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import imagenet as official

from classification import imagenet
from classification.imagenet import prepare_imagenet
from classification.sources import read_source

WNIDS = ("n02000000", "n01000000", "n03000000")  # in the devkit's order, which is not the alphabet's
TRUTH = (2, 1, 3, 1)  # ids of the four validation images


def jpeg(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (12, 10), (shade, 0, 0)).save(file, "JPEG")
    return file.getvalue()


def pack(path: Path, members: dict[str, bytes], mode: str = "w") -> bytes:
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path.read_bytes()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The three archives: three classes of two training images, four validation images, and one inner synset."""
    folder = tmp_path / "imagenet"
    folder.mkdir()
    inner = {}
    for k, wnid in enumerate(WNIDS):
        images = {f"{wnid}_{i}.JPEG": jpeg(60 * k + i) for i in range(2)}
        inner[f"{wnid}.tar"] = pack(tmp_path / "inner.tar", images)
    pack(folder / "ILSVRC2012_img_train.tar", inner)
    images = {f"ILSVRC2012_val_{i + 1:08d}.JPEG": jpeg(200 + i) for i in reversed(range(4))}
    pack(folder / "ILSVRC2012_img_val.tar", images)
    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height", "num_train")
    synsets = np.zeros((4, 1), [(field, object) for field in fields])
    for k, wnid in enumerate((*WNIDS, "n09000000")):
        synsets[k, 0] = (k + 1, wnid, f"name{k}, other{k}", "text", 3 if k == 3 else 0, [], 0, 2)
    matrix = io.BytesIO()
    savemat(matrix, {"synsets": synsets})
    devkit = {
        "ILSVRC2012_devkit_t12/data/meta.mat": matrix.getvalue(),
        "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": "".join(f"{t}\n" for t in TRUTH).encode(),
    }
    pack(folder / "ILSVRC2012_devkit_t12.tar.gz", devkit, "w:gz")
    sums = {}
    for part, (name, _) in official.ARCHIVE_META.items():
        sums[part] = (name, hashlib.md5((folder / name).read_bytes()).hexdigest())
    monkeypatch.setattr(official, "ARCHIVE_META", sums)
    return folder


def test_archives_become_class_folders(root: Path) -> None:
    line = prepare_imagenet(root)
    assert "6 train images of 3 classes and 4 val images of 3 classes (the whole set has 1,281,167 and 50,000" in line
    train, val = (read_source(root, "folder", part) for part in ("train", "val"))
    assert train.classes == val.classes == tuple(sorted(WNIDS))
    assert train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    where = {path.name: path.parent.name for path in val.items}
    assert where == {f"ILSVRC2012_val_{i + 1:08d}.JPEG": WNIDS[t - 1] for i, t in enumerate(TRUTH)}
    for label, path in zip(train.labels, train.items, strict=True):
        shade = int(np.asarray(Image.open(path))[5, 5, 0])
        assert shade // 60 == WNIDS.index(train.classes[label])
    assert {path.name for path in (root / "train").rglob("*.tar")} == set()
    for archive in root.glob("*.tar*"):
        archive.unlink()
    assert prepare_imagenet(root) == line  # verifies what is there without the archives


def test_complete(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "CLASSES", 3)
    monkeypatch.setattr(imagenet, "IMAGES", {"train": 6, "val": 4})
    assert prepare_imagenet(root).endswith("complete")


def test_what_is_missing_is_named(root: Path, tmp_path: Path, tool: Callable, capsys: pytest.CaptureFixture) -> None:
    (root / "ILSVRC2012_img_val.tar").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks ILSVRC2012_img_val\.tar: fetch it from https://image-net"):
        prepare_imagenet(root)
    assert not (root / "train").exists()
    with pytest.raises(SystemExit) as stopped:
        tool("prepare_data")(["imagenet", "--root", str(tmp_path / "nothing")])
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert "ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar, ILSVRC2012_devkit_t12.tar.gz: fetch them" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("part", ["train", "val", "devkit"])
def test_a_damaged_archive_leaves_no_folder(root: Path, part: str) -> None:
    path = root / official.ARCHIVE_META[part][0]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"{path.name}' is damaged, incomplete"):
        prepare_imagenet(root)
    assert not (root / part).exists()
    path.write_bytes(whole)
    assert "6 train images" in prepare_imagenet(root)


def test_a_kill_while_unpacking_costs_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(root: Path, folder: str) -> None:
        (root / folder).mkdir()
        (root / folder / "half").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(imagenet, "parse_val_archive", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare_imagenet(root)
    assert (root / "train").is_dir()
    assert not (root / "val").exists()
    assert "4 val images of 3 classes" in prepare_imagenet(root)
    assert [path.name for path in root.iterdir() if path.name.startswith(".")] == []


def test_a_small_disk(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100}))
    with pytest.raises(ValueError, match="GB free"):
        prepare_imagenet(root)
