"""The word ``loss``: weights against counting, losses of built heads against torch's, and what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image
from torch.nn import functional as F

from ean_core.errors import UserError
from segmentation.losses import median_frequency
from segmentation.voc import CLASSES, encode_mask, read_list

MASKS = "SegmentationClass/{}.png"
Load = Callable[..., Config]


def losses(cfg: Config, logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The decoder's loss for logits of the labels' size."""
    with DefaultScope.overwrite_default_scope("mmseg"):
        head = MODELS.build({**cfg.model.decode_head, "in_channels": 8, "channels": 8})
    samples = [SegDataSample(gt_sem_seg=PixelData(data=mask[None])) for mask in labels]
    return float(head.loss_by_feat(logits, samples)["loss_ce"])


@pytest.fixture
def numbered(voc: Path, tmp_path: Path) -> Path:
    """The made data with its classes numbered from 0, and their names in a file."""
    root = tmp_path / "voc"
    shutil.copytree(voc, root)
    masks = {path: np.asarray(Image.open(path)) for path in (root / "SegmentationClass").glob("*.png")}
    used = sorted({int(k) for i in read_list(voc, "train") for k in np.unique(masks[root / MASKS.format(i)])} - {255})
    for path, mask in masks.items():
        new = np.zeros_like(mask)
        for number, k in enumerate(used):
            new[mask == k] = number
        new[mask == 255] = 255
        path.write_bytes(encode_mask(new))
    (tmp_path / "names.txt").write_text("\n".join(CLASSES[k] for k in used))
    return root


def batch(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    labels = torch.randint(classes, (2, 16, 16))
    labels[0, 0, :5] = 255
    return 3 * torch.randn(2, classes, 16, 16), labels


def test_weights_balance_the_median(numbered: Path, load: Load) -> None:
    names = numbered.parent / "names.txt"
    arguments = ("--data-root", str(numbered), "--classes", str(names))
    cfg = load("loss=weighted", "head=fcn", "train_list=train", arguments=arguments)
    masks = [np.asarray(Image.open(numbered / MASKS.format(i))) for i in read_list(numbered, "train")]
    classes = len(names.read_text().splitlines())
    shares = []
    for k in range(classes):
        having = [mask for mask in masks if (mask == k).any()]
        shares.append(sum(int((m == k).sum()) for m in having) / sum(int((m != 255).sum()) for m in having))
    expected = [float(np.median(shares)) / share for share in shares]
    weights = cfg.model.decode_head.loss_decode.class_weight
    assert weights == pytest.approx(expected, rel=1e-4)
    assert cfg.model.auxiliary_head.loss_decode.class_weight == weights
    logits, labels = batch(classes)
    reference = F.cross_entropy(logits, labels, torch.tensor(weights), ignore_index=255)
    assert losses(cfg, logits, labels) == pytest.approx(float(reference), rel=1e-5)


def test_hard_pixels_alone(load: Load) -> None:
    cfg = load("loss=ohem", "head=fcn", "crop_size=16")
    logits, labels = batch(21)
    valid = labels != 255
    each = F.cross_entropy(logits, labels, ignore_index=255, reduction="none")
    probability = logits.softmax(1).gather(1, labels.clamp(max=20)[:, None])[:, 0]
    ordered = probability[valid].sort().values
    threshold = max(0.7, float(ordered[16 * 16 // 5 * 2]))
    expected = each[valid & (probability < threshold)].sum() / valid.sum()
    assert losses(cfg, logits, labels) == pytest.approx(float(expected), rel=1e-5)
    assert losses(load("head=fcn"), logits, labels) == pytest.approx(float(each.sum() / valid.sum()), rel=1e-5)


def test_a_class_that_does_not_occur(load: Load) -> None:
    with pytest.raises(UserError, match=r"loss='weighted': \d+ of 21 classes occur in no training mask, first '"):
        load("loss=weighted")
    with pytest.raises(UserError, match="loss must be 'plain'"):
        load("loss=focal")
    with pytest.raises(UserError, match="first 'b'"):
        median_frequency([np.zeros((2, 2), np.uint8)], ["a", "b"])


@pytest.mark.parametrize("damage", ["missing", "cannot be read"])
def test_a_mask_that_weights_need(numbered: Path, load: Load, damage: str) -> None:
    mask = numbered / MASKS.format(read_list(numbered, "train")[1])
    mask.unlink() if damage == "missing" else mask.write_bytes(b"no image")
    arguments = ("--data-root", str(numbered), "--classes", str(numbered.parent / "names.txt"))
    with pytest.raises((FileNotFoundError, UserError), match=f"'{mask}' (does not exist|cannot be read)"):
        load("loss=weighted", "head=fcn", "train_list=train", arguments=arguments)
