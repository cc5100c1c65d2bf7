"""Reading and writing checkpoint files safely: weights only, whole, and never half-written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ean_core.archive import Damaged, Unusable, check_archive, check_content
from ean_core.errors import UserError
from ean_core.files import replacing
from ean_core.histories import restored, stand_ins


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Load a checkpoint to the CPU without running any code from it.

    Reads what torch, MMEngine's runner (loss history included) and the zoos of the MM libraries write. The checksums in
    the file are compared first, which takes about 0.2 s for 200 MB. Files of torch before 1.6 have none.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: It is truncated or damaged, is no checkpoint, contains objects other than tensors and plain values,
            or would take many times its size in memory.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint '{path}' does not exist")
    try:
        with stand_ins(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols, which torch then reads or refuses anyway
            check_archive(path)
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        check_content(checkpoint, path.stat().st_size)
        checkpoint = restored(checkpoint)
    except Unusable as error:
        raise UserError(f"checkpoint '{path}' is not loaded: {error}") from error
    except Damaged as error:
        raise UserError(f"checkpoint '{path}' is damaged: {error}; copy or download it again") from error
    except Exception as error:  # what the unpickler raises on arbitrary bytes depends on the bytes
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # a place before the file's start
            raise
        foreign = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if foreign:
            raise UserError(
                f"checkpoint '{path}' contains {foreign[1]!r}, which is neither a tensor nor a plain value: it is not "
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


def meta_of(checkpoint: Mapping[str, Any]) -> dict[Any, Any]:
    """What a training noted in a checkpoint beside the weights; empty where it holds nothing of the kind."""
    meta = checkpoint.get("meta")
    return dict(meta) if isinstance(meta, Mapping) else {}


def epoch_of(checkpoint: Mapping[str, Any], name: str | os.PathLike[str]) -> int:
    """The number of epochs after which a training wrote a checkpoint.

    Args:
        checkpoint: What :func:`read_checkpoint` returns.
        name: Its path, for messages.

    Raises:
        UserError: It does not say.
    """
    counts = [meta_of(checkpoint).get(key) for key in ("epoch", "iter")]
    if not all(type(count) is int and count >= 0 for count in counts):
        raise UserError(
            f"checkpoint '{name}' cannot be resumed: it does not say after which epoch and iteration it was written; "
            "start anew, or load its weights with --pretrained"
        )
    return int(counts[0])  # type: ignore[arg-type]


def weights_of(checkpoint: Mapping[str, Any], name: str | os.PathLike[str] = "") -> dict[str, Any]:
    """The state dict in a checkpoint: its entry ``state_dict`` or ``model``, or the whole.

    What is no tensor is handed on too: a module may keep extra state, and other code bases keep counters.

    Args:
        checkpoint: What :func:`read_checkpoint` returns.
        name: Its path, for messages.

    Raises:
        UserError: It has no names, or a tensor that is not plain, dense and real; the message names the first.
    """
    what = f"checkpoint '{name}'" if name else "the checkpoint"
    state = next((checkpoint[key] for key in ("state_dict", "model") if key in checkpoint), checkpoint)
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise UserError(f"{what} holds no state dict: its weights are no table of names and tensors")
    for key, value in state.items():
        kind = strange(value) if isinstance(value, torch.Tensor) else None
        if kind is not None:
            raise UserError(f"{what} holds no usable weights: {key[:80]!r} is {kind}, not an ordinary dense tensor")
    return dict(state)


def strange(tensor: torch.Tensor) -> str | None:
    """What distinguishes a tensor from those that weights are made of; ``None`` where nothing does."""
    if tensor.is_meta:
        return "a tensor without values (of the device 'meta')"
    if tensor.is_nested or tensor.layout != torch.strided:
        return f"a tensor of the layout {'nested' if tensor.is_nested else str(tensor.layout).removeprefix('torch.')}"
    if tensor.is_quantized or tensor.is_complex():
        return f"a tensor of the type {str(tensor.dtype).removeprefix('torch.')}"
    return None


def weights_digest(weights: Mapping[str, Any]) -> str:
    """The first 16 hexadecimal digits of a SHA-256 over names, types, shapes and values, in the order of the names.

    Equal weights have equal digests, whatever file they come from and whenever it was written. What is no tensor is
    digested as JSON.
    """
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        if isinstance(value, torch.Tensor):
            digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        else:
            digest.update(f"{name}{json.dumps(value, sort_keys=True, default=str)}".encode())
    return digest.hexdigest()[:16]
