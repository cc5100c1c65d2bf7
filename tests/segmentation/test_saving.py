"""tools/predict.py --masks and --polygons: what is written is what was predicted."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ean_core.application import Application
from ean_core.errors import UserError
from ean_core.inference import load
from ean_testing import runs
from segmentation.application import application
from segmentation.prediction import SegmentationResult
from segmentation.saving import label_image
from segmentation.voc import palette

Run = Callable[..., Path]


@pytest.fixture(scope="module")
def trained(train: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("run")) / "best.pth"


def test_files_of_a_prediction(trained: Path, small_voc: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in" / "deep"
    folder.mkdir(parents=True)
    for number, source in enumerate(sorted((small_voc / "JPEGImages").iterdir())[:2]):
        Image.open(source).save(folder / f"{number}.png")
    arguments = [str(trained), str(tmp_path / "in"), "--device", "cpu", "--masks", "--polygons"]
    for kind in ("geojson", "coco"):
        runs.tool("predict")([*arguments, kind, "--out", str(tmp_path / "out")])
    model, coco = load(checkpoint=trained, device="cpu"), json.loads((tmp_path / "out" / "coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["deep/0.png", "deep/1.png"]
    for number in range(2):
        result = model(folder / f"{number}.png")
        with Image.open(tmp_path / "out" / "masks" / "deep" / f"{number}.png.png") as mask:
            assert mask.mode == "P"
            assert np.array_equal(np.asarray(mask), result.labels)
            assert np.array_equal(np.asarray(mask.convert("RGB")), np.array(result.palette)[result.labels])
        drawn = [a for a in coco["annotations"] if a["image_id"] == number + 1]
        areas = np.zeros(len(result.classes), int)
        for annotation in drawn:
            areas[annotation["category_id"] - 1] += annotation["area"]
        assert areas[1:].tolist() == np.bincount(result.labels.ravel(), minlength=len(areas))[1:].tolist()
        features = json.loads((tmp_path / "out" / "polygons" / "deep" / f"{number}.png.geojson").read_text())[
            "features"
        ]
        assert sum(f["properties"]["area"] for f in features) == areas[1:].sum()


def test_more_classes_than_a_palette_holds() -> None:
    labels = np.array([[0, 299], [256, 1]], np.uint16)
    names = tuple(map(str, range(300)))
    png = label_image(SegmentationResult(labels, names, tuple((k % 256, 0, 0) for k in range(300))))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), labels)
    small = label_image(
        SegmentationResult(labels.astype(np.uint8), names[:256], tuple((r, g, b) for r, g, b in palette(256)))
    )
    assert Image.open(io.BytesIO(small)).mode == "P"


def test_tasks_without_labels_say_so() -> None:
    class Plain(Application):
        name = "plain"

    with pytest.raises(UserError, match="the task 'plain' saves no further forms: not masks"):
        Plain().require_forms(["masks"])
    with pytest.raises(UserError, match="the task 'segmentation' saves masks, geojson, coco: not svg"):
        application.require_forms(["masks", "svg"])
