"""Results against independent computations, for every way of handing over an image."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch.nn import functional as F

from ean_core.analysis.gradcam import explain
from ean_core.errors import UserError
from ean_core.inference import load
from ean_core.inference.export import export
from ean_core.inference.predictor import find_device
from ean_testing.checkpoints import (
    CLS,
    SEG,
    build,
    classification_config,
    crowd_config,
    save,
    segmentation_config,
)
from segmentation.voc import CLASSES, PALETTE

NAMES = ("cat", "dog", "fox", "owl", "ape", "bee", "ant")


def photo(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth noise, so that predictions vary over the picture."""
    grid = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints")
    save(path / "seg.pth", segmentation_config(), CLASSES, PALETTE)
    save(path / "cls.pth", classification_config(), NAMES)
    save(path / "crowd.pth", crowd_config(), ())
    return path


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without any data: prediction needs none."""
    monkeypatch.chdir(tmp_path)


def normalised(image: NDArray[np.uint8], cfg) -> torch.Tensor:
    """RGB (H, W, 3) -> (1, 3, H, W), by the config's numbers."""
    p = cfg.model.data_preprocessor
    values = (image.astype(np.float64) - p["mean"]) / p["std"]
    return torch.from_numpy(values.transpose(2, 0, 1)[None]).float()


def test_classification(folder: Path, elsewhere: None) -> None:
    cfg, image = classification_config(), photo(20, 31)
    model = build(cfg)
    seen = np.asarray(ImageOps.fit(Image.fromarray(image), (16, 16), Image.Resampling.BILINEAR))
    with torch.inference_mode():
        logits = model.head["fc"](model.backbone(normalised(seen, cfg))[-1].mean((2, 3)))[0].numpy()
    expected = np.exp(logits - logits.max())
    result = load(checkpoint=folder / "cls.pth")(image)
    np.testing.assert_allclose(result.scores, expected / expected.sum(), rtol=1e-4, atol=1e-6)
    order = sorted(range(7), key=lambda k: -logits[k])
    assert [name for name, _ in result.top()] == [NAMES[k] for k in order[:5]]
    assert (result.label, result.name, result.size) == (order[0], NAMES[order[0]], (20, 31))
    assert result.scores.dtype == np.float32


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_classifier_sees_what_validation_showed_it(tmp_path: Path, in_memory: bool) -> None:
    from classification.datasets import build_dataset
    from classification.prediction import crop

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(5):
            Image.fromarray(photo(40 + i, 30 + 3 * i, seed=i)).save(tmp_path / name / f"{i}.png")
    dataset = build_dataset(str(tmp_path), "val", image_size=16, in_memory=in_memory)
    shown = [dataset[i]["inputs"].numpy() for i in range(len(dataset))]
    ours = [crop(photo(40 + i, 30 + 3 * i, seed=i), 16, in_memory) for i in range(5)]
    for pixels in shown:
        assert any(np.array_equal(pixels, own) for own in ours)


def test_segmentation(folder: Path, elsewhere: None) -> None:
    cfg, image = segmentation_config(), photo(37, 50)
    model = build(cfg)
    with torch.inference_mode():
        logits = model.decode_head(model.backbone(normalised(image, cfg)))
        logits = F.interpolate(logits, size=(37, 50), mode="bilinear", align_corners=False)[0].numpy()
    best = np.sort(logits, 0)
    sure = best[-1] - best[-2] > 1e-4
    result = load(checkpoint=folder / "seg.pth")(image)
    assert result.labels.dtype == np.uint8
    assert result.labels.shape == result.size == (37, 50)
    assert sure.mean() > 0.9
    assert np.array_equal(result.labels[sure], logits.argmax(0)[sure])
    assert len(np.unique(result.labels)) > 1
    assert result.classes == CLASSES
    counts = [(result.labels == k).sum() for k in range(21)]
    assert result.shares.tolist() == [count / (37 * 50) for count in counts]
    assert [counts[k] for k in result.present()] == sorted((c for c in counts if c), reverse=True)


def test_a_large_image_goes_through_the_network_reduced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import segmentation.prediction

    model, image = load(checkpoint=folder / "seg.pth"), photo(90, 60)
    monkeypatch.setattr(segmentation.prediction, "MAX_SIDE", 45)
    small = np.asarray(Image.fromarray(image).resize((30, 45), Image.Resampling.BILINEAR))
    expected = np.kron(model(small).labels, np.ones((2, 2), np.uint8))
    assert np.array_equal(model(image).labels, expected)


def test_a_size_may_be_asked_for(folder: Path) -> None:
    """The network sees the reduced image; a segmentation's labels are those of the image, enlarged."""
    image = photo(60, 90)
    small = np.asarray(Image.fromarray(image).resize((45, 30), Image.Resampling.BILINEAR))
    for name in ("seg.pth", "crowd.pth"):
        asked, plain = load(checkpoint=folder / name, size=45), load(checkpoint=folder / name)
        found, expected = asked(image), plain(small)
        if name == "seg.pth":
            assert found.size == (60, 90)
            labels = Image.fromarray(expected.labels).resize((90, 60), Image.Resampling.NEAREST)
            assert np.array_equal(found.labels, np.asarray(labels))
        else:
            assert found.size == (30, 45)
            assert np.array_equal(found.density, expected.density)


def test_whole_images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither reduced nor in tiles."""
    import segmentation.prediction

    monkeypatch.setattr(segmentation.prediction, "MAX_SIDE", 45)
    image = photo(60, 90)
    whole = load(checkpoint=folder / "seg.pth", whole=True)(image)
    reduced = load(checkpoint=folder / "seg.pth")(image)
    monkeypatch.setattr(segmentation.prediction, "MAX_SIDE", 1000)
    assert np.array_equal(whole.labels, load(checkpoint=folder / "seg.pth")(image).labels)
    assert not np.array_equal(whole.labels, reduced.labels)


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory: 9 GB")]
)
def test_an_image_that_does_not_fit_into_memory_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    model = load(checkpoint=folder / "crowd.pth", whole=True, device="cpu")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(model.task, "predict", fail)
    with pytest.raises(
        UserError, match="images of 90x60 pixels do not fit into the memory of cpu: set a smaller --size"
    ):
        model(photo(60, 90))
    monkeypatch.setattr(model.task, "predict", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(photo(60, 90))


def test_crowd_counting(folder: Path, elsewhere: None) -> None:
    cfg, image = crowd_config(), photo(48, 64)  # multiples of 8: nothing is padded
    model = build(cfg)
    with torch.inference_mode():
        output = model.head(model.backbone(normalised(image, cfg))[-1])[0, 0].numpy()
    result = load(checkpoint=folder / "crowd.pth")(image)
    expected = output / cfg.model.loss.get("label_scale", model.loss.label_scale)
    np.testing.assert_allclose(result.density, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert result.count == pytest.approx(expected.sum(dtype=np.float64), rel=1e-4)
    assert result.size == (48, 64)


@pytest.mark.parametrize("name", ["seg.pth", "cls.pth"])
def test_paths_images_arrays_and_lists(folder: Path, tmp_path: Path, name: str) -> None:
    model, pictures = load(checkpoint=folder / name), [photo(20, 24, s) for s in range(3)] + [photo(24, 20)]
    values = [getattr(model(p), "labels" if name == "seg.pth" else "scores") for p in pictures]
    Image.fromarray(pictures[0]).save(tmp_path / "a.png")
    Image.fromarray(pictures[1]).save(tmp_path / "b.bmp")
    mixed = [tmp_path / "a.png", str(tmp_path / "b.bmp"), Image.fromarray(pictures[2]), pictures[3]]
    for batch in (1, 3, 10):
        results = model(mixed, batch=batch)
        assert len(results) == 4
        for result, value in zip(results, values, strict=True):
            found = result.labels if name == "seg.pth" else result.scores
            assert np.mean(np.abs(found - value) > 1e-5) < 0.02  # a batch may round another way
    assert model([]) == []


def test_pictures_of_one_size_have_one_size(folder: Path) -> None:
    """Which the frames of a video need, whatever is found in them."""
    for name in ("seg.pth", "cls.pth", "crowd.pth"):
        model = load(checkpoint=folder / name)
        images = [photo(40, 60), np.zeros((40, 60, 3), np.uint8), np.full((40, 60, 3), 255, np.uint8)]
        sizes = {model.task.draw(image, model(image)).size for image in images}
        assert len(sizes) == 1


def test_rows_have_one_header(folder: Path) -> None:
    for name, first in (("seg.pth", "background %"), ("cls.pth", "class_1"), ("crowd.pth", "count")):
        model = load(checkpoint=folder / name)
        headers = {tuple(model.task.row(model(photo(40, 60, seed)))) for seed in range(2)}
        assert len(headers) == 1
        assert headers.pop()[0] == first


@pytest.mark.parametrize("name", ["seg.pth", "cls.pth"])
def test_fused(folder: Path, name: str) -> None:
    plain, fused = (load(checkpoint=folder / name, fuse=f)(photo(33, 40)) for f in (False, True))
    if name == "cls.pth":
        np.testing.assert_allclose(fused.scores, plain.scores, atol=1e-4)
    else:
        assert (fused.labels == plain.labels).mean() > 0.98


def test_a_config_may_be_given(folder: Path, tmp_path: Path) -> None:
    """It then decides, and the checkpoint needs none of its own."""
    cfg = segmentation_config()
    cfg.dump(tmp_path / "mine.py")
    weights = torch.load(folder / "seg.pth", weights_only=True)["state_dict"]
    torch.save({"state_dict": weights}, tmp_path / "bare.pth")
    expected = load(checkpoint=folder / "seg.pth")(photo(20, 20))
    for config in (tmp_path / "mine.py", str(tmp_path / "mine.py"), cfg):
        result = load(config, tmp_path / "bare.pth")(photo(20, 20))
        assert np.array_equal(result.labels, expected.labels)
        assert result.classes == tuple(map(str, range(21)))  # a bare checkpoint names none
        assert result.palette == expected.palette


def test_our_config_files_follow_the_number_of_classes(tmp_path: Path) -> None:
    """Weights of another head than the file's default, and of another number of classes than VOC's."""
    cfg = segmentation_config("psp", classes=3)
    save(tmp_path / "three.pth", cfg, ("road", "kerb", "sky"))
    (tmp_path / "mine.py").write_text(
        f"_base_ = {SEG!r}\nhead = 'psp'\nmodel = dict(backbone=dict(depth=18, scheme='10-01-11-10'))\n"
    )
    assert load(tmp_path / "mine.py", tmp_path / "three.pth")(photo(20, 20)).classes == ("road", "kerb", "sky")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"needs a checkpoint: load\(checkpoint="),
        ({"config": "x.pth", "checkpoint": "seg.pth"}, "'x.pth' is a checkpoint, not a config"),
        ({"config": "nowhere.py", "checkpoint": "seg.pth"}, "config 'nowhere.py' does not exist"),
        ({"checkpoint": "nowhere.pth"}, "'nowhere.pth' does not exist"),
        ({"checkpoint": "seg.pth", "device": "cuda:77"}, "device 'cuda:77' cannot be used"),
        ({"checkpoint": "seg.pth", "device": "gpu"}, "device 'gpu' cannot be used"),
        ({"config": CLS, "checkpoint": "seg.pth"}, r"does not fit the model.*Without CONFIG the checkpoint's own"),
    ],
)
def test_mistakes(folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, str], message: str) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        load(**arguments)
    assert "\n" not in str(error.value)


def test_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config that starts from pretrained weights predicts without them: the checkpoint holds all."""
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *_, **__: pytest.fail("network"))
    cfg = classification_config()
    save(tmp_path / "x.pth", cfg, NAMES)
    content = torch.load(tmp_path / "x.pth", weights_only=True)
    cfg.model.backbone.init_cfg = {"type": "Pretrained", "checkpoint": "torchvision://resnet50"}
    content["meta"]["cfg"] = cfg.dump()
    torch.save(content, tmp_path / "x.pth")
    assert load(checkpoint=tmp_path / "x.pth")(photo(8, 8)).classes == NAMES


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
@pytest.mark.parametrize("name", ["seg.pth", "cls.pth", "crowd.pth"])
def test_weights_that_are_not_finite(folder: Path, tmp_path: Path, name: str, value: float) -> None:
    content = torch.load(folder / name, weights_only=True)
    first = next(iter(content["state_dict"]))
    content["state_dict"][first].view(-1)[0] = value
    torch.save(content, tmp_path / name)
    Image.fromarray(photo(20, 24)).save(tmp_path / "a.png")
    model = load(checkpoint=tmp_path / name)
    words = (
        rf"'.*{name}' predicts values that are not finite for '.*a\.png': its weights hold values that are not finite"
    )
    with pytest.raises(UserError, match=rf"{words} \('{re.escape(first)}'\): train again with a lower") as error:
        model([tmp_path / "a.png"])
    assert "\n" not in str(error.value)
    for use in (
        lambda: explain(model, photo(20, 24)),
        lambda: export(model, "torchscript", tmp_path / "x.ts", (32, 32)),
    ):
        with pytest.raises(UserError, match=rf"{name}' predicts values that are not finite: its weights"):
            use()
    assert not (tmp_path / "x.ts").exists()


@pytest.mark.parametrize("device", ["meta", "mps", "xla", "cuda:99", "vulkan", "privateuseone"])
def test_devices_that_cannot_compute(device: str) -> None:
    with pytest.raises(UserError, match=f"device '{device}' cannot be used here: leave --device out, or choose cpu"):
        find_device(device)


@pytest.mark.parametrize("name", ["seg.pth", "cls.pth"])
def test_a_folder_is_no_file_to_export_to(folder: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"'{tmp_path}' is a folder: name a file in it"):
        export(load(checkpoint=folder / name), "torchscript", tmp_path)
