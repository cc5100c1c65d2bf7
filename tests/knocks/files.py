"""Damaged files: each format by its reader, and the files of a run by the tools that go on with it."""

import contextlib
import io
import shutil
import tempfile
from pathlib import Path
from random import Random

from ean_core.checkpoint import read_checkpoint, write_checkpoint
from knocks import formats
from knocks.answers import Fault
from knocks.damage import damaged, with_wrong_value
from knocks.runs import PROGRAMS, answer, finish, require_no_parts, require_same, start
from knocks.world import World

# The files that a resumed run reads. What a changed letter does to those in JSON cannot be noticed.
RESUMED = {
    "train": ("last.pth", "best.pth", "history.jsonl"),
    "search": ("search_state.pth", "search.jsonl", "supernet/last.pth", "supernet/settings.json", "scheme.json"),
    "cells": ("cells_state.pth", "cells.jsonl", "genotype.json"),
}


TRIES = 30


def knock(world: World, folder: Path, random: Random) -> int:
    """Damage a file and read it, many times."""
    for done in range(TRIES):
        name = random.choice(list(formats.FORMATS))
        with tempfile.TemporaryDirectory(dir=folder) as place, contextlib.redirect_stdout(io.StringIO()):
            try:
                formats.knock(name, Path(place), random)
            except Fault as fault:
                fault.before = done
                raise
    return TRIES


def knock_run(world: World, folder: Path, random: Random) -> None:
    """Damage a file of a run, or a value in a checkpoint of it, and resume the run."""
    program = random.choice(list(RESUMED))
    reference = world.references[program]
    work_dir = folder / "work"
    shutil.copytree(reference.work_dir, work_dir)
    name = random.choice(RESUMED[program])
    path = work_dir / name
    inside = path.suffix == ".pth" and random.random() < 0.5
    if inside:
        write_checkpoint(with_wrong_value(read_checkpoint(path), random), path)
    else:
        path.write_bytes(damaged(path.read_bytes(), random))
    kept = path.read_bytes()
    argv = PROGRAMS[program].argv(world.data, work_dir, "--resume")
    said = answer(finish(start(PROGRAMS[program], argv, work_dir, folder)))
    require_no_parts(work_dir)
    if said.message is not None:
        if not any(words in said.message for words in (path.name, "cannot resume", "other settings")):
            raise Fault("wrong", f"the message does not name {name}: {said.message[:300]}")
        if path.read_bytes() != kept:
            raise Fault("wrong", f"{name} was refused, and changed: {said.message[:200]}")
    elif path.suffix == ".pth" and not inside and name != "best.pth":
        require_same(work_dir, reference.work_dir)
