"""The one-word choices of a config land in what MMEngine builds."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope
from PIL import Image

from ean_core.engine import load_config
from segmentation.application import application
from segmentation.voc import CLASSES, PALETTE, encode_mask, list_path, read_list

Load = Callable[..., Config]
SPLITS = ("train", "val", "test")


@pytest.fixture(autouse=True)
def scope() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield


@pytest.fixture
def own(voc: Path, tmp_path: Path) -> Path:
    """Somebody's own data: a copy of the toy set without what VOC alone has."""
    root = tmp_path / "own"
    shutil.copytree(voc, root)
    list_path(root, "train_aug").unlink()
    shutil.rmtree(root / "SegmentationClassAug")
    return root


def masks(cfg: Config, split: str) -> list[str]:
    """The folder and name of every mask that the built data set will read."""
    dataset = DATASETS.build(cfg[f"{split}_dataloader"].dataset)
    paths = [Path(dataset.get_data_info(i)["seg_map_path"]) for i in range(len(dataset))]
    return [f"{path.parent.name}/{path.stem}" for path in paths]


@pytest.mark.parametrize(
    ("head", "name", "strides", "dilations"),
    [
        ("psp", "PSPHead", (1, 2, 1, 1), (1, 1, 2, 4)),
        ("fcn", "FCNHead", (1, 2, 1, 1), (1, 1, 2, 4)),
        ("deeplabv3", "ASPPHead", (1, 2, 1, 1), (1, 1, 2, 4)),
        ("deeplabv3plus", "DepthwiseSeparableASPPHead", (1, 2, 1, 1), (1, 1, 2, 4)),
        ("upernet", "UPerHead", (1, 2, 2, 2), (1, 1, 1, 1)),
    ],
)
def test_head(load: Load, head: str, name: str, strides: tuple[int, ...], dilations: tuple[int, ...]) -> None:
    cfg = load(f"head={head}")
    assert cfg.model.decode_head.type == name
    assert cfg.model.auxiliary_head.in_index == 2
    assert cfg.model.auxiliary_head.loss_decode.loss_weight == 0.4
    assert (cfg.model.backbone.strides, cfg.model.backbone.dilations) == (strides, dilations)
    assert cfg.model.backbone.attention == dict(type="SE", reduction=16)  # what the leaf says stays
    assert cfg.model.backbone.scheme == "authors/imagenet-se"
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert model.decode_head.in_channels == ([256, 512, 1024, 2048] if head == "upernet" else 2048)
    assert model.decode_head.channels == 512
    assert model.auxiliary_head.in_channels == 1024


def test_head_follows_the_depth(load: Load) -> None:
    cfg = load("head=deeplabv3plus", "model.backbone.depth=18", arguments=("--scheme", "full"))
    assert (cfg.model.decode_head.in_channels, cfg.model.decode_head.c1_in_channels) == (512, 64)
    assert cfg.model.auxiliary_head.in_channels == 256
    assert load("model.backbone.depth=101", arguments=("--scheme", "full")).model.decode_head.in_channels == 2048


def test_unknown_choices(load: Load) -> None:
    with pytest.raises(ValueError, match="'unet': choose from psp, fcn, deeplabv3, deeplabv3plus, upernet"):
        load("head=unet")
    with pytest.raises(ValueError, match="inference must be 'whole' or 'slide', got 'tiles'"):
        load("inference=tiles")


@pytest.mark.parametrize(
    ("train_list", "folder"), [("train", "SegmentationClass"), ("train_aug", "SegmentationClassAug")]
)
def test_train_list(load: Load, voc: Path, train_list: str, folder: str) -> None:
    cfg = load(f"train_list={train_list}")
    assert masks(cfg, "train") == [f"{folder}/{name}" for name in read_list(voc, train_list)]
    for split in ("val", "test"):
        assert masks(cfg, split) == [f"SegmentationClass/{name}" for name in read_list(voc, "val")]


def test_inference_and_crop_size(load: Load) -> None:
    cfg = load()
    assert cfg.model.test_cfg == dict(mode="whole")
    assert cfg.model.data_preprocessor.size == (473, 473)
    cfg = load("inference=slide", "crop_size=90")
    assert cfg.model.test_cfg == dict(mode="slide", crop_size=(90, 90), stride=(60, 60))
    assert cfg.model.data_preprocessor.size == (90, 90)
    (crop,) = (step for step in cfg.train_dataloader.dataset.pipeline if step.type == "RandomCrop")
    assert crop.crop_size == (90, 90)
    assert crop.cat_max_ratio == 0.75


@pytest.mark.parametrize("names", [("background", "cat", "dog"), ("road", "kerb", "sky", "person")])
def test_classes(load: Load, own: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    """Class 0 is black, and so left out of pictures, only when it is called background."""
    (tmp_path / "classes.txt").write_text("\n ".join(names) + "\n\n")
    cfg = load(arguments=("--data-root", str(own), "--classes", str(tmp_path / "classes.txt")))
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    for head in (model.decode_head, model.auxiliary_head):
        assert head.num_classes == head.out_channels == head.conv_seg.out_channels == len(names)
    for split in SPLITS:
        meta = DATASETS.build(cfg[f"{split}_dataloader"].dataset).metainfo
        assert tuple(meta["classes"]) == names
        assert len(meta["palette"]) == len(names)
        assert (list(meta["palette"][0]) == [0, 0, 0]) == (names[0] == "background")
        assert len({tuple(colour) for colour in meta["palette"]}) == len(names)
        assert all(any(colour) for colour in meta["palette"][1:])


def test_own_classes_train_on_their_labels(load: Load, own: Path, tmp_path: Path) -> None:
    """Labels 0 to 2 and 255 reach the model as they are, on data sets of every list."""
    (tmp_path / "classes.txt").write_text("road\nkerb\nsky\n")
    expected = {}
    for path in sorted((own / "SegmentationClass").iterdir()):
        with Image.open(path) as image:
            size = image.size
        expected[path.stem] = np.random.default_rng(len(expected)).choice(
            np.array([0, 1, 2, 255], np.uint8), size[::-1]
        )
        path.write_bytes(encode_mask(expected[path.stem]))
    cfg = load(arguments=("--data-root", str(own), "--classes", str(tmp_path / "classes.txt")))
    application.check(cfg, train=True)
    application.check(cfg, train=False)
    for item in DATASETS.build(cfg.val_dataloader.dataset):
        sample = item["data_samples"]
        assert np.array_equal(sample.gt_sem_seg.data[0], expected[Path(sample.img_path).stem])
    samples = [item["data_samples"] for item in DATASETS.build(cfg.train_dataloader.dataset)]
    assert {v for sample in samples for v in sample.gt_sem_seg.data.unique().tolist()} == {0, 1, 2, 255}


def test_check_finds_a_label_that_has_no_class(load: Load, own: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("background\naeroplane\n")
    cfg = load(arguments=("--data-root", str(own), "--classes", str(tmp_path / "classes.txt")))
    with pytest.raises(ValueError, match="num_classes=2"):
        application.check(cfg, train=True)


def test_classes_that_are_none(load: Load, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"class names '.*no\.txt' does not exist"):
        load(arguments=("--classes", str(tmp_path / "no.txt")))
    (tmp_path / "one.txt").write_text("\nroad\n \n")
    with pytest.raises(ValueError, match=r"one\.txt' names 1 classes: write at least two"):
        load(arguments=("--classes", str(tmp_path / "one.txt")))


def test_without_a_file_of_classes_they_are_vocs(load: Load) -> None:
    cfg = load()
    for split in SPLITS:
        meta = DATASETS.build(cfg[f"{split}_dataloader"].dataset).metainfo
        assert tuple(meta["classes"]) == CLASSES
        assert [list(colour) for colour in meta["palette"]] == PALETTE
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes == 21


def test_png_images_are_found(load: Load, own: Path) -> None:
    """The lists may even differ in format."""
    for image_id in read_list(own, "val"):
        path = own / "JPEGImages" / f"{image_id}.jpg"
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()
    cfg = load(arguments=("--data-root", str(own)))
    endings = {}
    for split in SPLITS:
        dataset = DATASETS.build(cfg[f"{split}_dataloader"].dataset)
        paths = [Path(dataset.get_data_info(i)["img_path"]) for i in range(len(dataset))]
        assert all(path.is_file() for path in paths)
        endings[split] = {path.suffix for path in paths}
    assert endings == {"train": {".jpg"}, "val": {".png"}, "test": {".png"}}
    application.check(cfg, train=True)


def test_own_data_fall_back_to_the_list_train(load: Load, own: Path) -> None:
    cfg = load(arguments=("--data-root", str(own)))
    assert masks(cfg, "train") == [f"SegmentationClass/{name}" for name in read_list(own, "train")]
    list_path(own, "train").unlink()
    with pytest.raises(FileNotFoundError, match=r"no image list .*train\.txt \(lists there: val\)"):
        load(arguments=("--data-root", str(own)))


def test_vocs_own_root_does_not_fall_back(load: Load, own: Path) -> None:
    """Without --data-root it is VOC 2012, where a run on the short list would pass for one on the long."""
    with pytest.raises(FileNotFoundError, match=r"no image list .*train_aug\.txt"):
        load(f"data_root={own}")


def test_a_list_that_was_asked_for_is_not_replaced(load: Load, own: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no image list .*trian\.txt \(lists there: train, val\)"):
        load("train_list=trian", arguments=("--data-root", str(own)))


def test_missing_data_root(load: Load, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data root '.*nowhere' does not exist: make it with .*--toy"):
        load(arguments=("--data-root", str(tmp_path / "nowhere")))


def test_toy_makes_its_data(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = load(arguments=("--toy",))
    assert Path(cfg.data_root).parts[:2] == ("data", "toy")
    assert (tmp_path / cfg.data_root / "JPEGImages").is_dir()
    assert masks(cfg, "train") == [f"SegmentationClassAug/{name}" for name in read_list(cfg.data_root, "train_aug")]
    assert cfg.model.data_preprocessor.size == (cfg.toy.crop_size,) * 2
    assert cfg.model.decode_head.num_classes == 21
    application.check(cfg, train=True)


def test_the_choice_of_a_list_is_kept(own: Path, tmp_path: Path, load: Load) -> None:
    """Data of one's own without ``train_aug``: the config as run names the list that was read, and loads again."""
    first = load(arguments=("--data-root", str(own)))
    first.dump(tmp_path / "as_run.py")
    again = load_config(tmp_path / "as_run.py")
    assert again.train_list == "train"
    assert again.train_dataloader.dataset == first.train_dataloader.dataset
