"""Two runs that are started in one work directory: the second is refused, and the first does not notice."""

import time
from pathlib import Path
from random import Random

from knocks.answers import Fault
from knocks.runs import PROGRAMS, answer, finish, require_no_parts, require_same, start
from knocks.world import COMPARED, World


def knock(world: World, folder: Path, random: Random) -> None:
    """Start a run, and at a random time of it another one, new or resumed, of the same kind or another."""
    first = random.choice(COMPARED)
    second = random.choice((first, first, *COMPARED))
    reference = world.references[first]
    work_dir = folder / "work"
    work_dir.mkdir()
    one = start(PROGRAMS[first], PROGRAMS[first].argv(world.data, work_dir), work_dir, folder)
    time.sleep(0.3 + random.random() * 0.8 * reference.seconds)
    more = ["--resume"] if random.random() < 0.5 else []
    over = one.poll()
    two = start(PROGRAMS[second], PROGRAMS[second].argv(world.data, work_dir, *more), work_dir, folder)
    said, answered = answer(finish(two)), not one.poll()
    kept = answer(finish(one))
    if kept.message is not None:
        raise Fault("wrong", f"the first run was refused: {kept.message[:300]}")
    if over or (said.message is None and not answered):
        return  # the first was over before the second began to write
    if said.message is None:
        raise Fault("wrong", f"a second run ({second}) ended well beside the first ({first})")
    if "nothing to resume" not in said.message and str(work_dir) not in said.message:
        raise Fault("wrong", f"the message does not name the work directory: {said.message[:300]}")
    require_no_parts(work_dir)
    require_same(work_dir, reference.work_dir)
