"""What pip, the wheel and the Makefile are told agrees with what is there."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from fnmatch import fnmatch
from glob import glob
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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
    project = pyproject["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]
    assert pyproject["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "ean_core.__version__"}
    assert version("ean") == ean_core.__version__


def test_the_citation_has_what_its_format_asks_for() -> None:
    """And no version, which is stated elsewhere."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert "version" not in citation
    assert citation["license"] == "Apache-2.0"
    assert citation["preferred-citation"]["authors"][0]["family-names"] == "Huang"


def test_the_wheel_holds_every_package(pyproject: dict[str, Any]) -> None:
    setuptools = pyproject["tool"]["setuptools"]
    assert setuptools["package-dir"] == {"ean_tools": "tools"}
    listed = {name: Path(name.replace(".", "/")) for name in setuptools["packages"]} | {"ean_tools": Path("tools")}
    assert {path.parts[0] for path in listed.values()} == PACKAGES | {"tools"}
    modules = [file for package in (*PACKAGES, "tools") for file in (ROOT / package).rglob("*.py")]
    folders = {file.parent.relative_to(ROOT) for file in modules if ".mim" not in file.parts}
    assert set(listed.values()) == folders, "name each folder in pyproject.toml"
    assert [path for path in folders if not (ROOT / path / "__init__.py").is_file()] == []


def test_the_wheel_holds_every_config(pyproject: dict[str, Any]) -> None:
    """By a link, in the place where MMEngine looks for them."""
    home = ROOT / "ean_core"
    assert (home / ".mim" / "configs").resolve() == ROOT / "configs"
    patterns = pyproject["tool"]["setuptools"]["package-data"]["ean_core"]
    found = {Path(file).resolve() for pattern in patterns for file in glob(str(home / pattern), recursive=True)}
    files = {file for file in (ROOT / "configs").rglob("*") if file.is_file() and file.suffix != ".pyc"}
    assert found == files | {home / ".mim" / "model-index.yml"}


def test_the_wheel_holds_every_data_file(pyproject: dict[str, Any]) -> None:
    patterns = pyproject["tool"]["setuptools"]["package-data"]["*"]
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*") if file.is_file()]
    data = [file for file in files if file.suffix not in (".py", ".pyc") and ".mim" not in file.parts]
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


def pinned(constraints: Iterable[str]) -> dict[str, str]:
    """Version by name."""
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in constraints)}


def stated(pyproject: dict[str, Any]) -> list[Requirement]:
    """What the package and its extras ask for, by name and bounds; an extra may name others by ``ean[...]``."""
    project = pyproject["project"]
    extras = [text for extra in project["optional-dependencies"].values() for text in extra]
    return [r for r in map(Requirement, [*project["dependencies"], *extras]) if r.name != project["name"]]


def test_constraints_are_within_the_bounds(pyproject: dict[str, Any], constraints: list[str]) -> None:
    pins = pinned(constraints)
    assert [str(r) for r in stated(pyproject) if not r.specifier.contains(pins[canonicalize_name(r.name)])] == []


def test_every_dependency_has_a_least_version(pyproject: dict[str, Any]) -> None:
    """But linters and types, which judge by the lock alone; CI tests with the least versions."""
    bounds = {r.name: r.specifier for r in stated(pyproject)}
    assert {name for name, bound in bounds.items() if not bound} == {"ruff", "mypy", "scipy-stubs"}
    assert {s.operator for bound in bounds.values() for s in bound} == {">="}
    least = [f"{name}=={next(iter(bound)).version}" for name, bound in bounds.items() if bound]
    shown = subprocess.run([sys.executable, ROOT / ".ci" / "oldest"], capture_output=True, text=True, check=True)
    assert sorted(shown.stdout.split()) == sorted(least)


# What pip installs without a pin: torch's own choice of CUDA libraries, other for each of its builds; pip's tools.
UNPINNED = re.compile(r"nvidia-.*|cuda-.*|triton|setuptools")


def needed(requirements: Iterable[Requirement]) -> set[str]:
    """The names of requirements and of all that they require, as installed here."""
    found: set[tuple[str, frozenset[str]]] = set()
    todo = list(requirements)
    while todo:
        requirement = todo.pop()
        key = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if key not in found:
            found.add(key)
            inner = map(Requirement, requires(requirement.name) or [])
            environments = [{"extra": extra} for extra in requirement.extras or {""}]
            todo += [r for r in inner if r.marker is None or any(map(r.marker.evaluate, environments))]
    return {name for name, _ in found}


def lock_problems(names: set[str], pins: Iterable[str]) -> dict[str, set[str]]:
    """Names without a pin, and pins that nothing needs."""
    missing = {name for name in names - set(pins) if not UNPINNED.fullmatch(name)}
    return {"missing": missing, "stale": set(pins) - names}


@pytest.mark.skipif("CONSTRAINTS" in os.environ or sys.version_info < (3, 11), reason="not installed by the lock")
@pytest.mark.skipif(sys.platform != "linux", reason="the lock is Linux's")
def test_the_lock_is_whole_and_holds_no_more(pyproject: dict[str, Any], constraints: list[str]) -> None:
    names = needed(stated(pyproject))
    assert lock_problems(names, pinned(constraints)) == {"missing": set(), "stale": set()}
    less = pinned(line for line in constraints if not line.startswith(("pydantic_core==", "Mako==")))
    assert lock_problems(names, {**less, "left-over": "1"}) == {
        "missing": {"pydantic-core", "mako"}, "stale": {"left-over"},
    }  # fmt: skip


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
