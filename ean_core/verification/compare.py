"""All strategies on one supernet at an equal number of evaluations, over several seeds, in one table."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import barrier, is_main_process

from ean_core.errors import UserError
from ean_core.files import read_json_lines, write_atomic
from ean_core.search.log import metrics_of, read_log
from ean_core.search.loop import LOG, STATE, search
from ean_core.search.trained_supernet import Supernet, trained_supernet
from ean_core.stopping import running
from ean_core.strategies import STRATEGIES, find_strategy
from ean_core.verification.compare_report import (
    PICTURE,
    RUNS,
    SUMMARY,
    TABLE,
    Run,
    against_random,
    line_of,
    print_report,
    summary_of,
    write_tables,
)
from ean_core.work_dir import working_in

LINES, EXHAUSTIVE = "compare.jsonl", "exhaustive"
CHUNK = 32  # schemes a step of the exhaustive evaluation: many, because neighbours share their beginnings


def compare(
    cfg: Config,
    names: Sequence[str] = (),
    seeds: int = 5,
    evaluations: int = 96,
    steps: int | None = None,
    exhaustive: bool = False,
) -> dict[str, Any]:
    """Run every strategy ``seeds`` times on one supernet, and write and print what each of them picked.

    A run may evaluate at most ``evaluations`` different schemes, its final one included; meeting a scheme again is
    free, as in every search here, and a run also ends after ``steps``. Each run is a whole search with its own log in
    ``WORK_DIR/compare``. Runs that are finished are not repeated and one that was cut off is continued, so the same
    command can be stopped and given again, also with more seeds or strategies.

    Args:
        cfg: A complete config of a search. Its ``search.strategy`` is used with its options, the other strategies with
            their defaults; ``search.strategies`` may name more, e.g. ``dict(hot=dict(type="enas", lr=1e-2))``.
        names: Strategies; all of them by default.
        seeds: Runs of each strategy.
        evaluations: The budget of a run, in different schemes.
        steps: The longest run; four times the steps that the budget needs without repetitions by default.
        exhaustive: First evaluate every scheme there is (at most 4,096), and tell each pick's place among them. The
            runs then read their scores from that log, so their wall times contain no evaluation.

    Returns:
        ``summary``, by strategy; ``runs``, one entry each; ``space``, the number of all schemes.

    Raises:
        UserError, OSError: What the user can mend.
    """
    per_step = cfg.get("search", {}).get("per_step", 3)
    if seeds < 1 or evaluations <= per_step or (steps is not None and steps < 1):
        raise UserError(
            f"a comparison needs at least one seed, one step, and more than the {per_step} evaluations of a step; got "
            f"{seeds} seeds, {'no limit of' if steps is None else steps} steps, {evaluations} evaluations"
        )
    configs = _configs(cfg, names)
    every = [{"type": EXHAUSTIVE}] if exhaustive else []
    work_dir = Path(cfg.work_dir)
    with (
        running(lambda: "the comparison", lambda: True, option=""),
        working_in(work_dir, (LINES, TABLE, SUMMARY, PICTURE)),
    ):
        supernet = trained_supernet(cfg, [*configs.values(), *every])
        space = 2 ** sum(supernet.blocks)
        limit = steps or 4 * math.ceil(evaluations / per_step)
        truth = _evaluate_all(supernet, work_dir) if exhaustive else None
        caches = [] if truth is None else [truth]

        wanted = [(name, supernet.seed + i) for i in range(seeds) for name in configs]
        lines = read_json_lines(work_dir / LINES)
        known = {(line["key"], line["seed"]): line for line in lines}
        barrier()
        runs = []
        for number, (name, seed) in enumerate(wanted, 1):
            budget = {"per_step": per_step, "evaluations": evaluations, "steps": limit, "cached": bool(caches)}
            key = _key(supernet, {"name": name, "strategy": _defaults(configs[name]) | configs[name], **budget})
            folder = work_dir / RUNS / f"{name}-{seed}-{key}"
            run = known.get((key, seed))
            if run is None:
                run = _run(supernet, configs[name], seed, folder, per_step, evaluations, limit, caches)
                run = {"strategy": name, "seed": seed, **run, "key": key}
                if is_main_process():
                    lines.append(run)
                    write_atomic(work_dir / LINES, "".join(json.dumps(line) + "\n" for line in lines))
                    print(line_of(number, len(wanted), run), flush=True)
            runs.append({**run, **run["metrics"], "log": str(folder / LOG)})
        measured = list(runs[0]["metrics"])
        for run in runs:
            del run["metrics"]
        result = {"space": space, "evaluations": evaluations, "steps": limit, "per_step": per_step, "metrics": measured}
        if truth is not None:
            _rank(runs, truth)
        by_name = {name: [run for run in runs if run["strategy"] == name] for name in configs}
        result |= {"summary": {name: summary_of(own, space) for name, own in by_name.items()}}
        result |= {"against random": against_random(by_name, "reward" if truth is None else "rank"), "runs": runs}
        if is_main_process():
            write_tables(result, work_dir)
            print_report(result, work_dir)
    return result


def _configs(cfg: Config, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Name -> config of the strategies to compare."""
    plan = cfg.get("search", {})
    more = {name: dict(config) for name, config in plan.get("strategies", {}).items()}
    known = {name: {"type": name} for name in STRATEGIES if name != EXHAUSTIVE} | more
    if plan.get("strategy", {}).get("type") in known:
        known[plan.strategy.type] = plan.strategy.to_dict()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"unknown strategy '{unknown[0]}': known are {', '.join(known)}")
    return {name: known[name] for name in dict.fromkeys(names or known)}


def _evaluate_all(supernet: Supernet, work_dir: Path) -> Path:
    """Evaluate every scheme, unless that is done; the log."""
    space = 2 ** sum(supernet.blocks)
    chunk = min(CHUNK, space)
    folder = work_dir / RUNS / f"{EXHAUSTIVE}-{_key(supernet, {})}"
    strategy = supernet.strategy({"type": EXHAUSTIVE}, seed=0)
    if is_main_process():
        print(f"evaluating all {space:,} schemes")
    search(strategy, supernet.evaluator, space // chunk, chunk, folder, resume=True, draw=False, **supernet.common)
    return folder / LOG


def _run(
    supernet: Supernet,
    config: Mapping[str, Any],
    seed: int,
    folder: Path,
    per_step: int,
    evaluations: int,
    steps: int,
    caches: Sequence[Path],
) -> Run:
    """One search, from its beginning or from where it was cut off."""
    whole = not (folder / STATE).is_file()
    start = time.perf_counter()
    result = search(
        supernet.strategy(config, seed),
        supernet.evaluator,
        steps,
        per_step,
        folder,
        resume=True,
        caches=caches,
        draw=False,
        evaluations=evaluations,
        show=False,
        **supernet.common,
    )
    seconds = time.perf_counter() - start if whole else None  # of a run in two parts the whole time is not known
    row = next(result[name] for name in ("most_probable", "best_seen") if result[name]["scheme"] == result["scheme"])
    return {
        "scheme": result["scheme"],
        "picked": result["picked"],
        "reward": result["reward"],
        "metrics": metrics_of(row),
        "sparsity": row["sparsity"],
        "evaluations": result["evaluations"],
        "steps": read_log(folder / LOG)[-1]["step"],
        "seconds": seconds,
        "most probable": result["most_probable"]["scheme"],
    }


def _rank(runs: Sequence[Run], truth: Path) -> None:
    """Add each pick's place among all schemes, by reward; equals share the better place, a failed scheme is last."""
    rewards = {entry["scheme"]: -math.inf if entry["failed"] else entry["reward"] for entry in read_log(truth)}
    for run in runs:
        for name, key in (("rank", "scheme"), ("rank of most probable", "most probable")):
            own = rewards[run[key]]
            run[name] = 1 + sum(reward > own for reward in rewards.values())


def _defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a strategy has by itself: with others its runs are others."""
    parameters = inspect.signature(find_strategy(config["type"])).parameters
    return {name: p.default for name, p in parameters.items() if p.default is not p.empty}


def _key(supernet: Supernet, extra: Mapping[str, Any]) -> str:
    """What the result of a run depends on, besides its seed."""
    common = {**supernet.common, "reward": supernet.common["reward"].config, **extra}
    return hashlib.sha256(json.dumps(common, sort_keys=True, default=str).encode()).hexdigest()[:8]
