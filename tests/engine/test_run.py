"""A training and its evaluation, from the command line to the files."""

import argparse
import json
import math
import os
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from torch import nn

from ean_core import EANResNet
from ean_core.checkpoint import read_checkpoint
from ean_core.deploy import fuse
from ean_core.engine.cli import add_config_options, config_of
from ean_core.files import read_json_lines
from segmentation.voc import read_list

METRICS = ("mIoU", "mAcc", "aAcc")


def predict(model: nn.Module, image: np.ndarray) -> torch.Tensor:
    """Logits (K, H, W) of an RGB image (H, W, 3)."""
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    inputs = ((torch.tensor(image.astype(np.float32)) - mean) / std).permute(2, 0, 1)[None]
    metas = [{"ori_shape": image.shape[:2], "img_shape": image.shape[:2]}]
    with torch.no_grad():
        return model.encode_decode(inputs, metas)[0]


@pytest.fixture(scope="module")
def model(finished) -> nn.Module:
    """The trained model, built from the config that the run left."""
    init_default_scope("mmseg")
    (path,) = finished.glob("*.py")
    model = MODELS.build(Config.fromfile(path).model)
    model.load_state_dict(read_checkpoint(finished / "best.pth")["state_dict"], strict=True)
    return model.eval()


@pytest.fixture(scope="module")
def pairs(small_voc) -> list[tuple[np.ndarray, np.ndarray]]:
    """The validation images (H, W, 3) and their labels (H, W)."""
    return [
        (
            np.asarray(Image.open(small_voc / "JPEGImages" / f"{image_id}.jpg").convert("RGB")),
            np.asarray(Image.open(small_voc / "SegmentationClass" / f"{image_id}.png")),
        )
        for image_id in read_list(small_voc, "val")
    ]


@pytest.fixture(scope="module")
def varied(model, pairs, tmp_path_factory) -> Path:
    """A checkpoint that predicts many classes, however little the run has learnt: each has the mean logit 0."""
    logits = torch.cat([predict(model, image).flatten(1) for image, _ in pairs], 1)
    model.decode_head.conv_seg.bias.data -= logits.mean(1)
    path = tmp_path_factory.mktemp("varied") / "varied.pth"
    torch.save({"state_dict": model.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def tested(varied, evaluate, tmp_path_factory) -> dict:
    """Its test.json."""
    return json.loads(evaluate(tmp_path_factory.mktemp("tested"), varied).read_text())


def test_files_of_a_run(finished):
    names = {path.name for path in finished.iterdir() if path.is_file()}
    assert names == {
        "best.pth", "last.pth", "history.jsonl", "metrics.json", "curves.png", "preview.png", "environment.json",
        "ean_se_voc.py",
    }  # fmt: skip
    (log,) = finished.glob("*/*.log")
    assert "Epoch(val) [3]" in log.read_text()
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["packages"]["torch"] == version("torch")
    assert {"python", "platform", "device", "threads"} <= environment.keys()


def test_metrics_are_those_of_the_history(finished):
    val = [line for line in read_json_lines(finished / "history.jsonl") if line["mode"] == "val"]
    summary = json.loads((finished / "metrics.json").read_text())
    assert [line["epoch"] for line in val] == [1, 2, 3]
    assert summary["last"] == val[-1]
    assert summary["best"] == max(val, key=lambda line: line["mIoU"])


def test_evaluation_repeats_the_validation(finished, evaluate, tmp_path):
    path = evaluate(tmp_path, finished / "best.pth", "--show-dir", str(tmp_path / "pictures"))
    tested, best = json.loads(path.read_text()), json.loads((finished / "metrics.json").read_text())["best"]
    assert {name: tested[name] for name in METRICS} == pytest.approx({name: best[name] for name in METRICS}, rel=1e-9)
    assert tested["checkpoint"] == str(finished / "best.pth")
    assert not list(tmp_path.glob("*.py"))  # the config as run is the training's: a test in its folder replaces nothing
    assert len(list((tmp_path / "pictures").iterdir())) == 3


@pytest.mark.parametrize("tta", [False, True], ids=["plain", "mirrored"])
def test_metrics_by_hand(varied, pairs, model, evaluate, tested, tmp_path, tta, recwarn):
    """--tta is the mean of the softmax over an image and, mirrored back, its mirror image."""
    if tta:
        tested = json.loads(evaluate(tmp_path, varied, "--tta").read_text())
        assert not [warning for warning in recwarn if "shape" in str(warning.message)]
    hits, labelled, predicted = np.zeros((3, 21), int)
    for image, truth in pairs:
        chances = predict(model, image).softmax(0)
        if tta:
            chances = (chances + predict(model, image[:, ::-1]).softmax(0).flip(-1)) / 2
        known = truth != 255
        labels, truth = chances.argmax(0).numpy()[known], truth[known]
        hits += np.bincount(truth[truth == labels], minlength=21)
        labelled += np.bincount(truth, minlength=21)
        predicted += np.bincount(labels, minlength=21)
    assert (predicted > 0).sum() > 3
    with np.errstate(invalid="ignore"):
        iou, acc = 100 * hits / (labelled + predicted - hits), 100 * hits / labelled
    by_hand = {"mIoU": np.nanmean(iou), "mAcc": np.nanmean(acc), "aAcc": 100 * hits.sum() / labelled.sum()}
    # a pixel at which two classes are equal up to rounding may fall either way
    assert {name: tested[name] for name in METRICS} == pytest.approx(by_hand, abs=0.1)
    rows = tested["per class"].values()
    assert [row["pixels"] for row in rows] == labelled.tolist()
    assert [row["IoU"] for row in rows] == [None if np.isnan(value) else pytest.approx(value, abs=1) for value in iou]


def test_fused_metrics(varied, evaluate, tested, tmp_path):
    fused = json.loads(evaluate(tmp_path, varied, "--fuse").read_text())
    assert {name: fused[name] for name in METRICS} == pytest.approx({n: tested[n] for n in METRICS}, abs=0.1)


def assert_fuses(model: nn.Module, run) -> None:
    """The fused copy computes the same to rounding, has no batch norm, and is a copy."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # fresh statistics are 0 and 1: folding would change nothing
            nn.init.uniform_(module.weight, 0.5, 1.5)
            for values in (module.bias, module.running_mean):
                nn.init.normal_(values, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    fused = fuse(model)
    assert model.training
    assert not fused.training
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in fused.modules())
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with torch.no_grad():
        expected, got = run(model.eval()), run(fused)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_fuse_with_a_head():
    torch.manual_seed(0)
    init_default_scope("mmseg")
    shape = {"in_channels": 2048, "in_index": 0, "channels": 16, "num_classes": 5}
    loss = {"type": "CrossEntropyLoss", "avg_non_ignore": True}
    head = MODELS.build({"type": "FCNHead", **shape, "norm_cfg": {"type": "BN"}, "loss_decode": loss})
    backbone = EANResNet(50, attention={"type": "SE", "reduction": 16}, scheme="100-1011-010011-011")
    inputs = torch.randn(2, 3, 48, 48)
    assert_fuses(nn.Sequential(backbone, head), lambda m: m(inputs))


@pytest.mark.parametrize("attention", [None, {"type": "SGE", "groups": 64}, {"type": "DIA", "reduction": 20}])
def test_fuse_a_backbone(attention):
    torch.manual_seed(0)
    inputs = torch.randn(1, 3, 64, 64)
    assert_fuses(EANResNet(18, attention=attention), lambda m: m(inputs)[0])


def test_a_new_run_sets_the_earlier_one_aside(tmp_path, train):
    names = ("last.pth", "best.pth", "history.jsonl", "metrics.json", "curves.png")
    for name in names:
        (tmp_path / name).write_text("earlier")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "previous").mkdir()
    (tmp_path / "previous" / "last.pth").write_text("of the run before")
    train(tmp_path, "train_cfg.max_epochs=1")
    assert {path.name: path.read_text() for path in (tmp_path / "previous").iterdir()} == dict.fromkeys(
        names, "earlier"
    )
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert read_checkpoint(tmp_path / "last.pth")["meta"]["epoch"] == 1


def test_amp_on_a_cpu(tmp_path, train, finished, monkeypatch):
    """The forward pass runs in bfloat16, weights and losses do not."""
    seen = set()
    forward = nn.Conv2d.forward

    def spy(self, inputs):
        out = forward(self, inputs)
        if self.training:
            seen.add(out.dtype)
        return out

    monkeypatch.setattr(nn.Conv2d, "forward", spy)
    train(tmp_path, "train_cfg.max_epochs=1", "--amp")
    assert seen == {torch.bfloat16}
    first, plain = (read_json_lines(folder / "history.jsonl")[0]["loss"] for folder in (tmp_path, finished))
    assert math.isfinite(first)
    assert first == pytest.approx(plain, rel=0.05)  # the first losses: rounding is all that differs
    state = read_checkpoint(tmp_path / "last.pth")["state_dict"]
    assert {value.dtype for value in state.values()} == {torch.float32, torch.int64}


def test_no_more_loader_workers_than_cores(config, small_voc, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    arguments = [config, "--data-root", str(small_voc), "--cfg-options", "val_dataloader.num_workers=1"]
    cfg = config_of(parser.parse_args(arguments))
    assert [cfg[f"{part}_dataloader"].num_workers for part in ("train", "val", "test")] == [3, 1, 3]
