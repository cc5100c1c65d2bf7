"""`tools/demo.py`: how it starts, and what is a mistake."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from ean_core.demo.server import load_networks
from ean_core.errors import UserError
from ean_testing.checkpoints import classification_config, save
from ean_testing.fresh import ROOT, run_program

TOOL = ROOT / "tools" / "demo.py"


def mistake(tool, capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        tool("demo")(list(arguments))
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_mistakes_are_one_line(tool, capsys, tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    assert "there is no folder" in mistake(tool, capsys, "--work-dir", str(tmp_path / "a"))
    assert "--port" in mistake(tool, capsys, "--port", "70000")
    assert "--host is empty" in mistake(tool, capsys, "--host", "")
    assert "--password is empty" in mistake(tool, capsys, "--password", "")
    assert "does not exist" in mistake(tool, capsys, str(tmp_path / "a.pth"))
    assert "cannot be listened at" in mistake(tool, capsys, "--host", "192.0.2.1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"--port {port} cannot be listened at (Address already in use)" in mistake(tool, capsys, "--port", port)


def test_without_its_packages(tool, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert "pip install 'ean[demo]'" in mistake(tool, capsys)


def test_nothing_else_imports_its_packages(fresh) -> None:
    ran = fresh.apply(run_program, ("import ean_core, ean_core.inference, ean_core.search",))
    assert ran.status == 0
    assert {"fastapi", "uvicorn", "jinja2.environment", "ean_core.demo"} & ran.modules == set()


def test_networks_have_short_names(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a/best.pth", "b/best.pth", "c/b/best.pth")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    save(paths[0], classification_config(), ("x", "y", "z", "u", "v", "w", "t"))
    for path in paths[1:]:
        path.write_bytes(paths[0].read_bytes())
    two = [str(path) for path in paths[:2]]
    assert list(load_networks([*two, two[0]], None, ())) == ["a/best", "b/best"]
    assert [name.split("/")[-3:] for name in load_networks([str(p) for p in paths], None, ())] == [
        [tmp_path.name, "a", "best"], [tmp_path.name, "b", "best"], ["c", "b", "best"],
    ]  # fmt: skip
    other = os.path.join(os.path.dirname(two[0]), ".", "best.pth")
    assert list(load_networks([two[0], other], None, ())) == ["a/best"]  # the same file, written in another way
    with pytest.raises(UserError):
        load_networks([str(TOOL)], None, ())


def heed_ctrl_c() -> None:
    """Tests that run in the background ignore it, and what they start does, too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(("host", "note"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_it_serves_until_it_is_stopped(host: str, note: bool) -> None:
    pytest.importorskip("fastapi")
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TOOL), "--port", "0", "--host", host]
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
    ) as run:
        said = ""
        for line in run.stdout:  # type: ignore[union-attr]
            said += line
            if line.startswith("page"):
                break
        assert ("everybody who reaches this address" in said) == note
        found = re.search(r"http://[\d.]+:(\d+)", said)
        assert found is not None
        with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/", timeout=60) as answer:
            assert b"<h1>Predict</h1>" in answer.read()
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=60)
    assert run.returncode == 130
    assert errors.startswith("interrupted: start again with 'python ")
