"""Reading and writing checkpoint files safely: weights only, and never half-written."""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer

from ean_core.errors import UserError
from ean_core.files import replacing


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Load a checkpoint to the CPU without running any code from it.

    Reads what torch, MMEngine's runner (loss history included) and the zoos of the MM libraries write.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: It is truncated, is no checkpoint, or contains objects other than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint '{path}' does not exist")
    # At its end the context takes back all that it was given: keep what this process had allowed before.
    allowed = torch.serialization.get_safe_globals()
    try:
        with (
            torch.serialization.safe_globals([kind for kind in _history_types() if kind not in allowed]),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # of pickle protocols, which torch then reads or refuses anyway
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # what the unpickler raises on arbitrary bytes depends on the bytes
        foreign = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if foreign:
            raise UserError(
                f"checkpoint '{path}' contains '{foreign[1]}', which is neither a tensor nor a plain value: it is not "
                "loaded, because that can run code"
            ) from error
        raise UserError(f"checkpoint '{path}' cannot be read: it is truncated, or not a checkpoint") from error
    if not isinstance(checkpoint, Mapping):
        raise UserError(f"checkpoint '{path}' holds a {type(checkpoint).__name__}, not a state dict")
    return dict(checkpoint)


def write_checkpoint(checkpoint: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Save a file whole or not at all; missing folders are made."""
    with replacing(Path(path)) as part, part.open("wb") as file:
        torch.save(checkpoint, file)


def _history_types() -> list[Any]:
    """What MMEngine's runner saves beside tensors: loss histories and NumPy values."""
    dtypes = {type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?U"}
    # NumPy's rebuild functions have another address in NumPy 1 and 2: know both, whichever wrote the file.
    rebuild: list[Callable[..., Any]] = [np.ndarray(0).__reduce__()[0], np.float64(0).__reduce__()[0]]
    addressed = [(f, f"numpy.{core}.multiarray.{f.__name__}") for f in rebuild for core in ("core", "_core")]
    return [HistoryBuffer, np.dtype, np.ndarray, *dtypes, *addressed, (_statistic, "builtins.getattr")]


def _statistic(owner: Any, name: str) -> Any:
    """Stands in for ``getattr``, with which a pickled history names its own methods, and does nothing else."""
    if owner is not HistoryBuffer or name not in ("min", "max", "mean", "current"):
        raise pickle.UnpicklingError(f"GLOBAL {name} of {owner} is not a statistic")
    return getattr(owner, name)
