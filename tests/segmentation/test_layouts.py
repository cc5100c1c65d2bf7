"""Data sets in their own layouts, on made files: what MMSegmentation's classes read, checks, and a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

from ean_core.application import find_application
from ean_core.errors import UserError
from ean_core.inference import load
from ean_testing import runs
from segmentation.layouts import LAYOUTS

Load = Callable[..., Config]
NAMES = {  # of the images of a part, as the data sets name them: below the folder, without the ending
    "ade20k": ["ADE_{part}_00000001", "ADE_{part}_00000002"],
    "cityscapes": ["aachen/aachen_000000_000019", "ulm/ulm_000001_000019"],
    "coco_stuff10k": ["COCO_{part}2014_000000000077", "COCO_{part}2014_000000000081"],
    "coco_stuff164k": ["000000000139", "000000000285"],
    "loveda": ["0", "1"],
}
CLASSES = {"ade20k": 150, "cityscapes": 19, "coco_stuff10k": 171, "coco_stuff164k": 171, "loveda": 7}


def make(root: Path, data: str, size: tuple[int, int] = (40, 48)) -> dict[tuple[str, str], Any]:
    """Two images a part in the layout; the stored labels by mask file. Label 0 and 255 occur in each."""
    layout, generator = LAYOUTS[data], np.random.default_rng(0)
    stored = {}
    for part, images, masks in zip(("train", "val"), layout.images, layout.masks, strict=True):
        for name in NAMES[data]:
            name = name.format(part=part)
            image, mask = (root / f / (name + s) for f, s in zip((images, masks), layout.suffixes, strict=True))
            for path in (image, mask):
                path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(image)
            labels = generator.integers(0, CLASSES[data], size, dtype=np.uint8)
            labels[0, :3] = 0, CLASSES[data] - 1, 255
            labels[1, :1] = CLASSES[data] if layout.zero_is_ignored else 1
            Image.fromarray(labels).save(mask)
            stored[part, name] = labels
    return stored


@pytest.mark.parametrize("data", LAYOUTS)
def test_what_is_read(data: str, tmp_path: Path, load: Load) -> None:
    stored = make(tmp_path, data)
    cfg = load(f"data={data}", arguments=("--data-root", str(tmp_path)))
    find_application(cfg).check(cfg, train=True)
    assert {cfg.model[head].num_classes for head in ("decode_head", "auxiliary_head")} == {CLASSES[data]}
    for part, loader in (("train", cfg.train_dataloader), ("val", cfg.val_dataloader), ("val", cfg.test_dataloader)):
        with DefaultScope.overwrite_default_scope("mmseg"):
            dataset = DATASETS.build({**loader.dataset, "pipeline": cfg.test_dataloader.dataset.pipeline})
        assert len(dataset.metainfo["classes"]) == len(dataset.metainfo["palette"]) == CLASSES[data]
        assert len(dataset) == 2
        for item, name in zip(dataset, NAMES[data], strict=True):
            expected = stored[part, name.format(part=part)].astype(int)
            if LAYOUTS[data].zero_is_ignored:  # 1..K are the classes, 0 is none of them
                expected = np.where((expected == 0) | (expected == 255), 255, expected - 1)
            assert np.array_equal(item["data_samples"].gt_sem_seg.data[0].numpy(), expected)


def test_wrong_data_is_found_before_training(tmp_path: Path, load: Load) -> None:
    make(tmp_path, "cityscapes")
    arguments = ("--data-root", str(tmp_path))
    cfg = load("data=cityscapes", arguments=arguments)
    mask = tmp_path / "gtFine" / "train" / "ulm" / "ulm_000001_000019_gtFine_labelTrainIds.png"
    Image.fromarray(np.full((40, 48), 33, np.uint8)).save(mask)  # labelIds by mistake
    with pytest.raises(UserError, match=r"labelTrainIds.png: label 33 is neither below num_classes=19 nor 255"):
        find_application(cfg).check(cfg, train=True)
    mask.unlink()
    with pytest.raises(UserError, match=r"labelTrainIds.png: missing"):
        find_application(cfg).check(cfg, train=True)


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        (["data=ade20k"], ["--toy"], "leave data=ade20k out"),
        (["data=ade20k"], ["--classes", "names.txt"], "knows the classes of ade20k"),
        (["data=ade"], [], "data must be 'voc'"),
    ],
)
def test_choices_that_do_not_go_together(
    options: list[str], arguments: list[str], message: str, tmp_path: Path, load: Load
) -> None:
    if "--toy" not in arguments:
        arguments = [*arguments, "--data-root", str(tmp_path)]
    with pytest.raises(UserError, match=message):
        load(*options, arguments=tuple(arguments))


@pytest.mark.parametrize("levels", [1, 2])
def test_a_folder_too_high_names_the_one_below(levels: int, voc: Path, tmp_path: Path, load: Load) -> None:
    place = tmp_path.joinpath(*["VOCdevkit", "VOC2012"][2 - levels :])
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(voc)
    with pytest.raises(FileNotFoundError, match=rf"'{place}' has one: name it with --data-root"):
        load(arguments=("--data-root", str(tmp_path)))
    inner = tmp_path / "inner" / "deeper"
    make(inner, "ade20k")
    with pytest.raises(FileNotFoundError, match=rf"no folder 'images/training'; '{inner}' has one"):
        load("data=ade20k", arguments=("--data-root", str(tmp_path)))


def test_a_run_on_another_layout(config: str, light: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained, tested by the checkpoint alone, and predicted with MMSegmentation's names and colours."""
    make(tmp_path / "data", "loveda")
    monkeypatch.chdir(tmp_path)
    options = ["data=loveda", "model.backbone.depth=18", "crop_size=32", "head=fcn", "train_cfg.max_epochs=1"]
    options += ["train_dataloader.batch_size=2"] + [f"{p}_dataloader.num_workers=0" for p in ("train", "val", "test")]
    start = [config, "--data-root", "data", "--scheme", "full", "--work-dir", "w", "--cfg-options"]
    runs.tool("train")([*start, *options, runs.new_name()])
    runs.tool("test")(["w/best.pth", "--cfg-options", runs.new_name()])
    assert '"agricultural"' in (tmp_path / "w" / "test.json").read_text()
    result = load(checkpoint="w/best.pth", device="cpu")(np.zeros((40, 48, 3), np.uint8))
    assert result.classes[1:3] == ("building", "road")
    assert result.palette[1] == (255, 0, 0)
