"""The C++ loops of ``kernels.cpp``, compiled once for this machine and called on tensors."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import nn

from ean_core.errors import UserError

LANES, COLUMNS = 16, 32
"""What the loops go by: channels of ``u``, and channels of ``out``."""

SOURCE = Path(__file__).with_name("loops.cpp")
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fopenmp"]
ARCHITECTURES = {"AVX512": ["-march=x86-64-v4", "-mprefer-vector-width=512"], "AVX2": ["-march=x86-64-v3"]}
"""What to compile for, by what torch calls the CPU."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled loops, or ``None`` (said once) where there is no AVX2 or no C++ compiler with OpenMP.

    They are compiled at the first call, which takes about a second, and kept in ``$XDG_CACHE_HOME/ean`` (by default
    ``~/.cache/ean``). The compiler is ``$CXX`` or ``g++``.
    """
    try:
        return _load()
    except (OSError, ValueError, RuntimeError, subprocess.CalledProcessError) as error:  # RuntimeError: no home
        reason = str(error)
        if isinstance(error, subprocess.CalledProcessError):
            reason = f"{error.cmd[0]} failed: {(error.stderr.strip() or reason).splitlines()[0]}"
        print_log(f"fuse: without its C++ loops, so slower than it could be: {reason}", "current", logging.WARNING)
        return None


def _load() -> ctypes.CDLL:
    capability = torch.backends.cpu.get_cpu_capability()
    if capability not in ARCHITECTURES:
        raise UserError(f"they are for CPUs with AVX2 or AVX-512, and torch finds {capability}")
    flags = FLAGS + ARCHITECTURES[capability]
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise FileNotFoundError("no C++ compiler (install g++, or name one in CXX)")
    key = hashlib.sha256(b"\0".join([SOURCE.read_bytes(), compiler.encode(), *(flag.encode() for flag in flags)]))
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "ean")
    path = folder / f"kernels-{key.hexdigest()[:16]}.so"
    if not path.is_file():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:  # written beside, then renamed: processes may race
            made = Path(scratch, path.name)
            subprocess.run(
                [compiler, *flags, "-shared", "-fPIC", SOURCE, "-o", made], check=True, capture_output=True, text=True
            )
            made.replace(path)
    found = ctypes.CDLL(str(path))
    tensor, size = ctypes.c_void_p, ctypes.c_int64
    found.expand.argtypes = [*6 * [tensor], *5 * [size], ctypes.c_int]
    found.squeeze.argtypes = [*4 * [tensor], *4 * [size], ctypes.c_int]
    found.similarity.argtypes = [*6 * [tensor], *5 * [size], ctypes.c_int]
    found.excite.argtypes = [*8 * [tensor], *5 * [size], ctypes.c_int]
    found.remember.argtypes = [*5 * [tensor], *2 * [size], ctypes.c_int]
    for function in (found.expand, found.squeeze, found.similarity, found.excite, found.remember):
        function.restype = None
    return found


def squeeze(u: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """``u = relu(u)`` in place, and the means (N, C) over P of the branch ``u weight + bias``, which is never there.

    Args:
        u: (N, P, K).
        weight: (K, C).
        bias: (C,).
    """
    n, p, k = u.shape
    y = u.new_empty(n, len(bias))
    _call("squeeze", y, u, weight.contiguous(), bias, n, p, k, len(bias))
    return y


def excite(
    u: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, first: nn.Linear, second: nn.Linear
) -> torch.Tensor:
    """As :func:`squeeze`, then SE's mask (N, C) of the means ``y``: ``sigmoid(second(relu(first(y))))``."""
    n, p, k = u.shape
    mask = u.new_empty(n, len(bias))
    layers = first.weight.contiguous(), first.bias, second.weight.t().contiguous(), second.bias
    _call("excite", mask, u, weight.contiguous(), bias, *layers, n, p, k, len(bias), first.out_features)
    return mask


def similarity(
    u: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor
) -> torch.Tensor:
    """As :func:`squeeze`, then SGE's mask (N, P, G) of the branch ``f``.

    ``t = sum_c mean(f)_c f_c`` over a group's channels is a projection of ``u``, ``(sum_c mean(f)_c weight_c) u``, plus
    a constant that the normalisation over P removes.

    Args:
        u: (N, P, K).
        weight: (K, C).
        bias: (C,).
        scale: SGE's weight (G,).
        shift: SGE's bias (G,).
    """
    (n, p, k), groups = u.shape, len(scale)
    t = u.new_empty(n * p * groups + LANES)[: n * p * groups].view(n, p, groups)  # `expand` may read behind it
    _call("similarity", t, u, weight.contiguous(), bias, scale, shift, n, p, k, len(bias), groups)
    return t


def remember(inputs: torch.Tensor, hidden: torch.Tensor, before: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """DIA's ``(h, c)``, both (N, C), from its gates ``inputs + hidden`` (N, 4C) and the ``c`` before."""
    (n, c), h, cell = before.shape, torch.empty_like(before), torch.empty_like(before)
    _call("remember", h, cell, before, inputs, hidden, n, c)
    return h, cell


def expand(
    out: torch.Tensor,
    identity: torch.Tensor | None,
    u: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    mask: torch.Tensor | None,
) -> None:
    """``out = relu(identity + mask * (u weight + bias))``, the product never in memory.

    Args:
        out: (N, P, C); may be ``identity``.
        identity: (N, P, C), or nothing.
        u: (N, P, K).
        weight: (K, C).
        bias: (C,).
        mask: Nothing, (N, C), or (N, P, G) from :func:`similarity`.
    """
    n, p, k = u.shape
    groups = mask.shape[2] if mask is not None and mask.ndim == 3 else 0
    _call("expand", out, identity, u, weight.contiguous(), bias, mask, n, p, k, out.shape[2], groups)


def _call(name: str, *arguments: torch.Tensor | int | None) -> None:
    values = [a.data_ptr() if isinstance(a, torch.Tensor) else a for a in arguments]
    getattr(library(), name)(*values, torch.get_num_threads())
