"""Training in two processes without a GPU."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ean_core.files import read_json_lines

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_processes(tmp_path, config, tiny, evaluate):
    """Their validation, gathered from both, is that of one process on the weights they leave.

    Of the three images one process gets two, the other one; the second stage has no attention.
    """
    options = ["train_cfg.max_epochs=2", "--scheme", "11-00-11-01"]
    launch = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master-port", str(free_port())]
    command = [sys.executable, *launch, "tools/train.py", config, *tiny, *options, "--launcher", "pytorch"]
    run = subprocess.run(
        [*command, "--work-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("config ") == 1  # one process speaks
    lines = read_json_lines(tmp_path / "history.jsonl")
    assert [line["iter"] for line in lines if line["mode"] == "train"] == [1, 2, 3, 4]  # 8 images / (2 x 2)

    tested = json.loads(evaluate(tmp_path, tmp_path / "last.pth", *options).read_text())
    for name in ("mIoU", "mAcc", "aAcc"):
        assert lines[-1][name] == pytest.approx(tested[name], rel=1e-6)
    assert 0 < tested["mIoU"] < 100
