"""What a user sees first: help that fits a screen, no warnings, a header, and at the end what to try next."""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ean_core.checkpoint import read_checkpoint
from ean_core.engine.cli import add_config_options, repeated
from ean_testing.documents import documents, tool_commands
from ean_testing.fresh import run_program

ROOT = Path(__file__).resolve().parents[2]
TOOLS = sorted(path.name for path in (ROOT / "tools").glob("[!_]*.py"))
COMMANDS = tool_commands(documents())


def test_documents_call_tools_that_exist():
    assert {command.split()[0] for command in COMMANDS} <= {f"tools/{name}" for name in TOOLS}


def run(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A tool in a clean process in which no warning is silenced from outside."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"} | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("name", TOOLS)
def test_help_fits_a_screen_and_has_the_documents_options(name, fresh):
    status, out, err, _ = fresh.apply(run_program, (ROOT / "tools" / name, "--help"))
    assert (status, err) == (0, "")
    calls = [command for command in COMMANDS if command.split()[0] == f"tools/{name}"]
    named = {option for command in calls for option in re.findall(r"(?<= )--[a-z-]+", command)}
    assert {option for option in named if option not in out} == set()
    lines = out.splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 120
    assert f"example: python tools/{name}" in out


def test_help_is_that_of_the_command(fresh, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    tool = ROOT / "tools" / "train.py"
    done = run(tool, "--help")
    assert fresh.apply(run_program, (tool, "--help"))[:3] == (done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def screen(config, tiny, small_voc, light, tmp_path_factory) -> tuple[Path, str]:
    """The work directory of a tiny training in a process of its own, and what it showed."""
    work_dir = tmp_path_factory.mktemp("first") / "run"
    done = run(ROOT / "tools" / "train.py", config, *tiny, "train_cfg.max_epochs=1", "--work-dir", work_dir)
    assert (done.returncode, done.stderr) == (0, "")
    return work_dir, done.stdout


def fields(text: str) -> dict[str, str]:
    """``name   text`` lines."""
    return dict(line.split(maxsplit=1) for line in text.replace("work dir", "work_dir").splitlines() if " " in line)


def test_a_run_starts_with_a_header(screen, config, small_voc):
    work_dir, out = screen
    top = out.split("epoch")[0]
    assert len(top.splitlines()) <= 12
    shown = fields(top)
    assert shown["config"] == "seg/ean_se_voc"
    assert shown["task"] == "segmentation"
    assert shown["attention"] == "SE, one module per stage"
    assert shown["scheme"] == "11-11-11-11 (8 of 8 blocks connected)"
    assert shown["data"] == "8 training images, 3 validation"
    assert shown["work_dir"] == str(work_dir)
    assert "device" in shown
    state = read_checkpoint(work_dir / "last.pth")["state_dict"]
    parameters = sum(v.numel() for key, v in state.items() if not key.endswith(("_mean", "_var", "_tracked")))
    assert shown["model"] == f"EncoderDecoder / EANResNet-18 / FCNHead, {parameters / 1e6:.3f} M parameters"


def test_the_wall_is_in_the_log_file_alone(screen):
    work_dir, out = screen
    (log,) = work_dir.glob("*/*.log")
    for words in ("System environment", "PyTorch:", "optim_wrapper = dict"):
        assert words in log.read_text()
        assert words not in out
    assert "8 training images, 3 validation" in log.read_text()


def test_a_run_ends_with_results_and_the_next_command_which_works(screen, tmp_path):
    work_dir, out = screen
    best = json.loads((work_dir / "metrics.json").read_text())["best"]
    table = out[out.index("validation") :]
    assert re.search(rf"best .* {best['mIoU']:.2f} ", table)
    command = shlex.split(fields(out.splitlines()[-1])["next"])
    assert command[:2] == ["python", str(ROOT / "tools" / "test.py")]
    assert command[3] == str(work_dir / "best.pth")
    tested = run(*command[1:])
    assert (tested.returncode, tested.stderr) == (0, "")
    assert f"{best['mIoU']:.2f}" in tested.stdout
    shown = fields(tested.stdout.split("\ntest ")[0])
    assert shown["checkpoint"] == str(work_dir / "best.pth")
    assert shown["data"] == "3 images"
    following = shlex.split(fields(tested.stdout.splitlines()[-1])["next"])
    assert following == [
        "python",
        str(ROOT / "tools" / "predict.py"),
        command[3],
        "IMAGE_OR_FOLDER",
        "--out",
        "predictions",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--toy", "--scheme", "full"],
        ["--data-root", "my data", "--classes", "names.txt", "--work-dir", "here"],
        ["--cfg-options", "head=fcn", "crop_size=(256,256)", "a.b=[1,2.5,x]", "c=True", "d=None", "e=[(1,2),(3,4)]"],
    ],
)
def test_options_are_repeated(arguments):
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    args = parser.parse_args(["x.py", *arguments])
    again = parser.parse_args(["x.py", *shlex.split(shlex.join(repeated(args)))])
    assert vars(again) == vars(args)
