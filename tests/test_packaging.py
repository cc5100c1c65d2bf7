"""What pip, the wheel and the Makefile are told agrees with what is there."""

import re
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setuptools import find_packages

import ean_core

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"ean_core", "classification", "segmentation", "crowd_counting"}
CONSTRAINT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([0-9][0-9A-Za-z.]*)")


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def constraints() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_version_is_stated_once(pyproject: dict[str, Any]) -> None:
    assert pyproject["project"]["version"] == ean_core.__version__


def test_the_wheel_holds_every_package(pyproject: dict[str, Any]) -> None:
    find = pyproject["tool"]["setuptools"]["packages"]["find"]
    assert find["namespaces"] is False
    found = set(find_packages(str(ROOT), include=find["include"]))
    assert {name.split(".")[0] for name in found} == PACKAGES
    modules = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    folders = {file.parent.relative_to(ROOT) for file in modules}
    assert found == {".".join(folder.parts) for folder in folders}, "a folder lacks its __init__.py"


def test_the_wheel_holds_every_data_file(pyproject: dict[str, Any]) -> None:
    patterns = pyproject["tool"]["setuptools"]["package-data"]["*"]
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*") if file.is_file()]
    data = [file for file in files if file.suffix not in (".py", ".pyc")]
    left_out = [file for file in data if not any(fnmatch(file.name, pattern) for pattern in patterns)]
    no_package = [file for file in data if not (file.parent / "__init__.py").is_file()]
    assert left_out == []
    assert no_package == []
    assert {file.parent.name for file in data if file.name == "py.typed"} == PACKAGES  # their type hints are for users


def test_constraints_are_plain_pins(constraints: list[str]) -> None:
    assert [line for line in constraints if not CONSTRAINT.fullmatch(line)] == []
    names = [canonicalize_name(line.split("==")[0]) for line in constraints]
    assert len(set(names)) == len(names)
    assert [name for name in names if name.startswith("nvidia-")] == []


def test_constraints_pin_every_direct_dependency(pyproject: dict[str, Any], constraints: list[str]) -> None:
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in constraints)}
    project = pyproject["project"]
    stated = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    for requirement in map(Requirement, stated):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_extras_that_files_name_exist(pyproject: dict[str, Any]) -> None:
    extras = set(pyproject["project"]["optional-dependencies"])
    files = [ROOT / "Makefile", *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    named = {
        extra
        for file in files
        for group in re.findall(r"(?:\.|\bean)\[([a-z0-9,_-]+)\]", file.read_text(encoding="utf-8"))
        for extra in group.split(",")
    }
    assert "test" in named
    assert named <= extras
