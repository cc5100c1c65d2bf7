"""Room on the disk: how much a run will take, and what it says when there is none left."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config
from torch import nn

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MOMENTS = {"SGD": 0, "Adagrad": 1, "RMSprop": 1}
"""Numbers that an optimizer keeps for each parameter, where it is not the two of Adam; momentum is one more."""


def space_needed(cfg: Config, model: nn.Module, *, replaced: bool = False) -> int:
    """Bytes that a training writes: the last checkpoint with the optimizer's state, the best one, and one beside them.

    Args:
        cfg: With the optimizer.
        model: What is trained.
        replaced: The run goes on: its first two files are there, and will be replaced.
    """
    weights, state = checkpoint_size(cfg, model)
    beside = weights + state
    return beside if replaced else 2 * beside + weights


def checkpoint_size(cfg: Config, model: nn.Module) -> tuple[int, int]:
    """Bytes of a model's weights, and of its optimizer's state."""
    weights = sum(value.numel() * value.element_size() for value in (*model.parameters(), *model.buffers()))
    learned = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    optimizer = cfg.optim_wrapper.get("optimizer") or {}
    kind = optimizer.get("type")
    moments = MOMENTS.get(kind if isinstance(kind, str) else getattr(kind, "__name__", ""), 2)
    return weights, learned * (moments + bool(moments < 2 and optimizer.get("momentum")))


@contextmanager
def naming_full_disk(folder: Path) -> Iterator[None]:
    """Name a folder in the error of a full disk that names no file."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(folder)) from error


def log_strictly(logger: logging.Logger) -> None:
    """Let a log file that cannot be written end the run, instead of a traceback a line."""
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handleError = _raise  # type: ignore[method-assign]


def _raise(record: logging.LogRecord) -> None:
    raise  # what the logger has just caught
