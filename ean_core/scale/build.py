"""From the name of an engine, and what its tasks need, to the engine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ean_core.errors import UserError, shortened
from ean_core.scale.local import LocalEngine
from ean_core.scale.outcome import Engine, cores


def build_engine(
    name: str = "local", *, workers: int | None = None, cpus: int | None = None, gpus: float = 0
) -> Engine:
    """Build an engine.

    Args:
        name: ``"local"``: processes on this machine. ``"ray"``: the Ray cluster at the environment variable
            ``RAY_ADDRESS``, or a Ray of its own on this machine. ``"ray://HOST:PORT"``: the cluster of this Ray client
            server, whose port is 10001 by default.
        workers: How many tasks run at once; as many as cores and GPUs allow by default.
        cpus: Cores of a task, which is how many threads torch uses; by default this machine's cores divided among the
            ``workers``, or 1 where these are not given either.
        gpus: GPUs of a task, which sees no others: a whole number, or a part such as 0.5.

    Raises:
        UserError: There is no engine of this name, no cluster at the address, no Ray installed, or too few GPUs.
    """
    for what, value in (("workers", workers), ("cpus", cpus)):
        if value is not None and (type(value) is not int or value < 1):
            raise UserError(f"engine.{what} must be a whole number from 1 on, or None, got {shortened(value)}")
    if type(gpus) not in (int, float) or not 0 <= gpus < float("inf") or (gpus > 1 and gpus != int(gpus)):
        raise UserError(f"engine.gpus must be a whole number, or a part of one GPU such as 0.5, got {shortened(gpus)}")
    if name == "local":
        return _local(workers, cpus, gpus)
    if name == "ray" or name.startswith("ray://"):
        from ean_core.scale.on_ray import RayEngine

        return RayEngine(name.removeprefix("ray").removeprefix("://"), workers=workers, cpus=cpus, gpus=gpus)
    raise UserError(f"--engine must be local, ray or ray://HOST:PORT, got {shortened(name)}")


def engine_of(name: str, options: Mapping[str, Any] | None) -> Engine:
    """Build an engine with the options of a config's entry, e.g. ``engine = dict(workers=4, cpus=2, gpus=0.5)``.

    Where it does not say how many GPUs a task has it is one, if this machine has any: tasks run on what this process
    would use.

    Raises:
        UserError: As :func:`build_engine`, or an option is unknown.
    """
    import torch

    options = {"gpus": int(torch.cuda.is_available()), **(options or {})}
    unknown = sorted(options.keys() - {"workers", "cpus", "gpus"})
    if unknown:
        raise UserError(f"engine.{unknown[0]} is unknown: an engine has workers, cpus and gpus")
    return build_engine(name, **options)


def _local(workers: int | None, cpus: int | None, gpus: float) -> LocalEngine:
    slots = _slots(gpus)
    if workers is None:
        workers = max(1, cores() // (cpus or 1))
        workers = workers if slots is None else max(1, min(workers, len(slots)))
    if slots is not None and workers > len(slots):
        raise UserError(f"engine: {workers} workers of {gpus:g} GPUs each need more than this machine has")
    threads = str(cpus or max(1, cores() // workers))
    shared = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    return LocalEngine([shared | {"CUDA_VISIBLE_DEVICES": slots[i] if slots else ""} for i in range(workers)])


def _slots(gpus: float) -> list[str] | None:
    """The GPUs of each task that this machine has room for, as ``CUDA_VISIBLE_DEVICES`` names them."""
    if not gpus:
        return None
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
    devices = devices[: torch.cuda.device_count()]  # behind one that does not exist torch sees no others
    if gpus < 1:
        return [device for device in devices for _ in range(int(1 / gpus))]
    size = int(gpus)
    return [",".join(devices[i : i + size]) for i in range(0, len(devices) - size + 1, size)]
