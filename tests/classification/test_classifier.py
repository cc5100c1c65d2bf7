"""The classifier and the preparation of its batches, against sums written out by hand and torchvision."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from PIL import Image
from torch import nn
from torchvision.transforms import functional as TF

from classification.augment import crop_and_flip, draw_augmentation
from classification.classifier import FlipTTA, ImageClassifier, ImagePreprocessor
from ean_core import EANCifarResNet
from ean_core.backbones.weights import load_backbone

BACKBONE = {"type": "EANCifarResNet", "depth": 11, "attention": {"type": "SE", "reduction": 16}}


@pytest.fixture
def foreign() -> Iterator[str]:
    """A backbone that somebody else registered: it returns two maps, and does not tell its channels."""

    class Foreign(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return x, self.conv(x)

    MODELS.register_module(name="Foreign", module=Foreign)
    yield "Foreign"
    MODELS._module_dict.pop("Foreign")


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_loss_is_the_smoothed_cross_entropy(smoothing: float) -> None:
    """-sum_k q_k log softmax(z)_k with q = (1 - s) onehot + s / K, averaged over the batch."""
    torch.manual_seed(0)
    model = ImageClassifier(BACKBONE, num_classes=7, label_smoothing=smoothing).eval()
    images, labels = torch.rand(4, 3, 16, 16), torch.tensor([0, 6, 2, 2])
    logits = model(images)
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        log_sum = math.log(sum(math.exp(z) for z in row))
        for k, z in enumerate(row):
            total -= ((1 - smoothing) * (k == label) + smoothing / 7) * (z - log_sum)
    losses = model(images, labels, mode="loss")
    assert losses["loss"].item() == pytest.approx(total / 4, rel=1e-5)
    assert losses["top1"].item() == 25 * int((logits.argmax(1) == labels).sum())
    assert torch.equal(model(images, mode="predict"), logits)


def test_pooling_and_head() -> None:
    model = ImageClassifier(BACKBONE, num_classes=3).eval()
    images = torch.rand(2, 3, 16, 16)
    features = model.backbone(images)[-1]
    expected = features.flatten(2).mean(2) @ model.head["fc"].weight.T + model.head["fc"].bias
    assert torch.allclose(model(images), expected, atol=1e-6)
    names = {name.split(".")[0] for name in model.state_dict()}
    assert names == {"backbone", "head"}
    assert {"head.fc.weight", "head.fc.bias"} <= set(model.state_dict())


def test_a_checkpoint_becomes_a_backbone() -> None:
    model = ImageClassifier(BACKBONE, num_classes=3)
    other = EANCifarResNet(depth=11, attention={"type": "SE", "reduction": 16})
    report = load_backbone(other, {"state_dict": model.state_dict()})
    assert not report.missing
    assert not report.unused
    for name, value in other.state_dict().items():
        assert torch.equal(value, model.backbone.state_dict()[name])


def test_any_registered_backbone(foreign: str) -> None:
    model = ImageClassifier({"type": foreign}, num_classes=4, in_channels=5)
    assert model(torch.rand(2, 3, 6, 6)).shape == (2, 4)
    with pytest.raises(ValueError, match="in_channels is needed: Foreign"):
        ImageClassifier({"type": foreign}, num_classes=4)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="at least 2, got 1"):
        ImageClassifier(BACKBONE, num_classes=1)
    with pytest.raises(ValueError, match="label_smoothing"):
        ImageClassifier(BACKBONE, num_classes=2, label_smoothing=1.0)
    model = ImageClassifier(BACKBONE, num_classes=2)
    with pytest.raises(ValueError, match="mode must be"):
        model(torch.rand(1, 3, 8, 8), mode="train")
    with pytest.raises(ValueError, match="needs labels"):
        model(torch.rand(2, 3, 8, 8), mode="loss")


@pytest.mark.parametrize(("padding", "size"), [(4, (32, 32)), (2, (9, 13)), (0, (8, 8))])
def test_a_batch_is_augmented_as_image_by_image(padding: int, size: tuple[int, int]) -> None:
    """Equal to torchvision's padding, crop, flip and normalisation of every image, for the same random draws."""
    height, width = size
    images = torch.randint(0, 256, (16, height, width, 3), dtype=torch.uint8)
    torch.manual_seed(5)
    corners, flips = draw_augmentation(16, padding, 0.5)
    assert flips.any()
    assert not flips.all()
    assert corners.min() >= 0
    assert corners.max() <= 2 * padding
    mean, std = [120.0, 110.0, 90.0], [60.0, 50.0, 40.0]
    expected = []
    for image, (top, left), flip in zip(images, corners.tolist(), flips.tolist(), strict=True):
        picture = TF.crop(TF.pad(Image.fromarray(image.numpy()), padding), top, left, height, width)
        picture = TF.hflip(picture) if flip else picture
        expected.append(TF.normalize(TF.to_tensor(picture), [m / 255 for m in mean], [s / 255 for s in std]))
    prepare = ImagePreprocessor(mean, std=std, padding=padding, flip=0.5)
    torch.manual_seed(5)
    out = prepare({"inputs": images, "labels": torch.arange(16)}, training=True)
    assert torch.allclose(out["inputs"], torch.stack(expected), atol=1e-5)
    assert out["labels"].tolist() == list(range(16))
    plain = prepare({"inputs": images}, training=False)["inputs"]
    assert torch.allclose(plain * prepare.std + prepare.mean, images.permute(0, 3, 1, 2).float(), atol=1e-3)


def test_draws_follow_torchs_generator() -> None:
    torch.manual_seed(1)
    first = [draw_augmentation(8, 4, 0.5) for _ in range(2)]
    torch.manual_seed(1)
    again = [draw_augmentation(8, 4, 0.5) for _ in range(2)]
    for (a, b), (c, d) in zip(first, again, strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, d)
    assert not torch.equal(first[0][0], first[1][0])


def test_crops_cover_the_padding() -> None:
    corners, flips = draw_augmentation(4000, 4, 0.25)
    assert set(corners[:, 0].tolist()) == set(corners[:, 1].tolist()) == set(range(9))
    assert abs(flips.float().mean().item() - 0.25) < 0.05


def test_the_input_is_left_alone() -> None:
    images = torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8)
    before = images.clone()
    crop_and_flip(images, *draw_augmentation(4, 2, 0.5), 2)
    ImagePreprocessor([0.0] * 3, std=[1.0] * 3, padding=2, flip=0.5)({"inputs": images}, training=True)
    assert torch.equal(images, before)


def test_tta_averages_the_image_and_its_mirror_image() -> None:
    config = {"type": "ImageClassifier", "backbone": BACKBONE, "num_classes": 3}
    config["data_preprocessor"] = {"type": "ImagePreprocessor", "mean": [0.0] * 3, "std": [255.0] * 3}
    tta = FlipTTA(config).eval()
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    batch = {"inputs": torch.from_numpy(images), "labels": torch.tensor([0, 1])}
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    expected = (tta.module(x).softmax(1) + tta.module(x.flip(3)).softmax(1)) / 2
    assert torch.allclose(tta.test_step(batch), expected, atol=1e-6)
