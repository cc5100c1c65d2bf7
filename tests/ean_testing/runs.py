"""Runs of the tools in one process."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

_numbers = count()


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
