"""Tasks for the engines of ean_core.scale, which their processes import; only of the standard library."""

import os
import signal
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any


def square(x: int) -> int:
    return x * x


def threads_and_gpus() -> tuple[int, str, str]:
    import torch

    return torch.get_num_threads(), os.environ["CUDA_VISIBLE_DEVICES"], os.getcwd()


@cache
def _made() -> int:
    return time.monotonic_ns()


def process() -> tuple[int, int]:
    """Which process this is, and what it made once."""
    return os.getpid(), _made()


def total(folder: str, name: str, steps: int, killed_at: int = -1) -> dict[str, Any]:
    """1 + 2 + ... + steps, with the sum so far in a file, from which it resumes; killed once before a step."""
    path = Path(folder, name)
    done, value = map(int, path.read_text().split()) if path.is_file() else (0, 0)
    begun = done
    for step in range(done + 1, steps + 1):
        if step == killed_at and not begun:
            os.kill(os.getpid(), signal.SIGKILL)
        value += step
        path.write_text(f"{step} {value}")
    return {"total": value, "resumed_at": begun}


def dies(folder: str) -> None:
    """Leave a file and die."""
    Path(folder, f"died-{time.monotonic_ns()}").touch()
    os.kill(os.getpid(), signal.SIGKILL)


def fails(kind: str) -> None:
    if kind == "mistake":
        from ean_core.errors import UserError

        raise UserError("the file is wrong: mend it")
    if kind == "missing":
        raise FileNotFoundError(2, "No such file or directory", "a.txt")
    if kind == "exit":
        sys.exit(2)
    raise ZeroDivisionError("division\nby zero")


def waits(folder: str, name: str, seconds: float = 60.0, stubborn: bool = False) -> None:
    """Write a file with the process's number, and wait; where it is stubborn, also through SIGTERM."""
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(folder, f"{name}.part").write_text(str(os.getpid()))
    Path(folder, f"{name}.part").rename(Path(folder, name))
    time.sleep(seconds)
