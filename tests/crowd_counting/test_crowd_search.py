"""A search's evaluator: the count errors of schemes on the validation images, as a plain loop has them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch import nn

from crowd_counting.application import application
from crowd_counting.counter import CrowdCounter
from crowd_counting.dataset import CrowdDataset
from crowd_counting.metric import Truth, count_loss
from ean_core import ConnectionScheme
from ean_core.search import Evaluator, build_reward
from ean_core.search.evaluator import build_evaluator as build
from ean_testing.references import randomize


@pytest.fixture(scope="module")
def runner(toy_crowd: Path) -> SimpleNamespace:
    """What the evaluator needs of one: a supernet and four images (of the test split, for their number)."""
    backbone = {
        "type": "ean_core.EANResNet", "depth": 18, "num_stages": 3, "out_indices": (2,), "strides": (1, 2, 1, 1),
        "attention": {"type": "SE"},
    }  # fmt: skip
    model = CrowdCounter(
        backbone,
        head={"type": "crowd_counting.head.CSRNetHead", "channels": (8,), "kernel_size": 1},
        loss={"type": "crowd_counting.losses.DensityLoss"},
        data_preprocessor={
            "type": "crowd_counting.preprocess.CrowdPreprocessor", "mean": [120.0] * 3, "std": [60.0] * 3,
            "multiple": 64,
        },
    )  # fmt: skip
    randomize(model, 0)
    training = {"type": "crowd_counting.dataset.CrowdDataset", "root": str(toy_crowd), "part": "B", "split": "train"}
    augmented = {**training, "augment": {"crop": (64, 64)}, "density": {"type": "fixed", "sigma": 4}}
    loaders = {"train_dataloader": {"dataset": augmented}, "val_dataloader": {"batch_size": 1}}
    images = SimpleNamespace(dataset=CrowdDataset(toy_crowd, part="B", split="test"))
    return SimpleNamespace(model=model, val_dataloader=images, cfg=Config(loaders))


def build_evaluator(runner: SimpleNamespace, calibration: int = 0) -> Evaluator:
    return build(runner, application, calibration)


def test_errors_of_schemes(runner: SimpleNamespace) -> None:
    schemes = [ConnectionScheme.parse(text, (2, 2, 2, 2)) for text in ("10-01-11-00", "00-01-11-00", "11-11-11-11")]
    found = build_evaluator(runner)(schemes)
    for scheme, metrics in zip(schemes, found, strict=True):
        runner.model.backbone.set_scheme(scheme)
        errors = []
        for item in runner.val_dataloader.dataset:
            with torch.inference_mode():
                errors.append(float(runner.model.predict(item["inputs"][None]).double().sum()) - len(item["points"]))
        assert metrics["MAE"] == pytest.approx(np.abs(errors).mean(), rel=1e-5)
        assert metrics["MSE (RMSE)"] == pytest.approx(np.sqrt(np.square(errors).mean()), rel=1e-5)
    runner.model.backbone.set_scheme("full")
    reward = build_reward([{"metric": "MAE", "direction": "down"}])
    values = [reward(scheme, metrics) for scheme, metrics in zip(schemes, found, strict=True)]
    assert np.argmax(values) == np.argmin([metrics["MAE"] for metrics in found])
    assert len({metrics["MAE"] for metrics in found}) == 3


def test_a_broken_prediction_fails_and_gates_have_gradients(runner: SimpleNamespace) -> None:
    evaluator = build_evaluator(runner)
    gates = torch.full((8,), 0.5, requires_grad=True)
    evaluator.gate_loss(gates, 0).backward()
    assert gates.grad[:6].all()
    assert not gates.grad[6:].any()  # the stage that is left out
    assert float(count_loss(torch.ones(2, 1, 2, 3), Truth(torch.tensor([5, 9]), (2, 3)))) == 2
    assert float(count_loss(torch.ones(2, 1, 2, 3), Truth(torch.tensor([5, 9]), (1, 3)))) == 4  # the rest is padding
    bias = runner.model.head.output.bias
    before = bias.detach().clone()
    nn.init.constant_(bias, float("nan"))
    (metrics,) = evaluator([ConnectionScheme.full((2, 2, 2, 2))])
    assert np.isnan(metrics["MAE"])
    bias.data.copy_(before)


def test_calibration_renews_the_statistics(runner: SimpleNamespace) -> None:
    scheme = ConnectionScheme.full((2, 2, 2, 2))
    (plain,), (calibrated,) = build_evaluator(runner)([scheme]), build_evaluator(runner, calibration=2)([scheme])
    assert plain["MAE"] != calibrated["MAE"]


def test_calibration_takes_plain_images_from_all_over_the_training_set(
    runner: SimpleNamespace, toy_crowd: Path
) -> None:
    """Neither augmented nor the first ones: what the other tasks take too."""
    dataset = CrowdDataset(toy_crowd, part="B", split="train")
    found = build_evaluator(runner, calibration=3).calibration
    chosen = [i * len(dataset) // 3 for i in range(3)]
    assert chosen[-1] > 2
    assert all(torch.equal(a, dataset[i]["inputs"][None]) for a, i in zip(found, chosen, strict=True))


def test_another_model_is_refused(runner: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="needs a CrowdCounter, got Linear"):
        build_evaluator(SimpleNamespace(model=nn.Linear(1, 1), cfg=runner.cfg))
