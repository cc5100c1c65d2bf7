"""Processes that Slurm's ``srun`` has started: what torch needs to know to connect them."""

from __future__ import annotations

import os
import subprocess

import torch

from ean_core.errors import UserError
from ean_core.terminal import tool

FIRST_PORT, PORTS = 15000, 10000


def enter_slurm() -> None:
    """Set the environment variables that torchrun sets (``RANK``, ``MASTER_ADDR`` ...) from those of ``srun``.

    As MMEngine's ``init_dist("slurm")``, with two differences: a process that sees one GPU only, by
    ``--gpus-per-task=1``, uses it; and the port depends on the job, so that two jobs may share a machine.
    ``MASTER_ADDR`` and ``MASTER_PORT`` are kept where they are set.

    Raises:
        UserError: This process was not started by ``srun``, or ``scontrol`` does not work.
    """
    variables = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODELIST")
    if any(name not in os.environ for name in variables):
        raise UserError(f"--launcher slurm needs srun: srun --ntasks=2 {tool('train')} ... --launcher slurm")
    rank, size, nodes = (os.environ[name] for name in variables)
    local = int(os.environ.get("SLURM_LOCALID", rank))
    address = os.environ.get("MASTER_ADDR") or _first_host(nodes)
    port = FIRST_PORT + int(os.environ.get("SLURM_JOB_ID", 0)) % PORTS
    os.environ.update(
        RANK=rank,
        WORLD_SIZE=size,
        LOCAL_RANK=str(local % max(1, torch.cuda.device_count())) if torch.cuda.is_available() else str(local),
        MASTER_ADDR=address,
        MASTER_PORT=os.environ.get("MASTER_PORT") or str(port),
    )


def _first_host(nodes: str) -> str:
    """The first name that a list such as ``gpu[03-05,9]`` stands for."""
    try:
        shown = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
        return shown.stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise UserError(
            f"--launcher slurm: 'scontrol show hostnames {nodes}' does not work here: set MASTER_ADDR to the name of "
            "the first machine"
        ) from error
