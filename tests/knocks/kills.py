"""Runs that are killed, at a file event or at any moment, resumed, and compared with the uninterrupted one."""

import signal
import time
from pathlib import Path
from random import Random

from knocks.answers import Fault
from knocks.forked import Child, Ended
from knocks.runs import PROGRAMS, finish, require_no_parts, require_same, resume, start
from knocks.world import COMPARED, World

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def knock(world: World, folder: Path, random: Random) -> None:
    """Kill a run once or more often, then let it end.

    Every second kill comes at a random file event, where the same number kills at the same place again; the others at
    a random time, so also in the middle of a write.
    """
    name = random.choice(COMPARED)
    program, reference = PROGRAMS[name], world.references[name]
    work_dir = folder / "work"
    work_dir.mkdir()
    for kill in range(random.choice((1, 1, 2, 3))):
        number = random.choice(SIGNALS)
        by_event, share = random.random() < 0.5, random.random()
        argv = program.argv(world.data, work_dir, *(["--resume"] if kill and can_resume(work_dir) else []))
        if by_event:
            event = 1 + int(share * reference.events)
            ended = finish(start(program, argv, work_dir, folder, (number, event)))
        else:
            child = start(program, argv, work_dir, folder)
            time.sleep(share * reference.seconds)
            ended = stop(child, number)
        require_stopped(ended, number)
        if number != signal.SIGKILL:
            require_no_parts(work_dir)
    resume(name, world.data, work_dir, folder)
    require_same(work_dir, reference.work_dir)


def can_resume(work_dir: Path) -> bool:
    """Whether somebody would resume: something was saved."""
    return any(work_dir.rglob("*.pth"))


def stop(child: Child, number: int) -> Ended:
    """Send a signal and wait."""
    child.signal(number)
    return finish(child)


def require_stopped(ended: Ended, number: int) -> None:
    """A run that was sent a signal ends by it, in one line at most, or had ended before."""
    if ended.status == 2 and "nothing to resume" in ended.err:
        return
    if ended.status not in (0, -number, 128 + number):
        raise Fault("wrong", f"after signal {number} the status is {ended.status}: {ended.err[-300:]!r}")
    if "Traceback" in ended.err or ended.err.count("\n") > 1:
        raise Fault("traceback", f"after signal {number}: {ended.err[-300:]!r}")
