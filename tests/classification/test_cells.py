"""Retraining a network of cells: genotypes in configs, the second classifier, cutout, drop-path."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from classification.augment import cut_out
from classification.classifier import ImageClassifier, ImagePreprocessor
from ean_core import load_config
from ean_core.cells import Genotype
from ean_core.engine import DropPathHook
from ean_core.engine.models import build_model
from ean_core.inference.admission import check_types

CONFIG = "configs/cls/att_darts_cifar10.py"
NETWORK: dict[str, Any] = {
    "type": "ean_core.CellNetwork",
    "genotype": "att-darts",
    "channels": 4,
    "layers": 3,
    "num_classes": None,
    "image_size": 8,
    "out_indices": (2,),
}


def test_cutout_equals_a_loop() -> None:
    images = torch.rand(5, 2, 6, 7) + 1
    centres = torch.tensor([[0, 0], [3, 3], [5, 6], [2, 6], [5, 0]])
    expected = images.clone()
    for image, (row, column) in zip(expected, centres.tolist(), strict=True):
        for y in range(row - 2, row + 2):
            for x in range(column - 2, column + 2):
                if 0 <= y < 6 and 0 <= x < 7:
                    image[:, y, x] = 0
    assert torch.equal(cut_out(images, centres, 4), expected)


def test_cutout_is_for_training() -> None:
    images = torch.full((3, 12, 12, 3), 200, dtype=torch.uint8)
    prepare = ImagePreprocessor([100.0] * 3, std=[50.0] * 3, cutout=4)
    assert torch.equal(prepare({"inputs": images})["inputs"], torch.full((3, 3, 12, 12), 2.0))
    cut = (prepare({"inputs": images}, training=True)["inputs"] == 0).sum((1, 2, 3))
    assert ((cut >= 3 * 4) & (cut <= 3 * 16)).all()
    with pytest.raises(ValueError, match="an even number of pixels, got 3"):
        ImagePreprocessor([0.0], std=[1.0], cutout=3)


def test_the_second_classifier_adds_to_the_loss() -> None:
    torch.manual_seed(0)
    model = ImageClassifier(NETWORK, num_classes=3, auxiliary=0.4)
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    loss = model(images, labels, mode="loss")["loss"]
    (features,), side = model.backbone.maps(images)
    expected = F.cross_entropy(model.classify(features), labels)
    expected = expected + 0.4 * F.cross_entropy(model.auxiliary(side), labels)
    torch.testing.assert_close(loss, expected)
    assert all(p.grad is None for p in model.parameters())
    loss.backward()
    assert all(p.grad is not None for p in model.auxiliary.parameters())


def test_a_backbone_without_a_second_classifier() -> None:
    with pytest.raises(ValueError, match=r"auxiliary=0\.4: EANCifarResNet has no second classifier"):
        ImageClassifier({"type": "ean_core.EANCifarResNet", "depth": 11}, num_classes=2, auxiliary=0.4)


def test_drop_path_grows() -> None:
    backbone = SimpleNamespace(drop_path=0.0)
    runner = SimpleNamespace(model=SimpleNamespace(backbone=backbone), epoch=0, max_epochs=600)
    seen = []
    for runner.epoch in (0, 300, 599):
        DropPathHook(0.2).before_train_epoch(runner)
        seen.append(backbone.drop_path)
    assert seen == pytest.approx([0, 0.1, 0.2 * 599 / 600])
    with pytest.raises(ValueError, match=r"rate must lie in \[0, 1\), got 1"):
        DropPathHook(1)
    runner.model.backbone = SimpleNamespace()
    with pytest.raises(ValueError, match="SimpleNamespace has no paths to drop"):
        DropPathHook(0.2).before_train_epoch(runner)


def test_genotypes_in_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path.cwd()
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "cell.txt"
    file.write_text(str(Genotype.load("darts-v2")))
    cfg = load_config(root / CONFIG, toy=True, genotype=file)
    assert cfg.model.backbone.genotype == file.read_text()  # the text: a checkpoint does not depend on the file
    assert build_model(cfg).backbone.genotype == Genotype.load("darts-v2")
    published = load_config(root / CONFIG, toy=True)
    assert Genotype.parse(published.model.backbone.genotype) == Genotype.load("att-darts")
    with pytest.raises(ValueError, match="has no network of cells: --genotype is for configs such as"):
        load_config(root / "configs/cls/resnet164_org_cifar100.py", toy=True, genotype="darts-v2")


def test_cells_have_no_scheme() -> None:
    with pytest.raises(ValueError, match="has a network of cells, which has no connection scheme: take --genotype"):
        load_config(CONFIG, toy=True, scheme="full")


def test_a_foreign_genotype_builds_nothing_unknown() -> None:
    import ean_core.backbones  # noqa: F401  # registers the networks

    good = "normal: 0 skip_connect SE, 1 skip_connect; reduce: 0 skip_connect, 1 skip_connect timm.layers.EcaModule"
    check_types({"type": "ean_core.CellNetwork", "genotype": good}, "x.pth")
    with pytest.raises(ValueError, match=r"builds 'os\.system', which is not a registered model part"):
        check_types({"type": "ean_core.CellNetwork", "genotype": good.replace("SE", "os.system")}, "x.pth")


def test_gather_excite_knows_its_size() -> None:
    genotype = str(Genotype.load("darts-v2").with_attention("GE"))
    model = ImageClassifier({**NETWORK, "genotype": genotype}, num_classes=2)
    model.logits(torch.randn(2, 3, 8, 8))
    with pytest.raises(ValueError, match="GE: built for maps of 8x8, got 16x16"):
        model.logits(torch.randn(2, 3, 16, 16))
