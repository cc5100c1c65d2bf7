"""The doctor finds what is wrong with an installation, and is not brought down by it."""

import json
import os
import subprocess
import sys
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from ean_core import doctor
from ean_testing.runs import load

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "doctor.py"
HEALTHY = {"torch": "2.9.1+cu128", "onedl-mmengine": "0.10.12", "onedl-mmcv": "2.3.6", "onedl-mmsegmentation": "1.4.2"}
CPU_BUILD = {"cuda": None, "hip": None, "usable": False, "threads": 2}
CUDA_BUILD = {**CPU_BUILD, "cuda": "12.8"}
WORKING = {**CUDA_BUILD, "usable": True, "gpus": ["H200"], "capability": "sm_90", "built": ["sm_80", "sm_90"]}


def run(*arguments: object, path: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", **variables} | ({"PYTHONPATH": str(path)} if path else {})
    command = [sys.executable, TOOL, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


def packages(**changes: str | None) -> doctor.Report:
    """The findings for a healthy set of packages with changes; ``_`` stands for ``-``."""
    installed = {**HEALTHY, **{name.replace("_", "-"): v for name, v in changes.items()}}
    report = doctor.Report()
    doctor.check_packages({name: v for name, v in installed.items() if v is not None}, report)
    return report


def test_this_installation_is_healthy(tmp_path):
    """Even where nothing can be written to the home."""
    from importlib.metadata import version

    (tmp_path / "file").touch()
    home = str(tmp_path / "file")
    done = run("--data-root", tmp_path, "--work-dir", tmp_path / "new", HOME=home, MPLCONFIGDIR=home)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    for words in (f"torch {version('torch')}", "self-test", "-> ", f"none in '{tmp_path}'", "is writable"):
        assert words in done.stdout
    assert done.stdout.splitlines()[-1].split(maxsplit=1) == ["result", "no problem found"]
    assert not (tmp_path / "new").exists()


def test_a_broken_torch_is_reported(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.12: cannot open\\nshared object file')")
    done = run("--no-self-test", path=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "'import torch' fails: ImportError: libcudart.so.12: cannot open shared object file" in done.stdout
    assert "'import ean_core' fails" in done.stdout
    assert "unknown, torch cannot be imported" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_package_that_ends_the_interpreter_is_reported(tmp_path, monkeypatch):
    (tmp_path / "deadly.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    (tmp_path / "harmless.py").write_text("print('a line of its own')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert doctor.probe(["harmless", "deadly", "nowhere"]) == {
        "harmless": {},
        "deadly": {"error": "killed by signal 9"},
        "nowhere": {"error": "ModuleNotFoundError: No module named 'nowhere'"},
    }


def test_a_failed_self_test_is_reported():
    for result, message in (
        ({"error": "RuntimeError: boom"}, "the self-test fails: RuntimeError: boom"),
        ({"losses": [0.7, 0.8, 0.9], "fused": 0.0, "seconds": 1.0, "device": "cpu"}, "loss does not fall"),
        ({"losses": [0.7, 0.6, float("nan")], "fused": 0.0, "seconds": 1.0, "device": "cpu"}, "loss does not fall"),
        ({"losses": [0.7, 0.6, 0.5], "fused": 0.5, "seconds": 1.0, "device": "cpu"}, "folded network differs"),
    ):
        report = doctor.Report()
        doctor.check_self_test(result, report)
        assert len(report.problems) == 1
        assert message in report.problems[0]


def test_no_conflict():
    assert packages().problems == []
    assert packages(opencv_python="4.12.0.88", opencv_python_headless="4.12.0.88").problems == []
    upstream = {"onedl_mmengine": None, "onedl_mmcv": None, "onedl_mmsegmentation": None}
    assert packages(**upstream, mmengine="0.10.8", mmcv_lite="2.2.0").problems == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mmengine": "0.10.8"}, "onedl-mmengine and mmengine are installed together"),
        ({"mmcv": "2.2.0"}, "onedl-mmcv and mmcv are installed together"),
        ({"mmcv_lite": "2.2.0"}, "onedl-mmcv and mmcv-lite are installed together"),
        ({"mmsegmentation": "1.2.2"}, "onedl-mmsegmentation and mmsegmentation are installed together"),
        ({"torch": "2.4.1"}, "torch 2.4.1 is too old: at least 2.7 is needed"),
        ({"onedl_mmengine": "0.10.9"}, "onedl-mmengine 0.10.9 is too old: at least 0.10.12"),
        ({"onedl_mmengine": None, "mmengine": "0.10.7"}, "mmengine 0.10.7 cannot load checkpoints under torch 2.9.1"),
        (
            {"opencv_python": "4.12.0.88", "opencv_python_headless": "4.9.0.80"},
            "pip install opencv-python==4.12.0.88 opencv-python-headless==4.12.0.88",
        ),
    ],
)
def test_conflicts(changes, message):
    (problem,) = packages(**changes).problems
    assert message in problem


def test_missing_extras_are_no_problem():
    report = packages(optuna="4.5.0", onnx="1.19.0")
    assert report.problems == []
    assert "[vis]        (not installed: grad-cam)" in report.text()
    assert "[deploy]    onnx 1.19.0 (not installed: onnxscript, onnxruntime)" in report.text()


@pytest.mark.parametrize(
    ("torch", "gpu", "message"),
    [
        (CPU_BUILD, None, None),
        (CUDA_BUILD, None, None),
        (WORKING, "H200", None),
        (CUDA_BUILD, "H200, driver 470.1", "cannot use the GPU (H200, driver 470.1): the driver is too old"),
        (CPU_BUILD, "H200", "torch is built for CPU only"),
        ({**WORKING, "capability": "sm_120"}, "RTX", "torch is built for sm_80, sm_90 and not for this GPU's sm_120"),
        ({**WORKING, "capability": "sm_89"}, "L40", None),  # runs what is built for sm_80
    ],
)
def test_torch_and_the_gpu(torch, gpu, message):
    report = doctor.Report()
    doctor.check_device(torch, gpu, report)
    assert len(report.lines) == 1
    assert [message in problem for problem in report.problems] == ([True] if message else [])


def test_a_work_dir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    report = doctor.Report()
    doctor.check_work_dir(tmp_path / "file" / "runs", report)
    assert "choose --work-dir" in report.problems[0]


def found_data(root):
    """As the doctor finds it, here in this process."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out, warnings.catch_warnings():
        patch.setattr(sys, "argv", ["", str(root)])
        exec(doctor.FOUND_DATA, {})
    return json.loads(out.getvalue())["found"]


def test_data_that_is_there(tmp_path):
    lists = tmp_path / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb\n")
    (lists / "val.txt").write_text("c\n\n")
    assert found_data(tmp_path) == ["VOC2012 (train 2, val 1; SBD not merged)"]
    (lists / "train_aug.txt").write_text("a\nb\nd")
    for name in ("train", "test", "meta"):
        (tmp_path / "cifar-100-python").mkdir(exist_ok=True)
        (tmp_path / "cifar-100-python" / name).touch()
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "toy" / "b").mkdir(parents=True)
    (tmp_path / "toy" / "a").mkdir()
    for part, number in (("train", 3), ("val", 2)):
        for k in range(number):
            (tmp_path / "imagenet" / part / str(k)).mkdir(parents=True)
    for folder, part, number in (
        ("part_A_final", "train", 2),
        ("part_A_final", "test", 1),
        ("part_B_final", "test", 1),
    ):
        images = tmp_path / "ShanghaiTech" / folder / f"{part}_data" / "images"
        images.mkdir(parents=True)
        for k in range(number):
            (images / f"IMG_{k}.jpg").touch()
    assert found_data(tmp_path) == [
        "CIFAR-100",
        "CIFAR-10 (incomplete)",
        "ImageNet (train 3 classes, val 2 classes)",
        "VOC2012 (train 2, train_aug 3, val 1; SBD merged)",
        "ShanghaiTech part_A_final (train 2, test 1)",
        "ShanghaiTech part_B_final (train 0, test 1)",
        "toy (a, b)",
    ]
    assert found_data(tmp_path / "nowhere") == []
    report = doctor.Report()
    doctor.check_data({"found": []}, tmp_path, report)
    doctor.check_data({"error": "no torch"}, tmp_path, report)
    assert report.lines[0].startswith(f"data        none in '{tmp_path}'")
    assert report.lines[1] == "data        unknown, the applications cannot be imported: no torch"


def test_it_needs_nothing_but_the_standard_library():
    """Loading the tool imports no torch, so a broken one cannot stop it."""
    code = f"import runpy, sys; runpy.run_path({str(TOOL)!r})['load_doctor'](); print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout == "False\n"
    module = load("tools/doctor.py")
    assert module.load_doctor().FAMILIES == doctor.FAMILIES
