"""The tools on a trained network of cells, as on any other."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from ean_core import fuse, load
from ean_core.analysis.benchmark import benchmark
from ean_core.cells import Genotype
from ean_testing.checkpoints import ROOT, save

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
CONFIG = ROOT / "configs" / "cls" / "att_darts_cifar10.py"
NAMES = tuple("abcdefghij")
# One of each operation and of each attention of Att-DARTS.
GENOTYPE = """normal: 0 sep_conv_3x3 A2, 1 skip_connect CBAM | 0 dil_conv_5x5 GE, 2 avg_pool_3x3 SE
              reduce: 0 max_pool_3x3 BAM, 1 sep_conv_5x5 | 2 dil_conv_3x3 ECA, 1 skip_connect SE"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import classification.application  # noqa: F401

    cfg = Config.fromfile(CONFIG)
    backbone = {"genotype": str(Genotype.parse(GENOTYPE)), "channels": 8, "layers": 4, "image_size": 16}
    cfg.merge_from_dict({"image_size": 16, "model": {"backbone": backbone}})
    return save(tmp_path_factory.mktemp("cells") / "best.pth", cfg, NAMES)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8))
    return path


def test_fused_it_computes_the_same(checkpoint: Path) -> None:
    model = load(checkpoint=checkpoint).model
    x = torch.randn(3, 3, 16, 16)
    fused = fuse(model)
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in fused.modules()) < sum(
        isinstance(m, torch.nn.BatchNorm2d) for m in model.modules()
    )
    with torch.no_grad():
        expected = model(x)
        torch.testing.assert_close(fused(x), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_prediction_and_grad_cam(tool: Callable, checkpoint: Path, photo: Path, tmp_path: Path) -> None:
    pytest.importorskip("pytorch_grad_cam")
    tool("predict")([str(checkpoint), str(photo), "--out", str(tmp_path / "out")])
    assert any((tmp_path / "out").glob("*.png"))
    tool("gradcam")([str(photo), "--model", str(checkpoint), "--stage", "2", "--out", str(tmp_path / "cam.png")])
    assert (tmp_path / "cam.png").is_file()


def test_onnx(tool: Callable, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    tool("export")([str(checkpoint), "--format", "onnx", "--out", str(tmp_path / "cell.onnx")])
    difference = capsys.readouterr().out.splitlines()[1]
    assert float(difference.split()[1]) < 1e-4


def test_eq_9_is_of_the_same_operations(tmp_path: Path) -> None:
    small = f"_base_ = '{CONFIG}'\nmodel = dict(backbone=dict(channels=4, layers=3, image_size=8{{}}))\n"
    paths = [tmp_path / "org_cell.py", tmp_path / "att_cell.py"]
    for path, more in zip(paths, (", attention=False", ""), strict=True):
        path.write_text(small.format(more))
    rows, _ = benchmark([str(path) for path in paths], tmp_path / "cost", batch=1, size=8, repeats=1)
    assert [row["name"] for row in rows] == ["org", "att"]
    assert rows[0]["increment"] == 0
    assert rows[1]["parameters"] > rows[0]["parameters"]
    assert json.loads((tmp_path / "cost.json").read_text())["settings"]["reference"] == "org_cell"
