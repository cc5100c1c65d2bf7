"""Training in two processes that Slurm has started."""

import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from classification.toy_shapes import make_toy
from ean_core.engine import load_config
from ean_core.engine.slurm import enter_slurm
from ean_core.engine.testing import evaluate
from ean_core.errors import UserError
from ean_core.files import read_json_lines
from ean_core.stopping import handling_signals, launched_rank
from ean_testing.slurm import NODES, make_scontrol, run_two_tasks

ROOT = Path(__file__).resolve().parents[2]
VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The second of three tasks, the first on its machine; sets the variables anew."""
    make_scontrol(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    numbers = {"PROCID": "1", "LOCALID": "0", "NTASKS": "3", "NODELIST": NODES, "JOB_ID": "123456"}
    for name, value in numbers.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    return monkeypatch


def free_job() -> int:
    """The number of a job whose port is free."""
    for job in range(os.getpid() % 10000, 20000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", 15000 + job % 10000)):
                return job
    raise AssertionError("no port is free")


def test_two_tasks(tmp_path):
    """Their validation, gathered from both, is that of one process on the weights they leave."""
    make_scontrol(tmp_path)
    data, work_dir = make_toy(tmp_path / "data", "cifar100", train=4, test=3), tmp_path / "run"
    config = str(ROOT / "configs" / "cls" / "resnet164_share_se_cifar100.py")
    small = {"model.backbone.depth": 11, "train_dataloader.batch_size": 6, "train_cfg.max_epochs": 1, "image_size": 16}
    words = ["--data-root", str(data), "--work-dir", str(work_dir), "--launcher", "slurm", "--cfg-options"]
    words += [f"{name}={value}" for name, value in small.items()]
    ranks = run_two_tasks(
        tmp_path, free_job(), ROOT / "tools" / "train.py", config, *words, "custom_hooks.2.interval=1"
    )
    assert [rank.status for rank in ranks] == [0, 0], ranks[0].err
    assert [rank.out.count("config ") for rank in ranks] == [1, 0]  # one process speaks
    lines = read_json_lines(work_dir / "history.jsonl")
    assert [line["iter"] for line in lines if line["mode"] == "train"] == [1, 2]  # 24 images / (2 x 6)
    cfg = load_config(config, data_root=str(data), work_dir=str(tmp_path / "test"), options=small)
    tested = evaluate(cfg, work_dir / "last.pth")
    for name in ("top1", "top5"):
        assert lines[-1][name] == pytest.approx(tested[name], rel=1e-6)


def test_variables(slurm):
    enter_slurm()
    assert [os.environ[name] for name in VARIABLES] == ["1", "0", "3", "127.0.0.1", "18456"]
    slurm.setenv("MASTER_PORT", "1234")
    slurm.setenv("MASTER_ADDR", "gpu03")
    enter_slurm()
    assert [os.environ[name] for name in VARIABLES] == ["1", "0", "3", "gpu03", "1234"]


@pytest.mark.parametrize(("visible", "expected"), [(4, "3"), (1, "0")])
def test_the_gpu_of_a_process(visible, expected, slurm):
    """The fourth task of a machine, which sees all GPUs of it, or only its own."""
    slurm.setattr("torch.cuda.is_available", lambda: True)
    slurm.setattr("torch.cuda.device_count", lambda: visible)
    slurm.setenv("SLURM_LOCALID", "3")
    enter_slurm()
    assert os.environ["LOCAL_RANK"] == expected


def test_mistakes(slurm):
    slurm.setenv("SLURM_NODELIST", "elsewhere")
    with pytest.raises(UserError, match="'scontrol show hostnames elsewhere' does not work here: set MASTER_ADDR"):
        enter_slurm()
    slurm.setenv("PATH", "")
    with pytest.raises(UserError, match="does not work here: set MASTER_ADDR"):
        enter_slurm()
    slurm.delenv("SLURM_PROCID")
    with pytest.raises(UserError, match="--launcher slurm needs srun: srun --ntasks=2 ean train"):
        enter_slurm()


@pytest.mark.parametrize(
    ("words", "rank"),
    [(["--launcher", "slurm"], 1), (["--launcher=slurm"], 1), (["--launcher", "pytorch"], 0), (["slurm"], 0), ([], 0)],
)
def test_the_rank_before_the_processes_are_connected(words, rank, slurm):
    """Of several processes only the first waits for a step when a signal comes."""
    slurm.setattr(sys, "argv", ["tools/train.py", *words])
    assert launched_rank() == rank
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with handling_signals():
            assert (signal.getsignal(signal.SIGTERM) == signal.SIG_DFL) is (rank == 1)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_torchrun_knows_better(slurm):
    """Where torchrun runs under srun, as its documentation shows it."""
    slurm.setattr(sys, "argv", ["tools/train.py", "--launcher", "slurm"])
    slurm.setenv("LOCAL_RANK", "0")
    slurm.setenv("RANK", "5")
    assert launched_rank() == 5
