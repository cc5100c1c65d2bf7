"""Reading and writing checkpoint files safely: weights only, and never half-written."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer


def allow_checkpoint_types() -> None:
    """Let ``torch.load(weights_only=True)`` read what MMEngine puts beside the weights: its loss history."""
    dtypes = [type(np.dtype(name)) for name in ("f4", "f8", "i8", "i4", "bool")]
    # NumPy's own rebuild functions; where they live differs between NumPy 1 and 2.
    array: Any = np.ndarray(0).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    torch.serialization.add_safe_globals([HistoryBuffer, np.dtype, np.ndarray, array, scalar, *dtypes])


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Load a checkpoint to the CPU without running any code from it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is truncated, is no checkpoint, or contains objects other than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint '{path}' does not exist")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"checkpoint '{path}' cannot be read (truncated, or not a checkpoint?): {reason}") from error
    if not isinstance(checkpoint, Mapping):
        raise ValueError(f"checkpoint '{path}' holds a {type(checkpoint).__name__}, not a state dict")
    return dict(checkpoint)


def write_checkpoint(checkpoint: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Save beside ``path``, then rename: a reader finds the old file or the new one, never half of one."""
    beside = f"{os.fspath(path)}.part"
    torch.save(checkpoint, beside)
    os.replace(beside, path)
