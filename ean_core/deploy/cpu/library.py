"""The loops of ``loops.cpp``, compiled once for this machine."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import torch
from mmengine.logging import print_log

from ean_core.deploy.cpu import cache
from ean_core.errors import UserError

SOURCE = Path(__file__).with_name("loops.cpp")
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fopenmp"]
ARCHITECTURES = {"AVX512": ["-march=x86-64-v4", "-mprefer-vector-width=512"], "AVX2": ["-march=x86-64-v3"]}
"""What to compile for, by what torch calls the CPU."""
LOOPS = {"expand": (6, 5), "squeeze": (4, 4), "similarity": (6, 5), "perceptron": (6, 4), "remember": (4, 2)}
"""How many tensors and how many sizes each takes; the last argument is a number of threads."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled loops, or ``None`` (said once) where there is no AVX2 or no C++ compiler with OpenMP.

    They are compiled at the first call, which takes about a second, and kept in ``$XDG_CACHE_HOME/ean`` (by default
    ``~/.cache/ean``); where others can write, they are compiled for this process alone. The compiler is ``$CXX`` or
    ``g++``.
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
    if capability not in ARCHITECTURES or not hasattr(os, "geteuid"):
        raise UserError(f"they are for POSIX and CPUs with AVX2 or AVX-512; this is {sys.platform} and {capability}")
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    if compiler is None:
        raise FileNotFoundError("no C++ compiler (install g++, or name one in CXX)")
    flags = [*FLAGS, *ARCHITECTURES[capability], "-shared", "-fPIC"]
    installed = os.stat(compiler)  # an update has another size or time
    key = repr((SOURCE.read_bytes(), flags, compiler, installed.st_size, installed.st_mtime_ns))
    stem = f"loops-{sha256(key.encode()).hexdigest()[:16]}"

    def make(path: Path) -> None:
        subprocess.run([compiler, *flags, SOURCE, "-o", path], check=True, capture_output=True, text=True)

    folder = cache.cache_folder()
    if cache.is_private(folder):
        return _open(cache.find(folder, stem) or cache.build(folder, stem, make))
    with tempfile.TemporaryDirectory(prefix="ean-") as made:  # what is loaded stays in memory
        temporary = Path(made).resolve()
        if not cache.is_private(temporary):
            raise PermissionError(f"others can write to '{folder}' and '{temporary.parent}', or to folders above them")
        loops = _open(cache.build(temporary, stem, make))
    reason = f"others can write to '{folder}' or to a folder above it (change that, or set XDG_CACHE_HOME)"
    print_log(f"fuse: every process compiles its own C++ loops: {reason}", "current", logging.WARNING)
    return loops


def _open(path: Path) -> ctypes.CDLL:
    """Load the loops and declare their arguments.

    Raises:
        OSError: The file is no library, or lacks a loop.
    """
    loops = ctypes.CDLL(str(path))
    for name, (tensors, sizes) in LOOPS.items():
        try:
            function = getattr(loops, name)
        except AttributeError as error:
            raise OSError(str(error)) from error
        function.argtypes = [*tensors * [ctypes.c_void_p], *sizes * [ctypes.c_int64], ctypes.c_int]
        function.restype = None
    return loops
