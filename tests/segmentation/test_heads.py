"""Every head of the configs trains and predicts on the EAN backbone."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

from ean_core.engine import load_config
from ean_core.engine.models import build_model

ROOT = Path(__file__).resolve().parents[2]
Load = Callable[..., Config]
HEADS = {
    "psp": ("PSPHead", 50, "010-0010-110011-001"),
    "fcn": ("FCNHead", 18, "01-10-11-01"),
    "deeplabv3": ("ASPPHead", 18, "11-01-10-11"),
    "deeplabv3plus": ("DepthwiseSeparableASPPHead", 18, "10-11-01-10"),
    "upernet": ("UPerHead", 18, "01-10-11-01"),
}


@pytest.fixture(autouse=True)
def scope() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield


def load_head(load: Load, head: str, *options: str) -> Config:
    _, depth, scheme = HEADS[head]
    choices = (f"head={head}", f"model.backbone.depth={depth}", "train_dataloader.batch_size=4")
    return load(*choices, "crop_size=32", *options, arguments=("--scheme", scheme))


def build(cfg: Config) -> BaseModel:
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


@pytest.mark.parametrize("head", HEADS)
def test_training_moves_every_parameter(load: Load, head: str) -> None:
    """Weight decay is off: what changes, changes because a gradient has reached it."""
    cfg = load_head(load, head, "optim_wrapper.optimizer.weight_decay=0")
    model = build(cfg).train()
    name, _, scheme = HEADS[head]
    assert type(model.decode_head).__name__ == name
    assert str(model.backbone.scheme) == scheme
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    assert {name.split(".")[0] for name in before} == {"backbone", "decode_head", "auxiliary_head"}
    assert sum(".attention." in name for name in before) == 4 * 4  # four stages, SE's two layers
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    for batch in Runner.build_dataloader(cfg.train_dataloader, seed=0):  # eight images: two steps
        losses = model.train_step(batch, optimizer)
        assert {"loss", "decode.loss_ce", "aux.loss_ce"} <= set(losses)
        assert torch.isfinite(losses["loss"])
        torch.testing.assert_close(losses["loss"], losses["decode.loss_ce"] + losses["aux.loss_ce"])
    unchanged = [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
    assert unchanged == []
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.parametrize("head", HEADS)
def test_prediction_has_the_size_of_the_image(load: Load, head: str) -> None:
    cfg = load_head(load, head)
    model = build(cfg).eval()
    modes = {"whole": (), "slide": ("inference=slide",), "one window": ("inference=slide", "crop_size=65")}
    configs = {mode: load_head(load, head, *options).model.test_cfg for mode, options in modes.items()}
    sizes = []
    for batch in Runner.build_dataloader(cfg.test_dataloader, seed=0):
        predicted = {}
        for mode, model.test_cfg in configs.items():
            (sample,) = model.test_step(batch)
            predicted[mode] = sample.pred_sem_seg.data
            assert sample.seg_logits.data.shape == (21, *sample.ori_shape)
            assert predicted[mode].shape == sample.gt_sem_seg.data.shape == (1, *sample.ori_shape)
            assert 0 <= predicted[mode].min() <= predicted[mode].max() < 21
        assert torch.equal(predicted["whole"], predicted["one window"])
        sizes.append(sample.ori_shape)
    assert sizes == [(45, 61), (63, 33)]


@pytest.mark.parametrize("head", HEADS)
def test_output_strides(load: Load, head: str) -> None:
    backbone = MODELS.build(load_head(load, head).model.backbone).eval()
    with torch.no_grad():
        sides = [64 // features.shape[-1] for features in backbone(torch.zeros(1, 3, 64, 64))]
    assert sides == ([4, 8, 16, 32] if head == "upernet" else [4, 8, 8, 8])


def test_windows_overlap_by_a_third_and_are_averaged(load: Load) -> None:
    """Slide inference over a 45x61 image in windows of 32, stride 21: the logits' mean where windows overlap."""
    cfg = load_head(load, "fcn", "inference=slide")
    assert cfg.model.test_cfg == dict(mode="slide", crop_size=(32, 32), stride=(21, 21))
    model = build(cfg).eval()
    batch = next(iter(Runner.build_dataloader(cfg.test_dataloader, seed=0)))
    (sample,) = model.test_step(batch)
    inputs = model.data_preprocessor(batch, False)["inputs"]  # (1, 3, 45, 61)
    total, count = torch.zeros(21, 45, 61), torch.zeros(45, 61)
    with torch.no_grad():
        for y in (0, 13):  # the last window of a row or column ends at the border
            for x in (0, 21, 29):
                logits = model.encode_decode(inputs[..., y : y + 32, x : x + 32], [{"img_shape": (32, 32)}])
                total[:, y : y + 32, x : x + 32] += logits[0]
                count[y : y + 32, x : x + 32] += 1
    torch.testing.assert_close(sample.seg_logits.data, total / count)


def test_the_loss_is_a_mean_over_the_known_pixels_of_a_process(load: Load) -> None:
    """Not over images: where processes know of different numbers of pixels, theirs do not average to the whole's."""
    loss = build(load()).decode_head.loss_decode
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 21, 6, 6), torch.randint(0, 21, (2, 6, 6))
    labels[1, 1:] = 255
    first, second = (float(loss(logits[i : i + 1], labels[i : i + 1], ignore_index=255)) for i in (0, 1))
    whole = float(loss(logits, labels, ignore_index=255))
    assert whole == pytest.approx((36 * first + 6 * second) / 42, rel=1e-5)
    assert whole != pytest.approx((first + second) / 2, rel=1e-3)


def test_a_head_of_ones_own(voc: Path, tmp_path: Path) -> None:
    """The config of docs/segmentation_data.md: a head of MMSegmentation's that is not among ours."""
    text = (ROOT / "docs" / "segmentation_data.md").read_text(encoding="utf-8")
    config = next(block for block in re.findall(r"```text\n(.*?)```", text, re.DOTALL) if "DAHead" in block)
    path = tmp_path / "my_config.py"
    path.write_text(config.replace("configs/seg", str(ROOT / "configs" / "seg")))
    cfg = load_config(path, data_root=voc, scheme="full", options={"model.backbone.depth": 18})
    model = build_model(cfg).eval()
    assert type(model.decode_head).__name__ == "DAHead"
    with torch.no_grad():
        assert model(torch.rand(1, 3, 64, 64), mode="tensor")[0].shape == (1, 21, 8, 8)
