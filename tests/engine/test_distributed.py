"""Training in two processes without a GPU."""

import json
from pathlib import Path

import pytest
import torch
from torch.multiprocessing.spawn import start_processes

from ean_core.files import read_json_lines
from ean_testing.fresh import run_two_ranks
from ean_testing.processes import half_the_batch, shared_attention

ROOT = Path(__file__).resolve().parents[2]


def test_two_processes(tmp_path, config, tiny, evaluate):
    """Their validation, gathered from both, is that of one process on the weights they leave.

    Of the three images one process gets two, the other one; the second stage has no attention.
    """
    options = ["train_cfg.max_epochs=2", "--scheme", "11-00-11-01"]
    command = [config, *tiny, *options, "--launcher", "pytorch", "--work-dir", str(tmp_path)]
    ranks = run_two_ranks(ROOT / "tools" / "train.py", *command)
    assert [rank.status for rank in ranks] == [0, 0], ranks[0].err
    assert [rank.out.count("config ") for rank in ranks] == [1, 0]  # one process speaks
    lines = read_json_lines(tmp_path / "history.jsonl")
    assert [line["iter"] for line in lines if line["mode"] == "train"] == [1, 2, 3, 4]  # 8 images / (2 x 2)

    tested = json.loads(evaluate(tmp_path, tmp_path / "last.pth", *options).read_text())
    for name in ("mIoU", "mAcc", "aAcc"):
        assert lines[-1][name] == pytest.approx(tested[name], rel=1e-6)
    assert 0 < tested["mIoU"] < 100


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """The gradients of both processes, each of which had one half of a batch."""
    folder = tmp_path_factory.mktemp("halves")
    start_processes(half_the_batch, (str(folder),), nprocs=2, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pth") for rank in (0, 1)]


@pytest.mark.parametrize("kind", ["SE", "DIA"])
def test_gradients_of_two_processes_are_those_of_one(halves, kind):
    """Of a module that several blocks share, too; the batch statistics, which each has of its own half, are frozen."""
    net, images, labels = shared_attention(kind)
    net(images, labels, mode="loss")["loss"].backward()
    whole = {name: parameter.grad for name, parameter in net.named_parameters()}
    largest = max(float(gradient.abs().max()) for gradient in whole.values())
    assert largest > 0.01
    assert any("attention" in name and gradient.any() for name, gradient in whole.items())
    for half in halves:
        assert half[kind].keys() == whole.keys()
        for name, gradient in whole.items():
            assert float((half[kind][name] - gradient).abs().max()) <= 1e-6 * largest, name
