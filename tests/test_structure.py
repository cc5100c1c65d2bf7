"""The layering: imports go one way, files stay short, and constructors with many arguments take them by name."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
APPLICATIONS = ("classification", "segmentation", "crowd_counting")
PACKAGES = ("ean_core", *APPLICATIONS)
OUTSIDE = ("tools", "ean_testing", "configs", "benchmarks")

# ean_core imports nothing but these and the standard library; a room may add to them.
CORE = ("ean_core", "torch", "numpy", "mmengine", "mmcv.cnn")
ADDED = {
    "backbones": ("torchvision", "timm"),
    "analysis": ("scipy", "pytorch_grad_cam", "torchvision", "timm"),
    "figures": ("matplotlib",),
    "images": ("PIL",),
    "inference": ("PIL", "cv2", "rich", "onnx", "onnxruntime"),
    "scale": ("ray", "grpc"),
    "search": ("rich", "pydantic", "optuna", "scipy"),
    "strategies": ("optuna",),
    "terminal": ("rich",),
    "verification": ("rich",),
    "work_dir": ("filelock",),
    "engine": ("rich", "pydantic"),
    "inspect_scheme": ("matplotlib",),
    "demo": ("PIL", "matplotlib", "fastapi", "starlette", "uvicorn", "jinja2", "python_multipart"),
}

# The rooms of ean_core: a room imports those above it only, so there is no cycle. Files of its top level are rooms too.
ROOMS = (
    "errors", "notebook", "files", "stopping", "terminal", "data_check", "images", "work_dir", "published", "scheme",
    "memory", "timing", "scale", "doctor", "archive", "histories", "checkpoint", "metric", "attention", "plug",
    "backbones", "cells", "strategies", "figures", "application", "deploy", "engine", "inference", "search",
    "analysis", "verification", "inspect_scheme", "demo", "__init__",
)  # fmt: skip

# Who may know the classes of our ResNets; everybody else asks the network (ean_core.plug.Pluggable).
RESNET_CLASSES = ("StagedBackbone", "Stage", "Bottleneck", "BasicBlock", "ARCHITECTURES")
KNOW_THE_RESNETS = ("ean_core/backbones/", "ean_core/deploy/fuse")

# Constructors with more arguments than this take all behind the first by name.
BY_POSITION = 4

# Everything else may import what it likes, except these.
FORBIDDEN = {
    "classification/": ("segmentation", "crowd_counting", "mmseg", *OUTSIDE),
    "segmentation/": ("classification", "crowd_counting", *OUTSIDE),
    "crowd_counting/": ("classification", "segmentation", "mmseg", *OUTSIDE),
    "tools/": ("ean_testing", "configs", "benchmarks"),
    "tests/core/": ("mmseg", *APPLICATIONS),
}


def imported_names(path: str, source: str) -> Iterator[tuple[int, str]]:
    """Every (line, absolute dotted name) that `source`, the text of the file `path`, imports anywhere."""
    package = path.split("/")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: max(0, len(package) + 1 - node.level)] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}".lstrip(".")) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            # importlib.import_module("..."), and the same imported by its own name
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def is_under(name: str, prefixes: tuple[str, ...]) -> bool:
    """Whether the dotted `name` is one of `prefixes` or lies inside one."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def room(path: str) -> str:
    """The room of ean_core that a file lies in: its folder there, or its own name."""
    return path.removeprefix("ean_core/").split("/")[0].removesuffix(".py")


def room_of(name: str) -> str:
    """The room that `ean_core.room...` names; a name that the package itself offers is the package's."""
    first = name.split(".")[1]
    return first if first in ROOMS else "__init__"


def is_allowed(path: str, name: str) -> bool:
    """Whether the file `path` may import `name`."""
    if name.rpartition(".")[2] in RESNET_CLASSES and name.startswith("ean_core.") and not path.startswith("tests/"):
        return path.startswith(KNOW_THE_RESNETS)
    if path.startswith("ean_core/"):
        if name.startswith("ean_core."):
            return ROOMS.index(room_of(name)) <= ROOMS.index(room(path))
        return is_under(name, (*CORE, *ADDED.get(room(path), ()))) or name.split(".")[0] in sys.stdlib_module_names
    return not any(is_under(name, names) for folder, names in FORBIDDEN.items() if path.startswith(folder))


def violations(path: str, source: str) -> list[str]:
    """One line for each import in `source` that the layering does not allow in the file `path`."""
    found = imported_names(path, source)
    return [f"{path}:{line} imports {name}" for line, name in found if not is_allowed(path, name)]


def python_files(*folders: str) -> dict[str, str]:
    """Path relative to the root (with forward slashes) -> text, for every Python file in `folders`."""
    files = (file for folder in folders for file in sorted((ROOT / folder).rglob("*.py")))
    return {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in files}


def test_every_file_has_a_room() -> None:
    assert {room(path) for path in python_files("ean_core")} == set(ROOMS)


def test_imports_go_one_way() -> None:
    files = python_files(*PACKAGES, "tools", "tests")
    assert {f"{package}/__init__.py" for package in PACKAGES} <= set(files)
    assert [line for path, source in files.items() for line in violations(path, source)] == []


@pytest.mark.parametrize(("folders", "limit"), [(PACKAGES, 350), (("tools",), 80)], ids=["packages", "tools"])
def test_files_are_short(folders: tuple[str, ...], limit: int) -> None:
    lengths = {path: len(source.splitlines()) for path, source in python_files(*folders).items()}
    assert {path: length for path, length in lengths.items() if length > limit} == {}


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("ean_core/scheme.py", "import mmseg"),
        ("ean_core/scheme.py", "def f():\n    from mmseg.models import FCNHead"),
        ("ean_core/scheme.py", "from importlib import import_module\nimport_module('mmseg.models')"),
        ("ean_core/scheme.py", "import torchvision.models as tv"),
        ("ean_core/scheme.py", "import mmcv"),
        ("ean_core/scheme.py", "from mmcv import imread"),
        ("ean_core/scheme.py", "import scipy.stats"),
        ("ean_core/scheme.py", "from segmentation.voc import VOC"),
        ("ean_core/attention/se.py", "from ... import segmentation"),
        ("ean_core/analysis/complexity.py", "import rich"),
        ("ean_core/analysis/gradcam.py", "import matplotlib"),
        ("ean_core/plug/walk.py", "from ean_core.backbones.norm import build_norm"),
        ("ean_core/engine/runner.py", "from ean_core.search import SupernetHook"),
        ("ean_core/scheme.py", "from ean_core import EANResNet"),
        ("ean_core/search/evaluator.py", "from ean_core.backbones.base import StagedBackbone"),
        ("segmentation/application.py", "def f():\n    from ean_core.backbones.resnet import ARCHITECTURES"),
        ("tools/train.py", "from ean_core.backbones.stage import Bottleneck"),
        ("ean_core/search/loop.py", "import tools.train"),
        ("classification/metric.py", "import mmseg"),
        ("classification/metric.py", "from segmentation import voc"),
        ("segmentation/voc.py", "try:\n    import crowd_counting.density\nexcept ImportError:\n    pass"),
        ("crowd_counting/head.py", "import ean_testing.references"),
        ("tools/train.py", "from ean_testing import references"),
        ("tests/core/test_scheme.py", "import segmentation"),
    ],
)
def test_the_checker_catches(path: str, source: str) -> None:
    assert len(violations(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "ean_core/scheme.py",
            "from __future__ import annotations\nimport json, torch.nn as nn, numpy as np",
        ),
        (
            "ean_core/scheme.py",
            "from mmcv import cnn\nfrom mmcv.cnn import build_norm_layer\nimport mmengine",
        ),
        ("ean_core/attention/se.py", "from . import base\nfrom ..scheme import ConnectionScheme"),
        ("ean_core/attention/__init__.py", "from .se import SE"),
        ("ean_core/analysis/correlation.py", "from scipy import stats\nfrom ean_core.inference import load"),
        ("ean_core/engine/progress.py", "from rich.table import Table"),
        ("ean_core/deploy/fused_stage.py", "from ean_core.backbones.stage import Bottleneck, Stage"),
        ("ean_core/figures/heat_maps.py", "from matplotlib.figure import Figure"),
        ("segmentation/voc.py", "from mmseg.datasets import BaseSegDataset\nfrom ean_core import EANResNet"),
        ("crowd_counting/density.py", "import cv2\nfrom scipy.spatial import KDTree"),
        ("tools/train.py", "import segmentation, classification, crowd_counting"),
    ],
)
def test_the_checker_lets_through(path: str, source: str) -> None:
    assert violations(path, source) == []


def too_many_by_position(path: str, source: str) -> Iterator[str]:
    """The classes in the text of a file whose constructor takes too many arguments by position.

    A dataclass takes its fields, those behind a ``KW_ONLY`` by name. Named tuples are left out: they have an order.
    """
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef):
            continue
        for line in node.body:
            if isinstance(line, ast.FunctionDef) and line.name == "__init__":
                ordered = len(line.args.posonlyargs + line.args.args) - 1  # without self
                if ordered > 1 and ordered + len(line.args.kwonlyargs) > BY_POSITION:
                    yield f"{path}: {node.name}"
        if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
            fields = [ast.unparse(line.annotation) for line in node.body if isinstance(line, ast.AnnAssign)]
            if len(fields) > BY_POSITION and "KW_ONLY" not in fields[:2]:
                yield f"{path}: {node.name}"


def test_many_arguments_go_by_name() -> None:
    files = python_files(*PACKAGES)
    assert [name for path, source in files.items() for name in too_many_by_position(path, source)] == []


@pytest.mark.parametrize(
    ("source", "caught"),
    [
        ("class A:\n    def __init__(self, a, b, c, d): ...", False),
        ("class A:\n    def __init__(self, a, b, c, d, e=1): ...", True),
        ("class A:\n    def __init__(self, a, b, *, c, d, e): ...", True),
        ("class A:\n    def __init__(self, a, *, b, c, d, e): ...", False),
        ("class A:\n    def f(self, a, b, c, d, e): ...", False),
        ("class A:\n    a: int\n    b: int\n    c: int\n    d: int\n    e: int", False),
        ("@dataclass(frozen=True)\nclass A:\n    a: int\n    b: int\n    c: int\n    d: int\n    e: int", True),
        ("@dataclass\nclass A:\n    a: int\n    _: KW_ONLY\n    b: int\n    c: int\n    d: int\n    e: int", False),
        ("@dataclass\nclass A:\n    a: int\n    b: int\n    _: KW_ONLY\n    c: int\n    d: int\n    e: int", True),
        ("@dataclass\nclass A:\n    a: int\n    b: int\n    c: int\n    d: int", False),
    ],
)
def test_the_checker_counts_arguments(source: str, caught: bool) -> None:
    assert list(too_many_by_position("a.py", source)) == ["a.py: A"] * caught
