"""Runs of the tools in one process."""

from itertools import count

_numbers = count()


def new_name() -> str:
    """A config option: MMEngine mixes up the logs of runs in one process that have one name and begin in one second."""
    return f"experiment_name=run{next(_numbers)}"
