"""What the config's pipelines do to images and masks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner import Runner
from numpy.typing import NDArray
from PIL import Image

from segmentation.toy_scenes import draw_scene
from segmentation.transforms import RandomScale
from segmentation.voc import encode_mask, read_list

Load = Callable[..., Config]


@pytest.fixture(autouse=True)
def scope() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield


def scaled(ratio: tuple[float, float], image: NDArray[Any], labels: NDArray[np.uint8]) -> dict[str, Any]:
    return RandomScale(ratio)(dict(img=image, gt_seg_map=labels, seg_fields=["gt_seg_map"]))


@pytest.mark.parametrize(("height", "width"), [(32, 56), (64, 24)])
@pytest.mark.parametrize("factor", [0.5, 0.73, 1.0, 1.6, 2.0])
def test_random_scale_keeps_image_and_mask_aligned(height: int, width: int, factor: float) -> None:
    """Blocks of eight pixels, of three labels; the image is ten times the label."""
    labels = np.kron(np.random.default_rng(0).choice(np.array([0, 7, 20], np.uint8), (8, 8)), np.ones((8, 8), np.uint8))
    labels = np.ascontiguousarray(labels[:height, :width])
    image = np.repeat(labels[..., None] * 10, 3, 2)
    result = scaled((factor, factor), image, labels)
    size = (int(height * factor + 0.5), int(width * factor + 0.5))
    assert result["img"].shape == (*size, 3)
    assert result["gt_seg_map"].shape == size
    assert result["img_shape"] == size
    assert result["gt_seg_map"].dtype == np.uint8
    got = result["gt_seg_map"]
    assert set(np.unique(got)) <= {0, 7, 20}
    kernel = np.ones((5, 5), np.uint8)
    inside = cv2.dilate(got, kernel) == cv2.erode(got, kernel)  # two pixels or more from any border between labels
    assert inside.sum() > 30
    assert np.array_equal(result["img"][inside], np.repeat(got[inside, None] * 10, 3, 1))
    if factor == 1:
        assert np.array_equal(got, labels)
        assert np.array_equal(result["img"], image)


def test_random_scale_invents_no_label() -> None:
    image, labels = draw_scene(64, 0, 0)
    for factor in np.linspace(0.5, 2, 16):
        result = scaled((factor, factor), image, labels)
        assert set(np.unique(result["gt_seg_map"])) <= set(np.unique(labels))


def test_random_scale_is_determined_by_the_seed() -> None:
    image, labels = draw_scene(64, 0, 1)

    def draw(seed: int) -> list[dict[str, Any]]:
        np.random.seed(seed)
        return [scaled((0.5, 2.0), image, labels) for _ in range(20)]

    first, again, other = draw(3), draw(3), draw(4)
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a["img"], b["img"])
        assert np.array_equal(a["gt_seg_map"], b["gt_seg_map"])
    sizes = [result["img_shape"] for result in first]
    assert sizes != [result["img_shape"] for result in other]
    assert len({height for height, _ in sizes}) > 10
    assert all(32 <= height == width <= 128 for height, width in sizes)


def test_train_pipeline_gives_crops(load: Load) -> None:
    """Scaled by 0.5 to 2, images of 64 are smaller and larger than a crop of 48: cut, or padded by the model."""
    cfg = load("crop_size=48", "train_dataloader.batch_size=4")
    preprocess = MODELS.build(cfg.model.data_preprocessor)
    padded = cut = 0
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    for _ in range(4):
        for batch in loader:
            for image, sample in zip(batch["inputs"], batch["data_samples"], strict=True):
                height, width = image.shape[1:]
                assert max(height, width) <= 48
                assert sample.gt_sem_seg.data.shape == (1, height, width)
                padded += min(height, width) < 48
                cut += height == width == 48
            out = preprocess(batch, training=True)
            assert out["inputs"].shape == (4, 3, 48, 48)
            assert out["inputs"].isfinite().all()
            for image, sample in zip(batch["inputs"], out["data_samples"], strict=True):
                labels = sample.gt_sem_seg.data
                assert labels.shape == (1, 48, 48)
                assert set(labels.unique().tolist()) <= {*range(21), 255}
                assert (labels[:, image.shape[1] :] == 255).all()
                assert (labels[:, :, image.shape[2] :] == 255).all()
    assert padded > 0
    assert cut > 0


def test_crop_size_reaches_pipeline_and_model(load: Load) -> None:
    cfg = load("crop_size=40")
    assert MODELS.build(cfg.model.data_preprocessor).size == (40, 40)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert {max(item["inputs"].shape[1:]) for item in dataset} == {40}


@pytest.mark.parametrize("split", ["train", "val"])
def test_palette_masks_keep_their_labels(load: Load, voc: Path, tmp_path: Path, split: str) -> None:
    """All 256 values of a palette PNG; decoded as colours, they would come out as grey levels."""
    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    colours = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(colours).save(root / "JPEGImages" / "a.png")
    (root / "SegmentationClass" / "a.png").write_bytes(encode_mask(labels))
    for name in ("train", "val"):
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("a\n")
    cfg = load(arguments=("--data-root", str(root)))
    source = cfg[f"{split}_dataloader"].dataset
    loading = source.pipeline[:2]
    assert [step.type for step in loading] == ["LoadImageFromFile", "LoadAnnotations"]
    item = DATASETS.build({**source, "pipeline": loading})[0]
    assert np.array_equal(item["gt_seg_map"], np.asarray(Image.open(root / "SegmentationClass" / "a.png")))
    assert np.array_equal(item["gt_seg_map"], labels)
    assert np.array_equal(item["img"][..., ::-1], colours)  # OpenCV's order; the model turns it back


def test_real_masks_come_through_the_whole_test_pipeline(load: Load, voc: Path) -> None:
    dataset = DATASETS.build(load().val_dataloader.dataset)
    for item, image_id in zip(dataset, read_list(voc, "val"), strict=True):
        labels = np.asarray(Image.open(voc / "SegmentationClass" / f"{image_id}.png"))
        assert np.array_equal(item["data_samples"].gt_sem_seg.data[0], labels)


def test_model_sees_normalised_rgb(load: Load, voc: Path) -> None:
    cfg = load()
    batch = next(iter(Runner.build_dataloader(cfg.test_dataloader, seed=0)))
    inputs = MODELS.build(cfg.model.data_preprocessor)(batch, training=False)["inputs"][0]
    rgb = cv2.imread(batch["data_samples"][0].img_path)[..., ::-1].astype(np.float64)
    expected = (rgb / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]  # torchvision's, for its weights
    np.testing.assert_allclose(inputs.numpy().transpose(1, 2, 0), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("ratio", [1.5, (2.0, 0.5), (0, 1), (0.5, "2"), (1,), None, (0.5, float("nan"))], ids=repr)
def test_factors_that_are_none(ratio) -> None:
    with pytest.raises(ValueError, match="RandomScale: ratio is the smallest and the largest factor, got "):
        RandomScale(ratio)
