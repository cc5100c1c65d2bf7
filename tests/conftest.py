"""What the tests of runs share: a small data set, options that make a run cheap, the tools as functions."""

import gc
from collections.abc import Callable, Iterator
from multiprocessing.pool import Pool
from pathlib import Path
from types import SimpleNamespace

import pytest

from ean_testing import runs
from ean_testing.fresh import fresh_processes

ROOT = Path(__file__).resolve().parents[1]
Run = Callable[..., Path]


def pytest_collection_finish() -> None:
    """Spare the garbage collector what is imported."""
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # else extension modules report what is left at exit as leaked


@pytest.fixture(scope="session", autouse=True)
def _no_search_for_garbage() -> Iterator[None]:
    """MMEngine collects garbage for every data set that it builds, which takes longer than building a small one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmengine.dataset.base_dataset.gc", SimpleNamespace(collect=int))
        yield


@pytest.fixture(scope="session")
def config() -> str:
    return str(ROOT / "configs" / "seg" / "ean_se_voc.py")


@pytest.fixture(scope="session")
def small_voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training and three validation scenes of 48x48; tests leave it as it is."""
    from segmentation.toy_scenes import make_toy_voc

    return make_toy_voc(tmp_path_factory.mktemp("data"), train=8, val=3, size=48)


@pytest.fixture(scope="session")
def tiny(config: str, small_voc: Path) -> list[str]:
    """Options for a run of a second or two: three epochs of four iterations, each with its line in history.jsonl.

    The learning rate is large, so that predictions are of several classes and change from epoch to epoch.
    """
    from mmengine.config import Config

    hooks = [hook["type"] for hook in Config.fromfile(config).custom_hooks]
    options = """model.backbone.depth=18 head=fcn crop_size=32 train_cfg.max_epochs=3 optim_wrapper.optimizer.lr=0.1
        train_dataloader.batch_size=2 train_dataloader.num_workers=0
        val_dataloader.num_workers=0 test_dataloader.num_workers=0"""
    every_iteration = f"custom_hooks.{hooks.index('ean_core.engine.HistoryHook')}.interval=1"
    return ["--data-root", str(small_voc), "--scheme", "full", "--cfg-options", *options.split(), every_iteration]


@pytest.fixture
def run_name() -> str:
    """A config option that gives a run another name than all before."""
    return runs.new_name()


@pytest.fixture(scope="session")
def tool() -> Callable[[str], Callable[[list[str]], None]]:
    """``tool("train")`` is the ``main`` of tools/train.py."""
    return runs.tool


@pytest.fixture(scope="session")
def fresh() -> Iterator[Pool]:
    """A pool for ``ean_testing.fresh.run_program``: each program has a process of its own."""
    with fresh_processes() as pool:
        yield pool


@pytest.fixture(scope="session")
def light() -> Iterator[None]:
    """What makes runs cheap, here and in child processes.

    In such small models threads cost more than they bring, and MMEngine formats the text of the config at every save.
    """
    import torch

    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yapf.yapflib.yapf_api.FormatCode", lambda text, **_: (text, True))
        patch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def train(tool: Callable, config: str, tiny: list[str], light: None) -> Run:
    """``train(work_dir, *arguments)``: a tiny run of tools/train.py; arguments may begin with more config options."""
    main = tool("train")

    def run(work_dir: Path, *arguments: str) -> Path:
        main([config, *tiny, runs.new_name(), *arguments, "--work-dir", str(work_dir)])
        return work_dir

    return run


@pytest.fixture(scope="session")
def evaluate(tool: Callable, config: str, tiny: list[str], light: None) -> Run:
    """``evaluate(work_dir, checkpoint, *arguments)``: tools/test.py; returns the path of its test.json."""
    main = tool("test")

    def run(work_dir: Path, checkpoint: Path, *arguments: str) -> Path:
        main([config, str(checkpoint), *tiny, runs.new_name(), *arguments, "--work-dir", str(work_dir)])
        return work_dir / "test.json"

    return run


@pytest.fixture(scope="session")
def finished(train: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work directory of a whole tiny run; tests leave it as it is."""
    return train(tmp_path_factory.mktemp("finished"))
