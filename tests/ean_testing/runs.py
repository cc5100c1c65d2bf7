"""Runs of the tools in one process."""

from collections.abc import Callable
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
_numbers = count()


@cache
def load(path: str) -> ModuleType:
    """A file that belongs to no package, such as ``"tools/train.py"``, as a module."""
    spec = spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tool(name: str) -> Callable[[list[str]], None]:
    """The ``main`` of a tool."""
    main: Callable[[list[str]], None] = load(f"tools/{name}.py").main
    return main


def new_name() -> str:
    """A config option: MMEngine mixes up the logs of runs in one process that have one name and begin in one second."""
    return f"experiment_name=run{next(_numbers)}"


def interrupt(train: Callable[[], object], iterations: int) -> None:
    """Run a training that somebody ends by Ctrl-C in the iteration after so many."""
    import torch

    from ean_core.engine import ReseedHook

    def stop(self: ReseedHook, runner: Any, *args: object, **kwargs: object) -> None:
        if runner.iter == iterations:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReseedHook, "after_train_iter", stop)
        with pytest.raises(SystemExit) as stopped:
            train()
    assert stopped.value.code == 130
    torch.rand(7)  # what happens before the run is resumed does not matter
