"""A small data set in the VOC layout, and the configs resolved on it as the command line does."""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from ean_core.engine.cli import add_config_options, config_of
from segmentation.toy_scenes import make_toy_voc
from segmentation.voc import encode_mask, read_list

ROOT = Path(__file__).resolve().parents[2]
Load = Callable[..., Config]


@pytest.fixture(scope="session")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training images of 64x64 and two validation images of odd sizes."""
    root = make_toy_voc(tmp_path_factory.mktemp("data"), train=8, val=2, size=64)
    for image_id, (height, width) in zip(read_list(root, "val"), ((45, 61), (63, 33)), strict=True):
        image_path = root / "JPEGImages" / f"{image_id}.jpg"
        mask_path = root / "SegmentationClass" / f"{image_id}.png"
        image, mask = np.asarray(Image.open(image_path)), np.asarray(Image.open(mask_path))
        Image.fromarray(image[:height, :width]).save(image_path, quality=95)
        mask_path.write_bytes(encode_mask(np.ascontiguousarray(mask[:height, :width])))
    return root


@pytest.fixture
def load(voc: Path) -> Load:
    """A config as ``tools/train.py`` loads it, on ``voc`` and without worker processes."""

    def load(*options: str, name: str = "ean_se_voc", arguments: tuple[str, ...] = ()) -> Config:
        parser = argparse.ArgumentParser()
        add_config_options(parser)
        if not {"--toy", "--data-root"} & set(arguments) and not any(o.startswith("data_root=") for o in options):
            arguments = (*arguments, "--data-root", str(voc))
        changes = [f"{split}_dataloader.num_workers=0" for split in ("train", "val", "test")]
        line = [str(ROOT / "configs" / "seg" / f"{name}.py"), *arguments, "--cfg-options", *changes, *options]
        return config_of(parser.parse_args(line))

    return load
