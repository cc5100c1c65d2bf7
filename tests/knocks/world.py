"""What the knocks on runs share: data sets, and uninterrupted runs to compare with, made once."""

from pathlib import Path
from typing import NamedTuple

from knocks.runs import Reference, make_data, make_reference

COMPARED = ("train", "search", "cells")  # the programs that are killed, and resumed


class World(NamedTuple):
    """Data sets, and the uninterrupted runs by program."""

    data: Path
    references: dict[str, Reference]


def make_world(folder: Path, programs: tuple[str, ...] = COMPARED) -> World:
    """Make them in a folder."""
    (folder / "data").mkdir(parents=True)
    data = make_data(folder / "data")
    return World(data, {name: make_reference(name, data, folder / "references") for name in programs})
