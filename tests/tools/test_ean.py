"""The command `ean`: the tools under one name, quick to list, and the configs by theirs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from ean_core.engine.shipped import CONFIGS, config_names
from ean_testing.fresh import run_program

ROOT = Path(__file__).resolve().parents[2]
EAN = ROOT / "tools" / "__main__.py"
TOOLS = sorted(path.stem for path in (ROOT / "tools").glob("*.py") if not path.stem.startswith("_"))


def first_line(name: str) -> str:
    """Of a tool's docstring, as the compiler sees it."""
    code = compile((ROOT / "tools" / f"{name}.py").read_text(), name, "exec", ast.PyCF_ONLY_AST)
    return ast.literal_eval(code.body[0].value).strip().splitlines()[0].rstrip(".")


def test_help_lists_every_tool_and_imports_none():
    """In an interpreter without site-packages: what is not there cannot be imported."""
    done = subprocess.run([sys.executable, "-I", "-S", EAN, "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    listed = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith("  "))
    assert listed == {name: first_line(name) for name in TOOLS}
    assert max(map(len, done.stdout.splitlines())) <= 120


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("trian", "did you mean train?"),
        ("prepare-data", "did you mean prepare_data?"),
        ("xyz", "'ean --help' lists them"),
        ("", "'ean --help' lists them"),
        ("../x", "'ean --help' lists them"),
    ],
)
def test_an_unknown_command_is_one_line(wrong, hint, fresh):
    ran = fresh.apply(run_program, (EAN, wrong))
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == f"error: there is no command '{wrong}': {hint}\n"


@pytest.mark.parametrize("name", ["train", "doctor"])
def test_a_tool_is_called_by_the_commands_name(name, fresh):
    ran = fresh.apply(run_program, (EAN, name, "--help"))
    assert ran.status == 0
    assert ran.out.startswith(f"usage: ean {name} [-h]")
    assert f"example: ean {name} " in ran.out


def test_the_configs_are_listed(fresh):
    ran = fresh.apply(run_program, (EAN, "configs"))
    *names, last = ran.out.splitlines()
    files = {str(path.relative_to(ROOT / "configs")) for path in (ROOT / "configs").rglob("*.py")}
    assert {f"{name}.py" for name in names} == {path for path in files if not path.startswith("_base_")}
    assert names == config_names()
    assert last == f"files: {CONFIGS}"


def test_an_unknown_config_is_one_line(fresh, tmp_path):
    calls = {
        "ean_se_vco": "'ean_se_vco' does not exist: did you mean 'ean_se_voc'",
        "att_darts_cifar10": "there are 2 ",
    }
    for name, said in calls.items():
        ran = fresh.apply(run_program, (EAN, "train", name), {"folder": tmp_path})
        assert (ran.status, ran.out) == (2, "")
        assert said in ran.err
        assert len(ran.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
