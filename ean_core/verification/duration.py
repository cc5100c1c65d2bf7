"""How long a run of a verification takes, and how much its differences vary, before it is done."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ean_core.analysis.paired import compare_paired
from ean_core.errors import UserError
from ean_core.files import read_json, write_atomic
from ean_core.scale import Engine
from ean_core.verification.plan import FOUND, Contestant, choose
from ean_core.verification.runs import RESULT


def seconds_of_a_run(home: Path, arguments: Mapping[str, Any], engine: Engine) -> float:
    """The mean of the runs that are done, or else of calibrations with all workers busy.

    Args:
        home: The folder of the runs.
        arguments: Of :func:`ean_core.verification.runs.calibrate`, without the folder.
        engine: What will do the runs.

    Raises:
        UserError: A training cannot be begun.
    """
    results = [read_json(path) for path in sorted(home.glob(f"*/{RESULT}"))]
    known = [result["seconds"] for result in results if result.get("seconds")]
    if known:
        return statistics.fmean(known)
    print("timing some iterations of the training ...", flush=True)
    folders = [home / f"calibration{i}" for i in range(engine.workers)]
    try:
        tasks = [{**arguments, "folder": str(folder)} for folder in folders]
        outcomes = list(engine.run("ean_core.verification.runs:calibrate", tasks))
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    times = [float(outcome.value) for outcome in outcomes if outcome.value]
    if not times:
        raise UserError(f"a training cannot be begun: {outcomes[0].error}")
    return statistics.fmean(times)


def planned(
    path: Path, budget: float, took: float, workers: int, fixed: int, random: int | None, seeds: int | None
) -> tuple[int, int]:
    """The numbers of random schemes and seeds for a budget: those of an earlier call with the same wishes, if any.

    A verification that is given again would otherwise choose others, as its runs have shown how long they take.

    Args:
        path: Where the numbers are kept.
        budget: As :func:`~ean_core.verification.plan.choose` takes it, and all that follow.
        took: Seconds of a run.
        workers: Runs at once.
        fixed: Networks beside the random ones.
        random: The number of random schemes, if it is not to be chosen.
        seeds: The number of seeds, if it is not to be chosen.

    Raises:
        UserError: The budget is too small.
    """
    wishes = {"budget": budget, "random": random, "seeds": seeds, "fixed": fixed}
    known = read_json(path) if path.is_file() else {}
    if known.get("wishes") == wishes:
        return known["random"], known["seeds"]
    random, seeds = choose(budget, took, workers, fixed, random, seeds)
    write_atomic(path, json.dumps({"wishes": wishes, "random": random, "seeds": seeds}, indent=2) + "\n")
    return random, seeds


def spread_so_far(home: Path, who: Sequence[Contestant], metric: str) -> float | None:
    """The pooled standard deviation of the differences found - other in the runs that are done; ``None`` for none.

    Args:
        home: The folder of the runs.
        who: The networks, the found one first.
        metric: What they are judged by.
    """
    values: dict[str, dict[int, float]] = {c.name: {} for c in who}
    for c in who:
        for path in home.glob(f"{c.name}-seed*/{RESULT}"):
            values[c.name][int(path.parent.name.rpartition("seed")[2])] = read_json(path)["metrics"][metric]
    total, freedom = 0.0, 0
    for c in who[1:]:
        seeds = sorted(values[FOUND].keys() & values[c.name].keys())
        if len(seeds) > 1:
            pair = compare_paired([values[FOUND][s] for s in seeds], [values[c.name][s] for s in seeds])
            total += (pair.difference.sd or 0.0) ** 2 * (len(seeds) - 1)
            freedom += len(seeds) - 1
    return math.sqrt(total / freedom) if total else None
