"""Prediction: counts of any image, large ones in tiles, and what the protocol of tools/predict.py asks for."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from PIL import Image

from crowd_counting import prediction
from crowd_counting.application import application
from ean_core.terminal import hearing_parts
from ean_testing.references import randomize

CFG = Config({
    "model": {
        "type": "crowd_counting.counter.CrowdCounter",
        "backbone": {
            "type": "ean_core.EANResNet", "depth": 18, "num_stages": 3, "out_indices": (2,), "strides": (1, 2, 1, 1),
        },
        "head": {"type": "crowd_counting.head.CSRNetHead", "channels": (8,), "kernel_size": 1},
        "loss": {"type": "crowd_counting.losses.DensityLoss"},
        "data_preprocessor": {
            "type": "crowd_counting.preprocess.CrowdPreprocessor", "mean": [120, 110, 100], "std": [60, 58, 56],
        },
    },
})  # fmt: skip


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    model = MODELS.build(CFG.model)
    randomize(model, 0)
    return model.eval()


def noise(*sizes: tuple[int, int]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


@torch.inference_mode()
def test_images_of_several_sizes(model: torch.nn.Module) -> None:
    images = noise((40, 56), (3, 5), (33, 20))
    results = prediction.predict(model, CFG, images)
    for image, result in zip(images, results, strict=True):
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
        expected = model.val_step({"inputs": pixels})[0, 0].numpy()
        np.testing.assert_allclose(result.density, expected, rtol=1e-6)
        assert result.count == pytest.approx(float(expected.sum()), rel=1e-6)
        assert (result.size, result.stride) == (image.shape[:2], 8)
        assert prediction.row(result) == {"count": round(result.count, 2)}
        assert prediction.draw(image, result).size[0] > 100


@torch.inference_mode()
def test_a_region(model: torch.nn.Module) -> None:
    """Half of the image has the people of half of the cells; a column of cells is cut in two."""
    (image,) = noise((40, 56))
    cfg = CFG.copy()
    application.choose_region(cfg, ((-5.0, -5.0), (28.0, -5.0), (28.0, 50.0), (-5.0, 50.0)))
    (result,) = prediction.predict(model, cfg, [image])
    expected = result.density[:, :3].sum() + result.density[:, 3].sum() / 2
    assert result.in_region == pytest.approx(float(expected), rel=1e-5)
    assert prediction.row(result) == {"count": round(result.count, 2), "in_region": round(result.in_region, 2)}
    drawn, plain = (np.asarray(prediction.draw(image, r)) for r in (result, prediction.predict(model, CFG, [image])[0]))
    assert drawn.shape == plain.shape
    assert (drawn != plain).any()
    assert len(result.points) <= result.count + 0.5


@torch.inference_mode()
def test_no_more_than_a_tile_goes_through_the_network(model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what comes out is the whole image's map, since 96 pixels are left out at inner edges."""
    (image,) = noise((200, 600))
    seen = []
    forward = model.backbone.forward

    def watch(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen.append(tuple(x.shape))
        return forward(x)

    monkeypatch.setattr(model.backbone, "forward", watch)
    (tiled,) = prediction.predict(model, Config({"tiling": {"tile": 320, "overlap": 256}}), [image])
    assert len(seen) > 1
    assert max(shape[2] * shape[3] for shape in seen) <= 320 * 320
    seen.clear()
    (whole,) = prediction.predict(model, CFG, [image])
    assert len(seen) == 1
    np.testing.assert_allclose(tiled.density, whole.density, rtol=1e-4, atol=1e-5 * whole.density.max())
    seen.clear()
    asked = Config({"tiling": {"tile": 320, "overlap": 256}, "prediction": {"whole": True}})
    (piece,) = prediction.predict(model, asked, [image])
    assert len(seen) == 1
    assert np.array_equal(piece.density, whole.density)
    seen.clear()
    asked = Config({"tiling": {"tile": 96, "overlap": 32}, "prediction": {"batch": 4}})
    prediction.predict(model, asked, [image])
    assert max(shape[0] for shape in seen) == 4


@torch.inference_mode()
def test_large_images_are_reduced_on_request(model: torch.nn.Module) -> None:
    (image,) = noise((40, 80))
    (result,) = prediction.predict(model, Config({"prediction": {"size": 40}}), [image])
    assert result.size == (20, 40)
    small = np.asarray(Image.fromarray(image).resize((40, 20), Image.Resampling.BILINEAR))
    (expected,) = prediction.predict(model, CFG, [small])
    assert np.array_equal(result.density, expected.density)
    assert prediction.draw(image, result).size == prediction.draw(small, expected).size


@torch.inference_mode()
def test_a_large_image_says_which_tile_it_is_at(model: torch.nn.Module) -> None:
    told: list[str] = []
    with hearing_parts(told.append):
        prediction.predict(model, Config({"tiling": {"tile": 96, "overlap": 32}}), noise((64, 200)))
    assert told == ["tile 1 of 3", "tile 2 of 3", "tile 3 of 3"]


def test_prepare_makes_the_choices_of_a_config_file() -> None:
    from pathlib import Path

    path = Path(__file__).resolve().parents[2] / "configs" / "crowd" / "ean_sge_sha.py"
    cfg = Config.fromfile(path)
    application.configure_prediction(cfg, None)
    assert cfg.model.head.channels == (512, 512, 512, 256, 128, 64)
    before = cfg.to_dict()
    application.configure_prediction(cfg, None)  # a checkpoint's config passes through it as well
    assert cfg.to_dict() == before
