"""Candidates evaluated by the workers of an engine: the log is that of a search in one process."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from classification.datasets import load_images
from classification.toy_shapes import make_toy
from ean_core.engine import load_config
from ean_core.errors import UserError
from ean_core.scale import Outcome
from ean_core.scale.worker import call
from ean_core.scheme import ConnectionScheme
from ean_core.search.on_engine import _evaluator, engine_for, on_engine
from ean_core.search.trained_supernet import trained_supernet
from ean_testing.runs import new_name

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs" / "search" / "se_cifar100.py")
OPTIONS = {
    "model.backbone.depth": 11,
    "image_size": 16,
    "held_out": 4,
    "train_dataloader.batch_size": 12,
    "val_dataloader.batch_size": 10,
    "train_cfg.max_epochs": 1,
    "search.latency": "table",
    "search.latency_repeats": 1,
    "engine.workers": 2,
}


class Inside:
    """An engine in this process."""

    workers = 2

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def run(self, function: str, arguments: Sequence[Mapping[str, Any]]) -> Iterator[Outcome]:
        self.asked.append([" ".join(each["schemes"]) for each in arguments])
        for index, each in reversed(list(enumerate(arguments))):
            yield Outcome(index, *call(function, each))

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy(tmp_path_factory.mktemp("data"), "cifar100", train=10, test=3)


@pytest.fixture(scope="module")
def search(tool: Callable, data: Path, light: None) -> Callable[..., Path]:
    main = tool("search")

    def run(work_dir: Path, *more: str) -> Path:
        changes = ["--cfg-options", *(f"{key}={value}" for key, value in OPTIONS.items()), new_name()]
        main([CONFIG, "--data-root", str(data), "--steps", "6", "--work-dir", str(work_dir), *more, *changes])
        load_images.cache_clear()
        return work_dir

    return run


@pytest.fixture(scope="module")
def finished(search: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return search(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def cfg(finished: Path, data: Path) -> Iterator[Config]:
    name, value = new_name().split("=")
    yield load_config(CONFIG, work_dir=finished, data_root=data, options={**OPTIONS, name: value})
    load_images.cache_clear()
    _evaluator.cache_clear()


def test_the_log_is_that_of_one_process(search, finished, tmp_path):
    """Accuracies, latencies of the same table, rewards and what the strategy learns."""
    other = Path(shutil.copytree(finished, tmp_path / "other"))
    for name in ("search.jsonl", "search_state.pth", "scheme.json"):
        (other / name).unlink()
    search(other, "--engine", "local")
    assert (other / "search.jsonl").read_bytes() == (finished / "search.jsonl").read_bytes()
    assert (other / "scheme.json").read_bytes() == (finished / "scheme.json").read_bytes()


def test_schemes_are_shared_out(cfg):
    """Their metrics come back in order; the data of another machine are noticed."""
    supernet, engine = trained_supernet(cfg, []), Inside()
    evaluate = on_engine(engine, cfg, supernet.checkpoint, {"fuse": True, "latency_repeats": 1}, supernet.evaluator)
    schemes = [ConnectionScheme.parse(text, supernet.blocks) for text in ("1-1-1", "0-0-0", "1-0-1")]
    assert evaluate(schemes) == supernet.evaluator(schemes)
    assert evaluate(schemes[:1]) == supernet.evaluator(schemes[:1])
    assert engine.asked == [["1-1-1 1-0-1", "0-0-0"], ["1-1-1"]]

    supernet.evaluator.batches[0] = supernet.evaluator.batches[-1]
    evaluate = on_engine(engine, cfg, supernet.checkpoint, {"fuse": True, "latency_repeats": 1}, supernet.evaluator)
    with pytest.raises(UserError, match="could not evaluate its schemes: the data of this machine are not those"):
        evaluate(schemes)


def test_mistakes(cfg):
    with engine_for(None, cfg) as engine:
        assert engine is None
    with (
        pytest.raises(UserError, match=r"engine must be local, ray or ray://HOST:PORT, got 'mpi'"),
        engine_for("mpi", cfg),
    ):
        pass
    cfg.engine.gpu = 1
    with pytest.raises(UserError, match=r"engine.gpu is unknown"), engine_for("local", cfg):
        pass
    cfg.launcher = "pytorch"
    with pytest.raises(UserError, match="leave one of them out"), engine_for("local", cfg):
        pass
