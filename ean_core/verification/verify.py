"""Does a searched scheme hold? Paired trainings from scratch of it and of those beside it, and what they show."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ean_core.errors import UserError
from ean_core.figures import save_figure
from ean_core.files import read_json, write_atomic
from ean_core.scale import Engine, engine_of
from ean_core.search.settings import difference
from ean_core.stopping import running
from ean_core.terminal import print_line, print_table
from ean_core.verification.costs import measure_costs, supernet_scores
from ean_core.verification.duration import planned, seconds_of_a_run, spread_so_far
from ean_core.verification.plan import (
    FOUND,
    PLAIN,
    RANDOM,
    Contestant,
    contestants,
    duration,
    plan_in_words,
)
from ean_core.verification.report import finite, summarise, table, verdict, write_runs
from ean_core.verification.runs import RESULT
from ean_core.verification.setup import Search, metric_of, read_search, seen_by_search, training_config
from ean_core.work_dir import begin, working_in

FOLDER, SETTINGS, CONFIG, COSTS, SCORES = "verify", "settings.json", "config.py", "costs.json", "supernet.json"
PLAN = "plan.json"
TABLE, SUMMARY, PICTURE = "verify.csv", "verify.json", "verify.png"
WORK = "ean_core.verification.runs"
TOY, USUAL = (2, 2), (5, 3)
"""Random schemes and seeds without a budget."""


def verify(
    work_dir: str | Path,
    *,
    config: str | None = None,
    random: int | None = None,
    seeds: int | None = None,
    budget: float | None = None,
    schemes: Sequence[str] = (),
    constant: float | None = None,
    logs: Sequence[str | Path] = (),
    engine: str = "local",
    toy: bool = False,
    data_root: str | None = None,
    classes: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train the found network and those beside it with several seeds, test them, and say whether it holds.

    All networks have the same seeds, and with a seed the same order of the data and the same initial weights, as far as
    their parameters are the same (:class:`~ean_core.verification.runs.SameStartHook`). Runs that are finished are
    not repeated and one that was cut off goes on, so the same command can be given again, also with more seeds or
    random schemes. ``verify.csv`` and ``verify.json`` in the work directory are renewed behind every run, and
    ``verify.png`` in the end.

    Args:
        work_dir: A finished search.
        config: A training config in the place of ``search.retrain``, also of another task.
        random: Random schemes.
        seeds: Seeds of every network, from 0 on.
        budget: Seconds; chooses what ``random`` and ``seeds`` leave open.
        schemes: Further schemes.
        constant: Also the found scheme with this mask (:class:`~ean_core.verification.constant.Constant`).
        logs: Further logs of searches on the supernet, whose scores are used for the correlation.
        engine: Where the trainings run: see :func:`ean_core.scale.build_engine`.
        toy: Take the training config's ``toy`` entries; so it is anyway where the search was made with ``--toy``.
        data_root: Instead of the search's data.
        classes: As :func:`~ean_core.engine.load_config` takes it.
        options: Changes to the training config, by dotted name.

    Returns:
        The content of ``verify.json``.

    Raises:
        UserError, OSError: What the user can mend: the search is not finished, the budget is too small, the search has
            seen the test images, the trainings were begun with other settings.
    """
    if (random is not None and random < 0) or (seeds is not None and seeds < 1):
        raise UserError(f"--random must be at least 0 and --seeds at least 1, got {random} and {seeds}")
    folder = Path(work_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"'{folder}' does not exist: name the work directory of a search")
    search = read_search(folder)
    cfg = training_config(search, config, toy=toy, data_root=data_root, classes=classes, options=options)
    places = cfg.pop("engine", None)
    metric, more_is_better = metric_of(cfg)
    toy = toy or "--toy" in search.cfg.searched["options"]
    usual = TOY if toy else USUAL
    home = folder / FOLDER
    with (
        running(lambda: "the verification", lambda: True, option=""),
        working_in(folder, (TABLE, SUMMARY, PICTURE)),
    ):
        _begin(search, cfg, home)
        fixed = contestants(search, cfg, 0, schemes, constant=constant)
        machines = engine_of(engine, places)
        first = _arguments(home, fixed[0], 0, fixed)
        took = seconds_of_a_run(home, {key: first[key] for key in first if key != "keep"}, machines)
        if budget is not None:
            random, seeds = planned(home / PLAN, budget, took, machines.workers, len(fixed), random, seeds)
        random, seeds = usual[0] if random is None else random, usual[1] if seeds is None else seeds
        who = contestants(search, cfg, random, schemes, constant=constant)
        drawn = sum(c.group == RANDOM for c in who)
        sd = spread_so_far(home, who, metric)
        print(plan_in_words(len(fixed), drawn, seeds, took, machines.workers, sd, metric), flush=True)
        report = _Report(folder, who, metric, 1 if more_is_better else -1)
        report.costs = measure_costs(cfg, who, home / COSTS)
        report.supernet = supernet_scores(search, who, logs, home / SCORES)
        report.results = {
            (c.name, seed): found for c in who for seed in range(seeds) if (found := _result(home, c.name, seed))
        }
        _run(home, who, seeds, machines, report, took)
        result = report.write()
        if any(row["n"] for row in result["contestants"]):
            from ean_core.figures.verdict import draw_verdict  # Matplotlib: not before there is a result

            save_figure(draw_verdict(result), folder / PICTURE)
    _show(result, folder)
    return result


class _Report:
    """What is known so far, and the files that say so.

    Args:
        folder: The work directory.
        who: The networks.
        metric: What they are judged by.
        better: 1 where more of it is better, -1 where less is.
    """

    def __init__(self, folder: Path, who: Sequence[Contestant], metric: str, better: int) -> None:
        self.folder, self.who, self.metric, self.better = folder, who, metric, better
        self.results: dict[tuple[str, int], dict[str, Any]] = {}
        self.costs: dict[str, dict[str, float]] = {}
        self.supernet: dict[str, float] = {}

    def write(self) -> dict[str, Any]:
        """Write ``verify.csv`` and ``verify.json``; the content of the latter."""
        runs = [{"contestant": name, "seed": seed, **found} for (name, seed), found in self.results.items()]
        runs.sort(key=lambda run: ([c.name for c in self.who].index(run["contestant"]), run["seed"]))
        values = {
            (run["contestant"], run["seed"]): run["metrics"][self.metric]
            for run in runs
            if math.isfinite(run.get("metrics", {}).get(self.metric, math.nan))
        }
        found = summarise(self.who, values, better=self.better, costs=self.costs, supernet=self.supernet)
        failed = [f"{run['contestant']}, seed {run['seed']}: {run['error']}" for run in runs if run.get("error")]
        words = verdict(found, self.metric, self.better, failed)
        rule = "greater" if self.better > 0 else "less"
        result = {"metric": self.metric, "rule": rule, "verdict": words, **found, "runs": runs}
        write_atomic(self.folder / SUMMARY, json.dumps(finite(result), indent=2, allow_nan=False) + "\n")
        write_runs(self.who, runs, self.folder / TABLE)
        return result


def _begin(search: Search, cfg: Config, home: Path) -> None:
    """Refuse what cannot be compared, and write the config of the trainings."""
    settings = {"result": search.result.get("scheme") or search.result["genotype"], "train_cfg": {}}
    settings |= json.loads(json.dumps(cfg._cfg_dict.to_dict(), default=str))
    path = home / SETTINGS
    if path.is_file() and any(home.glob("*-seed*")):
        changes = difference(read_json(path), settings)
        if changes:
            raise UserError(
                f"the trainings in '{home}' were begun with other settings: {changes}; put it back, or rename that "
                "folder"
            )
        begin()
        return
    seen, number = seen_by_search(search, cfg)
    if seen:
        raise UserError(
            f"{len(seen)} of the {number} test images are in D_val, by which the search has chosen (first: {seen[0]}): "
            "test on others, by --data-root or the config's own words such as --cfg-options val_list=NAME, or search "
            "on others"
        )
    begin()
    write_atomic(home / CONFIG, cfg.pretty_text)
    write_atomic(path, json.dumps(settings, indent=2) + "\n")


def _run(home: Path, who: Sequence[Contestant], seeds: int, engine: Engine, report: _Report, took: float) -> None:
    """Do the trainings that are not done, seed by seed, with a line behind each."""
    todo = [(c, seed) for seed in range(seeds) for c in who if (c.name, seed) not in report.results]
    total, known = len(who) * seeds, list[float]()
    if len(todo) < total:
        print(f"{total - len(todo)} of {total} runs are done already", flush=True)
    arguments = [_arguments(home, c, seed, who) for c, seed in todo]
    width = max(len(c.name) for c in who)
    for number, outcome in enumerate(engine.run(f"{WORK}:train_one", arguments), 1):
        c, seed = todo[outcome.index]
        report.results[c.name, seed] = outcome.value if outcome.value else {"error": outcome.error}
        report.write()
        left = len(todo) - number
        known.append((outcome.value or {}).get("seconds") or took)
        what = f"failed: {outcome.error}"
        if outcome.value:
            seconds = outcome.value["seconds"]
            what = f"{report.metric} {outcome.value['metrics'].get(report.metric, math.nan):.2f}"
            what += "" if seconds is None else f"  {seconds:.1f} s"
        line = f"{total - left:>{len(str(total))}}/{total}  {c.name:<{width}}  seed {seed}  {what}"
        rest = math.ceil(left / engine.workers) * statistics.fmean(known)
        print(line + (f"  left {duration(rest)}" if left else ""), flush=True)


def _arguments(home: Path, c: Contestant, seed: int, who: Sequence[Contestant]) -> dict[str, Any]:
    """Of :func:`ean_core.verification.runs.train_one`."""
    reference = next((other for other in who if other.name in PLAIN), who[0])
    return {
        "config": str(home / CONFIG),
        "folder": str(home / f"{c.name}-seed{seed}"),
        "seed": seed,
        "backbone": c.backbone,
        "reference": reference.backbone,
        "keep": c.name == FOUND,
    }


def _result(home: Path, name: str, seed: int) -> dict[str, Any] | None:
    path = home / f"{name}-seed{seed}" / RESULT
    return read_json(path) if path.is_file() else None


def _show(result: Mapping[str, Any], folder: Path) -> None:
    """The table, the verdict and the files."""
    print_table(f"{result['metric']} on the test images", table(result))
    print("\n".join(result["verdict"]))
    for label, name in (("summary", SUMMARY), ("runs", TABLE), ("picture", PICTURE), ("trainings", FOLDER)):
        print_line(label, folder / name)
