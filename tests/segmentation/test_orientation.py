"""Masks of images that an EXIF tag turns: drawn in one view or the other, they lie on their pixels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

from segmentation.check import check_voc
from segmentation.voc import encode_mask

Load = Callable[..., Config]
STORED = np.random.default_rng(0).integers(0, 2, (24, 40), np.uint8)


@pytest.fixture
def turned(tmp_path: Path) -> Callable[[str, int], Path]:
    """White where the mask has class 1, black where it has 0; the mask as stored, or as people see it."""

    def make(view: str, orientation: int) -> Path:
        root = tmp_path / "VOC2012"
        for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
            (root / folder).mkdir(parents=True)
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(np.repeat(255 * STORED[..., None], 3, 2)).save(root / "JPEGImages" / "a.png", exif=exif)
        upright = {3: np.rot90(STORED, 2), 6: np.rot90(STORED, -1)}[orientation]
        mask = np.ascontiguousarray(STORED if view == "stored" else upright)
        (root / "SegmentationClass" / "a.png").write_bytes(encode_mask(mask))
        for name in ("train", "val"):
            (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("a\n")
        return root

    return make


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("view", ["upright", "stored"])
def test_a_mask_lies_on_its_pixels(load: Load, turned: Callable[..., Path], view: str, orientation: int) -> None:
    root = turned(view, orientation)
    cfg = load(f"orientation={view}", arguments=("--data-root", str(root)))
    with DefaultScope.overwrite_default_scope("mmseg"):
        for split in ("train", "val", "test"):
            source = cfg[f"{split}_dataloader"].dataset
            count = 3 if view == "stored" else 2
            item = DATASETS.build({**source, "pipeline": source.pipeline[:count]})[0]
            assert item["img"].shape[:2] == (STORED.shape if orientation == 3 else STORED.shape[::-1])
            assert np.array_equal(item["img"][..., 0], 255 * item["gt_seg_map"])
        item = DATASETS.build({**cfg.test_dataloader.dataset, "pipeline": cfg.tta_pipeline})[0]
        samples = item["data_samples"]  # one a version of the image; the mask is not flipped
        masks = [sample.gt_sem_seg.data[0].numpy() for sample in samples]
        pixels = item["inputs"][0][0].numpy()  # (H, W) of the version that is not flipped
        assert all(np.array_equal(255 * mask, pixels) for mask in masks)


def test_a_config_that_has_chosen_stays_as_it_is(load: Load, turned: Callable[..., Path], tmp_path: Path) -> None:
    root = turned("stored", 6)
    once = load("orientation=stored", arguments=("--data-root", str(root)))
    steps = [step.type for step in once.test_dataloader.dataset.pipeline]
    assert steps == ["LoadImageFromFile", "LoadAnnotations", "segmentation.transforms.TurnMask", "PackSegInputs"]


def test_the_check_says_how_masks_are_understood(turned: Callable[..., Path]) -> None:
    root = turned("stored", 6)
    (note,) = check_voc(root, {"val": "SegmentationClass"}, 2, img_suffix=".png", orientation="stored")
    assert note.startswith("an EXIF tag turns 1 of 1 images, first 'JPEGImages/a.png'; their masks are understood as")
    with pytest.raises(ValueError, match=r"is 40x24, but its image is 24x40; an EXIF tag turns it: set orientation=st"):
        check_voc(root, {"val": "SegmentationClass"}, 2, img_suffix=".png")


def test_there_are_two_views(load: Load) -> None:
    with pytest.raises(ValueError, match="orientation must be 'upright' or 'stored'"):
        load("orientation=sideways")
