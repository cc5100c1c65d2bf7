"""Any training becomes a supernet: the sequence of schemes, its resume, and two processes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from torch import nn
from torch.multiprocessing.spawn import start_processes
from torch.utils.data import TensorDataset

from ean_core import ConnectionScheme
from ean_core.engine import EANRunner, build_runner
from ean_core.plug import find_pluggable
from ean_core.search.supernet import SupernetHook, sample_scheme
from ean_testing.processes import Net, train_a_supernet

BLOCKS = (1, 1, 1)


class Nothing(BaseMetric):
    """A metric that measures nothing."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        return {}


def test_sequence() -> None:
    blocks = (3, 4, 6, 3)
    schemes = [sample_scheme(blocks, 7, i) for i in range(2000)]
    assert schemes[0] == ConnectionScheme.full(blocks)
    assert schemes == [sample_scheme(blocks, 7, i) for i in range(2000)]
    bits = torch.tensor([s.bits for s in schemes[1:]]).double()
    error = (0.25 / 1999) ** 0.5  # standard error of a mean
    assert ((bits.mean(0) - 0.5).abs() < 5 * error).all()
    joint = (bits.T @ bits) / 1999  # independent bits: 1/4 off the diagonal
    assert ((joint - torch.eye(16) / 4 - 0.25).abs() < 6 * error).all()
    assert ((bits[1:] * bits[:-1]).mean(0) - 0.25).abs().max() < 6 * error  # and iterations
    assert schemes[1:9] != [sample_scheme(blocks, 8, i) for i in range(1, 9)]
    assert [s.density for s in (sample_scheme(blocks, 0, i, p=0.0, full_iters=3) for i in range(5))] == [1, 1, 1, 0, 0]


def test_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    sample_scheme(BLOCKS, 0, 5)
    assert torch.equal(torch.get_rng_state(), before)


def train(work_dir: Path, net: Net, epochs: int, resume: str | None = None, **options: Any) -> list[str]:
    data = TensorDataset(torch.randn(6, 3, 8, 8), torch.arange(6) % 2)
    loader = {
        "batch_size": 2,
        "num_workers": 0,
        "collate_fn": {"type": "default_collate"},
        "dataset": data,
        "sampler": {"type": "DefaultSampler"},
    }
    EANRunner(
        net,
        str(work_dir),
        train_dataloader=loader,
        val_dataloader=loader,
        train_cfg={"by_epoch": True, "max_epochs": epochs},
        val_cfg={},
        val_evaluator=[Nothing()],
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.01}},
        custom_hooks=[{"type": "ean_core.search.SupernetHook", **options}],
        randomness={"seed": 5},
        load_from=resume,
        resume=resume is not None,
        experiment_name=f"{work_dir}-{epochs}-{options}",
        log_level="ERROR",
    ).train()
    return net.seen


def test_a_training_becomes_a_supernet_and_resumes_its_sequence(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", Net(), 3)
    steps = [text for text in whole if text.startswith("loss")]
    assert steps == [f"loss {sample_scheme(BLOCKS, 5, i)}" for i in range(9)]
    assert len(set(steps)) > 3
    assert {text for text in whole if not text.startswith("loss")} == {"predict 1-1-1"}  # validation
    first = train(tmp_path / "parts", Net(), 1)
    rest = train(tmp_path / "parts", Net(), 3, resume=str(tmp_path / "parts" / "epoch_1.pth"))
    assert first + rest == whole


def test_validation_on_another_scheme_or_the_last(tmp_path: Path) -> None:
    seen = train(tmp_path / "a", Net(), 1, validate="1-0-0")
    assert seen[-1] == "predict 1-0-0"
    seen = train(tmp_path / "b", Net(), 1, validate=None)
    assert seen[-1] == f"predict {sample_scheme(BLOCKS, 5, 2)}"


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        SupernetHook(p=1.5)
    with pytest.raises(ValueError, match="scheme='full'"):
        train(tmp_path, Net(scheme="1-0-1"), 1)
    with pytest.raises(ValueError, match="no EAN backbone"):
        find_pluggable(nn.Linear(1, 1))


def test_build_runner_prepares_distributed_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ean_core.engine.runner.EANRunner.from_cfg", lambda cfg: cfg)
    hooks = [{"type": "ean_core.search.SupernetHook"}]
    cfg: Any = build_runner(Config({"custom_hooks": hooks, "optim_wrapper": {}}))
    assert cfg.find_unused_parameters is True
    assert "find_unused_parameters" not in build_runner(Config({"optim_wrapper": {}}))  # type: ignore[operator]


def test_two_processes_agree(tmp_path: Path) -> None:
    start_processes(train_a_supernet, (str(tmp_path),), nprocs=2, start_method="forkserver")
    (seen, weights), (others, copies) = (torch.load(tmp_path / f"{rank}.pth") for rank in (0, 1))
    assert seen == others == [f"loss {sample_scheme(BLOCKS, 5, i)}" for i in range(8)]
    assert any("0" in text for text in seen)  # a stage without connection
    assert all(torch.equal(a, b) for a, b in zip(weights, copies, strict=True))
