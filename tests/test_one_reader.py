"""Images of every kind through every door: training, prediction, the page, a script without the package."""

import io
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from classification.datasets import build_dataset
from crowd_counting.dataset import CrowdDataset
from ean_core.demo.limits import Limits
from ean_core.demo.uploads import read_picture
from ean_core.inference import Predictor, read_image
from ean_core.inference.predict_files import predict_files
from ean_testing.checkpoints import ROOT
from segmentation.stack import import_mmseg

SIDE = 16
COLOUR = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
GREY = COLOUR[..., 0]
ALPHA = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE), np.uint8)
DEEP = np.random.default_rng(2).integers(0, 65536, (SIDE, SIDE, 3), np.uint16)


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _save(image: Image.Image, **options: object) -> Callable[[Path], None]:
    return lambda path: image.save(path, **options)


KINDS: dict[str, Callable[[Path], None]] = {
    "one_bit.png": _save(Image.fromarray(GREY > 100)),
    "grey.png": _save(Image.fromarray(GREY)),
    "grey.jpg": _save(Image.fromarray(GREY)),
    "grey_alpha.png": _save(Image.fromarray(np.dstack([GREY, ALPHA]), "LA")),
    "palette.png": _save(Image.fromarray(COLOUR).quantize(8)),
    "palette_transparent.png": _save(Image.fromarray(COLOUR).quantize(8), transparency=1),
    "rgb.png": _save(Image.fromarray(COLOUR)),
    "rgb.jpg": _save(Image.fromarray(COLOUR)),
    "rgb.webp": _save(Image.fromarray(COLOUR)),
    "rgba.png": _save(Image.fromarray(np.dstack([COLOUR, ALPHA]))),
    "cmyk.jpg": _save(Image.fromarray(np.dstack([COLOUR, ALPHA]), "CMYK")),
    "deep_grey.png": _save(Image.fromarray(DEEP[..., 0])),
    "deep_grey.tif": _save(Image.fromarray(DEEP[..., 0])),
    "deep_rgb.png": lambda path: cv2.imwrite(str(path), DEEP),
    "turned.jpg": _save(Image.fromarray(COLOUR), exif=_exif(6)),
    "turned.png": _save(Image.fromarray(COLOUR), exif=_exif(5)),
    "turned.tif": _save(Image.fromarray(COLOUR), exif=_exif(8)),
}


def _crowd(path: Path) -> np.ndarray:
    dataset = CrowdDataset(path.parents[1], split="train")
    index = [sample.image.name for sample in dataset.samples].index(path.name)
    return dataset[index]["inputs"].numpy().transpose(1, 2, 0)


def _classes(path: Path, in_memory: bool) -> np.ndarray:
    dataset = build_dataset(str(path.parents[1]), "train", image_size=SIDE, in_memory=in_memory)
    if not in_memory:
        dataset.transform = lambda image: image  # crops change the pixels of every image alike
    index = [item.name for item in build_dataset(str(path.parents[1]), "train", in_memory=False).source.items]
    return dataset[index.index(path.name)]["inputs"].numpy()


def _masks(path: Path, inferencer: bool) -> np.ndarray:
    import_mmseg()
    from mmseg.registry import TRANSFORMS

    step = Config.fromfile(ROOT / "configs" / "seg" / "ean_se_voc.py").test_pipeline[0]
    assert step.type == "LoadImageFromFile"  # the name that MMSegmentation's inferencer looks for
    with DefaultScope.overwrite_default_scope("mmseg"):
        loader = TRANSFORMS.build(dict(step, type="InferencerLoader") if inferencer else step)
    return loader.transform({"img_path": str(path)})["img"][..., ::-1]


def _predictor(path: Path) -> np.ndarray:
    task = SimpleNamespace(predict=lambda model, cfg, images: images)
    return Predictor(None, Config(), task)(path)  # type: ignore[arg-type]


def _folder(path: Path) -> np.ndarray:
    seen: list[np.ndarray] = []
    task = SimpleNamespace(draw=lambda image, result: Image.fromarray(image), row=lambda result: {"count": 0})
    model = SimpleNamespace(predict=lambda images, names: seen.extend(images) or images, task=task)
    failed = predict_files(model, [str(path)], path.parents[2] / "out")  # type: ignore[arg-type]
    if failed:
        raise ValueError(failed[0])
    return seen[0]


def _page(path: Path) -> np.ndarray:
    return read_picture(io.BytesIO(path.read_bytes()), Limits())[0]


def _script(path: Path) -> np.ndarray:
    """What docs/run_onnx_crowd.py gives to the exported network."""
    seen: list[np.ndarray] = []

    def run(_: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        seen.append(inputs["image"])
        return [np.ones((1, 1, 2, 2), np.float32)]

    session = SimpleNamespace(run=run, get_inputs=lambda: [SimpleNamespace(shape=[1, 3, "height", "width"])])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=lambda *_, **__: session))
        patch.setattr(sys, "argv", ["run", "model.onnx", str(path), str(path.parents[2] / "heat.png")])
        runpy.run_path(str(ROOT / "docs" / "run_onnx_crowd.py"))
    return seen[0][0].transpose(1, 2, 0)


DOORS: dict[str, tuple[str, Callable[[Path], np.ndarray]]] = {  # door -> folder of the image, function
    "crowd training": ("data/images", _crowd),
    "classification in memory": ("data/train/one", lambda path: _classes(path, True)),
    "classification from files": ("data/train/one", lambda path: _classes(path, False)),
    "segmentation": ("data/images", lambda path: _masks(path, False)),
    "MMSegmentation's inferencer": ("data/images", lambda path: _masks(path, True)),
    "prediction in Python": ("data/images", _predictor),
    "tools/predict.py": ("data/images", _folder),
    "the page": ("data/images", _page),
    "the script without the package": ("data/images", _script),
}


@pytest.fixture
def place(tmp_path: Path) -> Callable[[str, str, Callable[[Path], object]], Path]:
    """``place(folder, name, write)`` writes an image where a door expects it, with what the door needs beside it."""

    def build(folder: str, name: str, write: Callable[[Path], object]) -> Path:
        path = tmp_path / folder / name
        for other in (path.parent, tmp_path / "data/annotations", tmp_path / "data/train/two"):
            other.mkdir(parents=True, exist_ok=True)
        write(path)
        if folder == "data/images":
            Image.fromarray(COLOUR).save(tmp_path / "data/images/other.png")
            (tmp_path / "data/train.txt").write_text(name)
            (tmp_path / "data/val.txt").write_text("other.png")
            for stem in (path.stem, "other"):
                (tmp_path / "data/annotations" / f"{stem}.csv").write_text("3,4\n")
        else:
            for other in (path.parent, tmp_path / "data/train/two"):
                for number in range(4):
                    Image.fromarray(COLOUR).save(other / f"{number}.png")
        return path

    return build


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_door_shows_the_same_pixels(place: Callable[..., Path], kind: str, door: str) -> None:
    folder, read = DOORS[door]
    path = place(folder, kind, KINDS[kind])
    assert np.array_equal(read(path), read_image(path))


@pytest.mark.parametrize("door", DOORS)
def test_every_door_refuses_what_has_no_white(place: Callable[..., Path], door: str) -> None:
    folder, read = DOORS[door]
    path = place(folder, "float.tif", _save(Image.fromarray(GREY.astype(np.float32))))
    with pytest.raises((ValueError, SystemExit), match=r"(float\.tif|the image).*floating-point"):
        read(path)
