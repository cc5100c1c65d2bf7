"""The loops of ``loops.cpp``, compiled once for this machine."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import shutil
import subprocess
from pathlib import Path

import torch
from mmengine.logging import print_log

from ean_core.errors import UserError
from ean_core.files import replacing

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


@torch.compiler.assume_constant_result
def available() -> bool:
    """Whether there are compiled loops; a constant for a compiler, which would trace their compilation otherwise."""
    return library() is not None


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
    path = folder / f"loops-{key.hexdigest()[:16]}.so"
    if not path.is_file():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(path) as part:  # processes may race
            command: list[str | Path] = [compiler, *flags, "-shared", "-fPIC", SOURCE, "-o", part]
            subprocess.run(command, check=True, capture_output=True, text=True)
    found = ctypes.CDLL(str(path))
    tensor, size = ctypes.c_void_p, ctypes.c_int64
    found.expand.argtypes = [*6 * [tensor], *5 * [size], ctypes.c_int]
    found.squeeze.argtypes = [*4 * [tensor], *4 * [size], ctypes.c_int]
    found.similarity.argtypes = [*6 * [tensor], *5 * [size], ctypes.c_int]
    found.perceptron.argtypes = [*6 * [tensor], *4 * [size], ctypes.c_int]
    found.remember.argtypes = [*4 * [tensor], *2 * [size], ctypes.c_int]
    for function in (found.expand, found.squeeze, found.similarity, found.perceptron, found.remember):
        function.restype = None
    return found
