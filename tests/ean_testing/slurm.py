"""Slurm where there is none: its variables, and a ``scontrol`` that knows one list of machines."""

import os
from pathlib import Path

from ean_testing.fresh import CONTEXT, Ran, run_program

NODES = "gpu[03-04]"


def make_scontrol(folder: Path) -> None:
    """A program that expands ``NODES`` to this machine and another one."""
    program = folder / "scontrol"
    program.write_text(f"""#!/bin/sh
[ "$1 $2 $3" = "show hostnames {NODES}" ] || {{ echo "unknown: $*" >&2; exit 1; }}
echo 127.0.0.1
echo gpu04
""")
    program.chmod(0o755)


def run_task(rank: int, folder: Path, job: int, program: Path, *arguments: str) -> Ran:
    """One of two processes that srun would start, with `scontrol` in a folder."""
    os.environ.update(
        SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), SLURM_NTASKS="2", SLURM_NODELIST=NODES, SLURM_JOB_ID=str(job)
    )
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return run_program(program, *arguments)


def run_two_tasks(folder: Path, job: int, program: Path, *arguments: str) -> list[Ran]:
    """What ``srun --ntasks=2`` does."""
    with CONTEXT.Pool(2) as pool:
        calls = [(rank, folder, job, program, *arguments) for rank in (0, 1)]
        return pool.starmap_async(run_task, calls, chunksize=1).get(timeout=240)
