"""Exported files, run by themselves, give what prediction gives: for each task and format."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

import ean_core.inference.export as exporting
from ean_core.inference import Predictor, load
from ean_core.inference.export import SUFFIXES, AnySizePool, Report, export, read_description
from ean_testing.checkpoints import ROOT, classification_config, crowd_config, save, segmentation_config
from segmentation.voc import CLASSES, PALETTE

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
NAMES = ("cat", "dog", "fox", "owl", "ape", "bee", "ant")
Exported = Callable[[str, str], tuple[Path, Report]]
SIZES = {"classification": (16, 16), "segmentation": (40, 56), "crowd_counting": (45, 61)}  # the last is padded to 8


def photo(size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    grid = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(grid).resize(size[::-1], Image.Resampling.BICUBIC))


def as_input(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Predictor]:
    folder = tmp_path_factory.mktemp("checkpoints")
    save(folder / "classification.pth", classification_config(), NAMES)
    save(folder / "segmentation.pth", segmentation_config("psp"), CLASSES, PALETTE)
    save(folder / "crowd_counting.pth", crowd_config(), ())
    return {task: load(checkpoint=folder / f"{task}.pth", fuse=task == "crowd_counting") for task in SIZES}


@pytest.fixture(scope="module")
def exported(models: dict[str, Predictor], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """``exported(task, kind)``: a file, which tests leave as it is, and the report of its export; made once."""

    @cache
    def make(task: str, kind: str) -> tuple[Path, Report]:
        if kind == "onnx":
            pytest.importorskip("onnxscript")
            pytest.importorskip("onnxruntime")
        path = tmp_path_factory.mktemp(task) / f"model{SUFFIXES[kind]}"
        return path, export(models[task], kind, path, SIZES[task], dynamic=is_dynamic(task, kind), repeats=1)

    return make


def is_dynamic(task: str, kind: str) -> bool:
    return task != "classification" or kind == "onnx"


def runner(path: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """The file as another program would run it."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda x: session.run(None, {"image": x})[0]
    module = torch.jit.load(path) if path.suffix == ".ts" else torch.export.load(path).module()
    return lambda x: module(torch.from_numpy(x)).detach().numpy()


def assert_agrees(task: str, output: NDArray[np.float32], result: Any) -> None:
    if task == "classification":
        scores = np.exp(output[0] - output[0].max())
        np.testing.assert_allclose(scores / scores.sum(), result.scores, atol=1e-4)
    elif task == "segmentation":
        best = np.sort(output[0], 0)
        sure = best[-1] - best[-2] > 1e-3 * np.abs(output).max()
        assert sure.mean() > 0.8
        assert np.array_equal(output[0].argmax(0)[sure], result.labels[sure])
    else:
        assert output.shape[2:] == result.density.shape
        scale = np.abs(result.density).max()
        np.testing.assert_allclose(output[0, 0], result.density, atol=1e-4 * scale)


@pytest.mark.parametrize("kind", SUFFIXES)
@pytest.mark.parametrize("task", SIZES)
def test_a_file_predicts_alike(models: dict[str, Predictor], exported: Exported, task: str, kind: str) -> None:
    """Dynamic ones also at another size than they were exported with."""
    model, size, dynamic = models[task], SIZES[task], is_dynamic(task, kind)
    path, report = exported(task, kind)
    assert report.difference < 1e-4
    run = runner(path)
    sizes = [size, (72, 49)] if dynamic and task != "classification" else [size]
    for shape in sizes:
        assert_agrees(task, run(as_input(photo(shape))), model(photo(shape)))
    about = read_description(path)
    assert about["task"] == task
    assert (about["input"]["size"], about["input"]["dynamic"]) == (list(size), dynamic)
    assert about["classes"] == {"classification": list(NAMES), "segmentation": list(CLASSES)}.get(task)
    assert about["normalisation"]["mean"] == pytest.approx(list(model.cfg.model.data_preprocessor["mean"]))
    assert tuple(about["output"]["shape"]) == report.output


def test_a_file_that_computes_something_else_is_not_written(
    models: dict[str, Predictor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "_write", lambda graph, *_: (b"", lambda image: graph(image) * 1.001))
    with pytest.raises(ValueError, match=r"differs by 1.0e-03 of its largest output, more than 1e-04: not written"):
        export(models["classification"], "onnx", tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_exporter_that_fails_says_so_in_one_line(
    models: dict[str, Predictor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no\nsuch operator")

    monkeypatch.setattr(exporting, "_write", fail)
    with pytest.raises(ValueError, match=r"cannot be exported as torchscript \(RuntimeError: no such operator\)"):
        export(models["classification"], "torchscript", tmp_path / "x.ts")


def test_a_missing_extra_is_named(
    models: dict[str, Predictor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ValueError, match=r"^--format onnx needs onnxscript: pip install 'ean\[deploy\]'$"):
        export(models["classification"], "onnx", tmp_path / "x.onnx")


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (6, 6), (7, 5)])
@pytest.mark.parametrize("shape", [(6, 6), (13, 7), (5, 11)])
def test_pooling_as_matrices(size: tuple[int, int], shape: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(AnySizePool(size)(x), nn.AdaptiveAvgPool2d(size)(x), rtol=0, atol=1e-12)


def test_a_counter_runs_without_torch(
    models: dict[str, Predictor],
    exported: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """docs/run_onnx_crowd.py, in a process in which torch cannot be imported; and what the document shows beside it."""
    model = models["crowd_counting"]
    shutil.copy(exported("crowd_counting", "onnx")[0], tmp_path / "crowd.onnx")
    Image.fromarray(photo((50, 75))).save(tmp_path / "photo.png")
    script = ROOT / "docs" / "run_onnx_crowd.py"
    assert len(script.read_text().splitlines()) <= 35
    without = (
        f"import sys; sys.modules['torch'] = None; sys.argv = ['', *sys.argv[1:]]; exec(open({str(script)!r}).read())"
    )
    names = [str(tmp_path / name) for name in ("crowd.onnx", "photo.png", "heat.png")]
    done = subprocess.run([sys.executable, "-c", without, *names], capture_output=True, text=True, check=True)
    assert done.stdout == f"{model(tmp_path / 'photo.png').count:.1f} people\n"
    assert Image.open(tmp_path / "heat.png").size == (75, 50)
    (block,) = re.findall(r"```py\n(.*?)```", (ROOT / "docs" / "deployment.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "crowd.onnx").rename("ean.onnx")
    exec(compile(block, "deployment.md", "exec"), {})
    assert capsys.readouterr().out == f"None {list(SIZES['crowd_counting'])}\n"


def test_descriptions_are_json(models: dict[str, Predictor]) -> None:
    about = exporting.describe(models["segmentation"], (8, 8), False, (1, 21, 8, 8))
    assert json.loads(json.dumps(about)) == about
    assert about["scheme"] == "10-01-11-10"
