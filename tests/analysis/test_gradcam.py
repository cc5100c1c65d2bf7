"""Grad-CAM: against the paper's formula written out, for the three kinds of output."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

pytest.importorskip("pytorch_grad_cam")

from classification.application import application as classification
from crowd_counting.application import application as crowd_counting
from ean_core.analysis.gradcam import explain
from ean_core.figures import save_figure
from ean_core.figures.heat_maps import HeatMap, heat_maps
from ean_testing.tiny import KINDS, tiny
from segmentation.application import application as segmentation

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 55.0, 50.0)
CLASSES = ("background", "cat", "dog", "owl")
TASKS = {"class": classification, "pixels": segmentation, "count": crowd_counting}


class Model(nn.Module):
    """A backbone with a 1x1 head: ``kind`` is what the head's maps are made into."""

    def __init__(self, kind: str, attention: str = "SE", **options: object) -> None:
        super().__init__()
        self.backbone = tiny(attention, scheme="101-110-011", out_indices=(2,), **options)
        torch.manual_seed(0)
        self.head = nn.Conv2d(64, 1 if kind == "count" else len(CLASSES), 1)
        self.kind, self.dataset_meta = kind, {"classes": CLASSES}
        self.data_preprocessor = SimpleNamespace(mean=torch.tensor(MEAN), std=torch.tensor(STD))
        self.align_corners = False

    def cells(self, size: tuple[int, int]) -> tuple[int, int]:
        return size[0] // 4, size[1] // 4

    def forward(self, inputs: torch.Tensor, mode: str = "tensor") -> torch.Tensor:
        return self.top(self.backbone(inputs)[0], inputs.shape[2:])

    def top(self, features: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        maps = self.head(features)
        if self.kind == "class":
            return maps.mean((2, 3))
        return F.interpolate(maps, size, mode="bilinear") if self.kind == "pixels" else maps


class Predictor:
    """What ``ean_core.inference.load`` returns, without files."""

    def __init__(self, model: Model, parts: int = 1, pad: int = 0) -> None:
        self.model, self.task, self.parts, self.pad = model.eval(), TASKS[model.kind], parts, pad

    def predict(self, pictures: list[np.ndarray]) -> list[torch.Tensor]:
        with torch.inference_mode():
            inputs = self.prepare(pictures[0])
            return [self.model(inputs) for _ in range(self.parts)]

    def prepare(self, picture: np.ndarray) -> torch.Tensor:
        x = (torch.tensor(picture.astype(np.float32)) - torch.tensor(MEAN)) / torch.tensor(STD)
        return F.pad(x.permute(2, 0, 1)[None], (0, self.pad, 0, self.pad))


def picture(height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def by_hand(model: Model, inputs: torch.Tensor, stage: int, weight: torch.Tensor) -> np.ndarray:
    """relu(sum_k alpha_k A_k), alpha_k = mean gradient of sum(weight * output); the network is run in two halves."""
    backbone = model.backbone
    x = backbone.relu(backbone.bn1(backbone.conv1(inputs)))
    for module in backbone.stages[:stage]:
        x = module(x)
    features = x.detach().requires_grad_()
    y = features
    for module in backbone.stages[stage:]:
        y = module(y)
    (model.top(y, inputs.shape[2:])[0] * weight).sum().backward()
    total = torch.zeros(features.shape[2:])
    for k in range(features.shape[1]):
        total += features.grad[0, k].mean() * features[0, k].detach()
    cam = total.clamp(min=0)
    if not cam.any():
        return np.zeros(inputs.shape[2:], np.float32)  # nothing speaks for the target
    cam = F.interpolate(cam[None, None], inputs.shape[2:], mode="bilinear")[0, 0]
    return ((cam - cam.min()) / (cam.max() - cam.min())).numpy()


@KINDS
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_class(kind, stage):
    predictor = Predictor(Model("class", kind))
    inputs = predictor.prepare(picture())
    lively = 0
    for k, name in enumerate(("background", "cat", "2", "3")):
        found = explain(predictor, picture(), name, stage)
        expected = by_hand(predictor.model, inputs, stage, torch.eye(4)[k])
        lively += expected.std() > 0.05
        np.testing.assert_allclose(found.heat, expected, atol=2e-5)
        assert found.target == CLASSES[k]
        assert found.score == pytest.approx(float(predictor.model(inputs).softmax(1)[0, k].detach()), rel=1e-5)
        assert np.array_equal(found.seen, picture())
    assert lively


def test_the_prediction_is_the_default():
    predictor = Predictor(Model("class"))
    label = int(predictor.predict([picture()])[0].argmax())
    found = explain(predictor, picture())
    assert found.target == CLASSES[label]
    assert np.array_equal(found.heat, explain(predictor, picture(), str(label), 3).heat)
    assert found.answer == f"P = {found.score:.3f}" + ("" if found.heat.any() else "; empty map")


def test_pixels_of_a_class():
    """The largest class but the background is explained, where it is predicted."""
    predictor = Predictor(Model("pixels"))
    logits = predictor.predict([picture()])[0][0]
    labels = logits.argmax(0)
    k = max(range(1, 4), key=lambda k: int((labels == k).sum()))
    weight = torch.zeros(4, 24, 32)
    weight[k] = labels == k
    lively = 0
    for stage in (1, 2, 3):
        found = explain(predictor, picture(), stage=stage)
        expected = by_hand(predictor.model, predictor.prepare(picture()), stage, weight)
        np.testing.assert_allclose(found.heat, expected, atol=2e-5)
        lively += expected.std() > 0.05
    assert lively
    assert found.target == CLASSES[k]
    assert np.array_equal(found.region, (labels == k).numpy())
    assert found.score == pytest.approx(float(logits.softmax(0)[k][labels == k].mean()), rel=1e-5)
    assert found.answer.startswith(f"{100 * float((labels == k).float().mean()):.1f} % of the pixels")


def test_pixels_of_a_class_that_is_nowhere():
    """All pixels are explained then."""
    predictor = Predictor(Model("pixels"))
    with torch.no_grad():
        predictor.model.head.bias[2] -= 1000
    weight = torch.zeros(4, 24, 32)
    weight[2] = 1
    lively = 0
    for stage in (1, 2, 3):
        found = explain(predictor, picture(), "dog", stage)
        expected = by_hand(predictor.model, predictor.prepare(picture()), stage, weight)
        np.testing.assert_allclose(found.heat, expected, atol=2e-5)
        lively += expected.std() > 0.05
    assert lively
    assert not found.region.any()
    assert found.answer.startswith("not predicted")


def test_a_count_leaves_padding_out():
    predictor = Predictor(Model("count"), pad=8)
    inputs = predictor.prepare(picture())
    assert inputs.shape == (1, 3, 32, 40)
    weight = torch.zeros(1, 8, 10)
    weight[:, :6, :8] = 1
    lively = 0
    for stage in (1, 1, 2, 2, 3, 3):
        with torch.no_grad():
            predictor.model.head.weight.neg_()  # where all speaks against people the map is empty: see the contrary too
        found = explain(predictor, picture(), stage=stage)
        expected = by_hand(predictor.model, inputs, stage, weight)[:24, :32]
        np.testing.assert_allclose(found.heat, expected, atol=2e-5)
        lively += expected.std() > 0.05
    assert lively
    assert found.score == pytest.approx(float((predictor.model(inputs)[0] * weight).sum().detach()), rel=1e-5)
    assert np.array_equal(found.seen, picture())
    assert found.answer.startswith(f"count {found.score:.1f}")
    with torch.no_grad():  # where the maps have no weight nothing speaks for people
        predictor.model.head.weight.zero_()
    assert (
        explain(predictor, picture()).answer == f"count {float(predictor.model.head.bias.detach()) * 48:.1f}; empty map"
    )


def test_a_frozen_network():
    predictor, frozen = Predictor(Model("class")), Predictor(Model("class", frozen_stages=3))
    assert not any(p.requires_grad for p in frozen.model.backbone.parameters())
    frozen.model.requires_grad_(False)
    for name in CLASSES:
        assert np.array_equal(explain(predictor, picture(), name).heat, explain(frozen, picture(), name).heat)
    assert all(p.grad is None for p in predictor.model.parameters())


@pytest.mark.parametrize(
    ("predictor", "arguments", "message"),
    [
        (lambda: Predictor(Model("class")), {"target": "cta"}, "'cta' is none of the 4 classes .such as 'cat'"),
        (lambda: Predictor(Model("class")), {"target": "4"}, "none of the 4 classes"),
        (lambda: Predictor(Model("class")), {"stage": 4}, "--stage 4: the network uses stages 1 to 3"),
        (lambda: Predictor(Model("count")), {"target": "cat"}, "has no classes"),
        (lambda: Predictor(Model("pixels"), parts=4), {}, "in 4 parts"),
    ],
)
def test_mistakes(predictor, arguments, message):
    with pytest.raises(ValueError, match=message):
        explain(predictor(), picture(), **arguments)


def test_picture(tmp_path):
    from matplotlib.image import imread

    found = [explain(Predictor(Model("pixels", kind)), picture(), "cat", name=kind) for kind in ("SE", "SGE")]
    maps = [HeatMap(f"{one.name}\n{one.answer}", one.seen, one.heat, one.region) for one in found]
    save_figure(heat_maps(maps, "cat"), tmp_path / "cam.png", tight=True)
    height, width = imread(tmp_path / "cam.png").shape[:2]
    assert width > 2.5 * height
