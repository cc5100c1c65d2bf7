"""The counter on our backbones and on others': padding, losses, gradients, and a loss that is not finite."""

from typing import Any

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from crowd_counting.counter import CrowdCounter
from ean_core.deploy import fuse
from ean_testing.references import randomize
from segmentation.stack import import_mmseg

HEAD = {"type": "crowd_counting.head.CSRNetHead", "channels": (16, 8)}
LOSS = {"type": "crowd_counting.losses.DensityLoss"}
PREPROCESSOR = {"type": "crowd_counting.preprocess.CrowdPreprocessor", "mean": [120, 110, 100], "std": [60, 58, 56]}
BACKBONE = {
    "type": "ean_core.EANResNet", "depth": 18, "num_stages": 3, "out_indices": (2,), "strides": (1, 2, 1, 1),
    "attention": {"type": "SE"}, "scheme": "10-01-11-00",
}  # fmt: skip


def counter(**options: Any) -> CrowdCounter:
    parts = {"backbone": BACKBONE, "head": HEAD, "loss": LOSS, "data_preprocessor": PREPROCESSOR}
    model = CrowdCounter(**{**parts, **options})
    randomize(model, 0)
    return model


def images(height: int, width: int, count: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("size", [(64, 80), (61, 67), (8, 8), (5, 3), (1, 1)])
@torch.inference_mode()
def test_any_size_of_image(size: tuple[int, int]) -> None:
    """Cells are those of the image alone, and the values those of the image padded by hand with the mean colour."""
    model = counter().eval()
    batch = {"inputs": images(*size), "points": [torch.zeros(0, 2)], "img_path": ["a.jpg"]}
    found = model.val_step(batch)
    rows, columns = -(-size[0] // 8), -(-size[1] // 8)
    assert found.shape == (1, 1, rows, columns)
    assert (found >= 0).all()
    normal = (batch["inputs"] - torch.tensor([120.0, 110, 100]).view(3, 1, 1)) / torch.tensor([60.0, 58, 56]).view(
        3, 1, 1
    )
    padded = torch.zeros(1, 3, rows * 8, columns * 8)
    padded[..., : size[0], : size[1]] = normal
    expected = model.head(model.backbone(padded)[0]) / 100
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(model.predict(batch["inputs"]), expected)
    torch.testing.assert_close(model(padded), expected)


@torch.inference_mode()
def test_padding_beyond_the_last_cell_is_cut_off() -> None:
    model = counter(data_preprocessor={**PREPROCESSOR, "multiple": 32}).eval()
    batch = {"inputs": images(40, 50)}
    assert model.val_step(batch).shape == (1, 1, 5, 7)
    assert model.predict(batch["inputs"]).shape == (1, 1, 5, 7)


def test_a_step_trains_every_parameter() -> None:
    """The loss is that of the documented equation; the errors of the counts are in people."""
    model = counter(loss={**LOSS, "count_weight": 0.5}).train()
    density = torch.rand(2, 1, 6, 8)
    data = model.data_preprocessor({"inputs": images(48, 64, 2), "density": density}, True)
    losses = model(**data, mode="loss")
    output = model.output(data["inputs"])
    assert losses["loss_density"].item() == pytest.approx((output - 100 * density).square().mean().item(), rel=1e-4)
    errors = (output.sum((1, 2, 3)) / 100 - density.sum((1, 2, 3))).abs().mean().item()
    assert losses["count_error"].item() == pytest.approx(errors, rel=1e-4)
    assert losses["loss_count"].item() == pytest.approx(errors / 2, rel=1e-4)
    assert not losses["count_error"].requires_grad
    total, _ = model.parse_losses(losses)
    assert total.item() == pytest.approx((losses["loss_density"] + losses["loss_count"]).item())
    total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("loss", ["bayesian_loss.BayesianLoss", "dm_count.DMCountLoss"])
def test_losses_of_points_get_the_points(loss: str) -> None:
    """Padded images, one without people: the loss of the cut output, its gradient everywhere, errors in people."""
    model = counter(loss={"type": f"crowd_counting.{loss}"}).train()
    points = [torch.tensor([[3.0, 4.0], [60.5, 44.0], [60.5, 44.0]]), torch.zeros(0, 2)]
    data = model.data_preprocessor({"inputs": images(45, 61, 2), "points": points}, True)
    losses = model(**data, mode="loss")
    output = model.output(data["inputs"])[..., :6, :8]
    expected = model.loss(output, points, 8)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-5)
    errors = (output.sum((1, 2, 3)) / 100 - torch.tensor([3, 0])).abs().mean()
    torch.testing.assert_close(losses["count_error"], errors.detach(), rtol=1e-4, atol=1e-5)
    model.parse_losses(losses)[0].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    with pytest.raises(ValueError, match="needs the points of the images"):
        model(data["inputs"], torch.zeros(2, 1, 6, 8), mode="loss")


def test_frozen_batch_norms() -> None:
    """With ``norm_eval`` one image alone, or an image among others, gives the same loss, and no statistics move."""
    model = counter(backbone={**BACKBONE, "norm_eval": True}).train()
    before = {name: value.clone() for name, value in model.named_buffers()}
    density = torch.rand(2, 1, 6, 8)
    pictures = model.data_preprocessor({"inputs": images(48, 64, 2)})["inputs"]
    both = model(pictures, density, mode="loss")["loss_density"]
    alone = [model(pictures[i : i + 1], density[i : i + 1], mode="loss")["loss_density"] for i in range(2)]
    torch.testing.assert_close(both, torch.stack(alone).mean())
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_one_line(value: float) -> None:
    model = counter().train()
    nn.init.constant_(model.head.output.weight, value)
    with pytest.raises(ValueError, match=r"^the loss is (nan|inf): .*Lower optim_wrapper.optimizer.lr") as caught:
        model(torch.rand(1, 3, 16, 16), torch.zeros(1, 1, 2, 2), mode="loss")
    assert "\n" not in str(caught.value)


@torch.inference_mode()
def test_fused_is_the_same() -> None:
    model = counter(head={**HEAD, "norm_cfg": {"type": "BN"}}).eval()
    fused = fuse(model)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    torch.testing.assert_close(fused.predict(images(40, 48)), model.predict(images(40, 48)), rtol=1e-4, atol=1e-5)


def test_a_feature_map_may_be_chosen_and_enlarged() -> None:
    backbone = {**BACKBONE, "out_indices": (1, 2)}
    model = counter(backbone=backbone, in_index=0, head={**HEAD, "upsample": 2}, stride=4).eval()
    assert model.head.layers[0].in_channels == 128
    assert model.predict(images(41, 50)).shape == (1, 1, 11, 13)


def test_mmsegmentations_resnet() -> None:
    """Without a change to either: its own strides give 1/8, its channels are named."""
    import_mmseg()
    from mmseg.models import ResNetV1c

    options = {"depth": 18, "num_stages": 3, "out_indices": (2,), "strides": (1, 2, 1), "dilations": (1, 1, 1)}
    MODELS.register_module(name="ForeignResNet", module=ResNetV1c, force=True)
    backbone = {"type": "ForeignResNet", **options, "norm_cfg": {"type": "BN"}, "norm_eval": True}
    model = counter(backbone=backbone, head={**HEAD, "in_channels": 256}).train()
    assert not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    data = model.data_preprocessor({"inputs": images(41, 50, 2), "density": torch.rand(2, 1, 6, 7)}, True)
    model(**data, mode="loss")["loss_density"].backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.eval().predict(images(41, 50)).shape == (1, 1, 6, 7)


def test_a_plain_module_needs_its_channels() -> None:
    """Any registered backbone will do, whatever it returns: here one map, without channels that it tells."""

    @MODELS.register_module(name="ThreeStrides", force=True)
    class ThreeStrides(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(*(nn.Conv2d(3 if i == 0 else 4, 4, 3, 2, 1) for i in range(3)))

    with pytest.raises(ValueError, match=r"head\.in_channels is needed: ThreeStrides does not tell"):
        counter(backbone={"type": "ThreeStrides"})
    model = counter(backbone={"type": "ThreeStrides"}, head={**HEAD, "in_channels": 4}).eval()
    assert model.predict(images(41, 50)).shape == (1, 1, 6, 7)


def test_mistakes() -> None:
    model = counter()
    with pytest.raises(ValueError, match="mode must be"):
        model(torch.rand(1, 3, 8, 8), mode="train")
    with pytest.raises(ValueError, match="needs the density"):
        model(torch.rand(1, 3, 8, 8), mode="loss")
    with pytest.raises(ValueError, match="tile and overlap must be multiples of 8"):
        counter(tiling={"tile": 100, "overlap": 20})
    with pytest.raises(ValueError, match="multiple must be a whole number from 1 on, got 0"):
        counter(data_preprocessor={**PREPROCESSOR, "multiple": 0})
