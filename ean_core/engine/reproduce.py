"""Runs that repeat exactly: random numbers are a function of the seed and the epoch, not of what ran before."""

from __future__ import annotations

import random
import signal
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS, HOOKS
from torch.utils.data import get_worker_info


def reseed(*words: int) -> None:
    """Seed Python, NumPy and torch from some numbers, e.g. a run's seed and its epoch."""
    state = np.random.SeedSequence(words).generate_state(3)
    random.seed(int(state[0]))
    np.random.seed(int(state[1]))
    torch.manual_seed(int(state[2]))


@HOOKS.register_module()
class ReseedHook(Hook):
    """Seed Python, NumPy and torch before every training epoch from (run seed, epoch, rank).

    A run that is resumed at an epoch's start then draws the same numbers as one that was never interrupted, with no
    generator state in the checkpoint, whatever validation drew in between.
    """

    priority = "VERY_HIGH"

    def before_train_epoch(self, runner: Any) -> None:
        """Seed this epoch."""
        reseed(runner.seed, runner.epoch, get_rank())


@FUNCTIONS.register_module()
def seed_worker(worker_id: int, **_: Any) -> None:
    """Seed Python and NumPy in a data-loading worker from torch's seed of this epoch and worker.

    MMEngine's own function gives a worker the same numbers in every epoch. The loader must make new workers each
    epoch (``persistent_workers=False``).
    """
    if get_worker_info() is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches workers too: who started them ends them
    seed = torch.initial_seed() % 2**32
    np.random.seed(seed)
    random.seed(seed)
