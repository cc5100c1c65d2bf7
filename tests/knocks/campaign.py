"""Try to break the project, thousands of times, and list what broke.

    python tests/knocks/campaign.py --minutes 15 --seed 1
    python tests/knocks/campaign.py --only kills --minutes 5
    python tests/knocks/campaign.py --case kills:17          # once more, with all that it says

A case's random choices are a function of the seed, its kind and its number. Docs: docs/reliability.md.
"""

import argparse
import contextlib
import gc
import io
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from random import Random
from typing import NamedTuple

if __name__ == "__main__":  # one thread a process; before anything is imported that starts some
    os.environ.update({f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")})
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from knocks import disks, entries, files, kills, properties, side_by_side
from knocks.answers import Fault, last_line
from knocks.forked import Child
from knocks.runs import be_quick
from knocks.world import COMPARED, World, make_world

Knock = Callable[[World, Path, Random], int | None]
WORKERS = 2
GRACE = 5.0  # seconds that the last cases have behind the end
IMPORTS = (
    "matplotlib.pyplot", "matplotlib.backends.backend_agg", "onnx", "setuptools", "classification.application",
    "classification.classifier", "crowd_counting.application", "segmentation.application", "segmentation.transforms",
    "mmseg.visualization", "torch._dynamo",
)  # fmt: skip


class Kind(NamedTuple):
    """A kind of knock: what it does, its share of the time, and the seconds that a case may take.

    A case may make many tries and tell their number; it ends with the first that is answered badly.
    """

    knock: Knock
    share: float
    limit: float


KINDS = {
    "files": Kind(files.knock, 0.08, 30),
    "properties": Kind(properties.knock, 0.08, 60),
    "entries": Kind(entries.knock, 0.27, 60),
    "resumed": Kind(files.knock_run, 0.12, 120),
    "kills": Kind(kills.knock, 0.25, 240),
    "disks": Kind(disks.knock, 0.12, 240),
    "together": Kind(side_by_side.knock, 0.08, 240),
}


class Case(NamedTuple):
    """One knock."""

    kind: str
    number: int


class Result(NamedTuple):
    """How a case ended: ``"well"``, ``"traceback"`` or ``"wrong"``; what was found; how many were answered well."""

    case: Case
    verdict: str
    what: str
    well: int = 0


class Running(NamedTuple):
    """A case in a process of its own."""

    case: Case
    child: Child
    folder: Path


def choose(seed: int, case: Case) -> Random:
    """The random choices of a case."""
    return Random(f"{seed} {case.kind} {case.number}")


def knock(world: World, seed: int, case: Case, folder: Path) -> tuple[str, str, int]:
    """One case, in a process of its own: its verdict, what was found, and how many were answered well."""
    try:
        tries = KINDS[case.kind].knock(world, folder, choose(seed, case))
    except Fault as fault:
        return fault.kind, str(fault).replace(str(folder), ""), fault.before
    except BaseException as error:
        traceback.print_exc()
        return "traceback", f"in the campaign: {last_line(error)}", 0
    return "well", "", tries or 1


def begin(world: World, seed: int, case: Case, folder: Path) -> Running:
    """Start a case in a folder of its own."""
    own = Path(tempfile.mkdtemp(dir=folder, prefix=f"{case.kind}{case.number}-"))
    (own / "place").mkdir()
    return Running(case, Child(lambda: knock(world, seed, case, own / "place"), own, leader=True), own)


def result_of(running: Running) -> Result | None:
    """The result of a case, or ``None`` while it goes on; one that takes too long is ended."""
    case, child, folder = running
    over = child.poll()
    if not over and child.seconds() < KINDS[case.kind].limit:
        return None
    child.kill()
    ended = child.ended()
    shutil.rmtree(folder, ignore_errors=True)
    if not over:
        return Result(case, "wrong", f"hang: more than {KINDS[case.kind].limit:.0f} s")
    if ended.result is None:
        return Result(case, "wrong", f"its process died, status {ended.status}: {ended.err[-200:]!r}")
    return Result(case, *ended.result)


def campaign(world: World, kinds: Sequence[str], seconds: float, seed: int, folder: Path) -> list[Result]:
    """Knock until the time is over; the kind that has had least of its share comes next.

    A case that still goes on at the end is ended, and counts for nothing.
    """
    spent, numbers = dict.fromkeys(kinds, 0.0), Counter[str]()
    results: list[Result] = []
    running: list[Running] = []
    start = said = time.monotonic()
    while running or time.monotonic() < start + seconds:
        left = start + seconds - time.monotonic()
        if left < -GRACE:
            break
        if len(running) < WORKERS and left > 0:
            open_kinds = [kind for kind in kinds if typical(results, spent, kind) < left]
            if open_kinds:
                kind = min(open_kinds, key=lambda kind: (spent[kind] + pending(running, kind)) / KINDS[kind].share)
                running.append(begin(world, seed, Case(kind, numbers[kind]), folder))
                numbers[kind] += 1
        for one in list(running):
            if (result := result_of(one)) is not None:
                running.remove(one)
                spent[one.case.kind] += one.child.seconds()
                results.append(result)
        if time.monotonic() > said + 30:
            said = time.monotonic()
            bad = sum(result.verdict != "well" for result in results)
            tried = sum(result.well for result in results) + bad
            print(f"{said - start:4.0f} s: {tried:,} tried, {bad} answered badly", flush=True)
        time.sleep(0.002)
    for one in running:
        one.child.kill()
        shutil.rmtree(one.folder, ignore_errors=True)
    return results


def pending(running: Sequence[Running], kind: str) -> float:
    """Seconds that the running cases of a kind have taken, a small one at least."""
    return sum(one.child.seconds() + 0.01 for one in running if one.case.kind == kind)


def typical(results: Sequence[Result], spent: dict[str, float], kind: str) -> float:
    """Seconds that a case of a kind takes, so that none is begun that would not end in time."""
    done = sum(result.case.kind == kind for result in results)
    return spent[kind] / done if done else 0.0


def table(results: Sequence[Result], skipped: dict[str, str]) -> str:
    """The results in Markdown, and how to repeat what broke."""
    rows = ["| knock | tried | answered well | traceback | wrong |", "|---|--:|--:|--:|--:|"]
    for kind in (*KINDS, "all"):
        own = [result for result in results if kind in (result.case.kind, "all")]
        counts = Counter(result.verdict for result in own)
        well, bad = sum(result.well for result in own), [counts["traceback"], counts["wrong"]]
        if own:
            rows.append(f"| {kind} | " + " | ".join(f"{number:,}" for number in (well + sum(bad), well, *bad)) + " |")
    rows += [f"\nnot tried: {kind}: {why}" for kind, why in skipped.items()]
    bad = sorted((result for result in results if result.verdict != "well"), key=lambda result: result.what)
    rows += [f"\n--case {result.case.kind}:{result.case.number}  {result.verdict}: {result.what}" for result in bad]
    return "\n".join(rows)


def unavailable(kinds: Sequence[str], folder: Path) -> dict[str, str]:
    """The kinds that cannot be tried here, and why."""
    if "disks" not in kinds:
        return {}
    child = Child(lambda: disks.why_not(folder), folder)
    child.wait(30)
    why = child.ended().result
    return {"disks": why} if why else {}


@contextlib.contextmanager
def imported() -> Iterator[None]:
    """Import what the cases need, so that their processes share it."""
    for name in IMPORTS:
        import_module(name)
    from segmentation.stack import import_mmseg

    import_mmseg()
    be_quick()
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()  # else extension modules report what is left at exit as leaked


def make(folder: Path, kinds: Sequence[str]) -> World:
    """The data, and the reference runs that these kinds of knocks take."""
    from crowd_counting.toy_crowds import make_toy_crowd

    programs = COMPARED if {"resumed", "kills", "disks", "together"} & set(kinds) else ()
    with contextlib.redirect_stdout(io.StringIO()):
        world = make_world(folder / "world", programs or ("search",) * ("entries" in kinds))
        make_toy_crowd(world.data / "made", train=10, test=4, size=(96, 128)).rename(world.data / "crowd")
    return world


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, knock, print the table; 1 if anything was answered badly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=KINDS, action="append", help="this kind alone; may be given several times")
    parser.add_argument("--case", help="KIND:NUMBER: one case again, in this process, with all that it says")
    args = parser.parse_args(argv)
    start = time.monotonic()
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    kinds = [args.case.partition(":")[0]] if args.case else args.only or list(KINDS)
    with tempfile.TemporaryDirectory(prefix="knocks-", dir=place) as name, imported():
        folder = Path(name)
        world = make(folder, kinds)
        if args.case:
            return repeat(world, args.seed, args.case, folder)
        skipped = unavailable(kinds, folder)
        kinds = [kind for kind in kinds if kind not in skipped]
        seconds = 60 * args.minutes - (time.monotonic() - start) - GRACE
        results = campaign(world, kinds, seconds, args.seed, folder)
    print(f"seed {args.seed}, {len(results):,} processes in {(time.monotonic() - start) / 60:.1f} minutes\n")
    print(table(results, skipped))
    return int(any(result.verdict != "well" for result in results))


def repeat(world: World, seed: int, name: str, folder: Path) -> int:
    """One case again, in this process, with all that it says."""
    kind, _, number = name.partition(":")
    place = folder / "place"
    place.mkdir()
    verdict, what, well = knock(world, seed, Case(kind, int(number)), place)
    print(f"{name} (seed {seed}): {well} answered well; {verdict} {what}")
    return int(verdict != "well")


if __name__ == "__main__":
    sys.exit(main())
