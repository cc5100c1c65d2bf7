"""What a comparison of strategies shows: tables, paired tests, the picture."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from ean_core.analysis.correlation import compare_groups
from ean_core.analysis.paired import holm
from ean_core.figures import save_figure
from ean_core.files import write_atomic, write_csv
from ean_core.search.log import read_log
from ean_core.terminal import print_line

RUNS, TABLE, SUMMARY, PICTURE = "compare", "compare.csv", "compare.json", "compare.png"
RANDOM = "random"
Run = dict[str, Any]


def summary_of(runs: Sequence[Run], space: int) -> dict[str, Any]:
    """Mean and sample standard deviation over the runs of a strategy."""
    row: dict[str, Any] = {"runs": len(runs)}
    for name, value in runs[0].items():
        if isinstance(value, int | float) and name != "seed":
            values = [run[name] for run in runs]
            complete = all(v is not None and math.isfinite(v) for v in values)
            row[name] = statistics.fmean(values) if complete else None
            row[f"{name} sd"] = statistics.stdev(values) if complete and len(values) > 1 else None
    if "rank" in runs[0]:
        ranks = [run["rank"] for run in runs]
        row |= {"worst rank": max(ranks), "in the top 2 %": sum(rank <= 0.02 * space for rank in ranks)}
    return row


def against_random(runs: Mapping[str, Sequence[Run]], label: str) -> dict[str, Any]:
    """Every strategy against random search: Welch's t test, as runs of equal seeds have nothing in common, and Holm.

    Args:
        runs: By strategy.
        label: What is compared.

    Returns:
        By strategy the ``difference`` of the means, ``p`` and ``holm``, which are ``None`` where neither varies.
    """
    if RANDOM not in runs or len(runs[RANDOM]) < 2:
        return {}
    values = {name: [float(run[label]) for run in own] for name, own in runs.items()}
    names = [name for name in runs if name != RANDOM]
    vary = {name: len(set(values[name])) > 1 or len(set(values[RANDOM])) > 1 for name in names}
    ps = [compare_groups(values[name], values[RANDOM]).p if vary[name] else None for name in names]
    return {
        name: {
            "measured": label,
            "difference": statistics.fmean(values[name]) - statistics.fmean(values[RANDOM]),
            "p": p,
            "holm": corrected,
        }
        for name, p, corrected in zip(names, ps, holm(ps), strict=True)
    }


def write_tables(result: Mapping[str, Any], work_dir: Path) -> None:
    """Write ``compare.json``, ``compare.csv`` and ``compare.png``."""
    runs = result["runs"]
    write_atomic(work_dir / SUMMARY, json.dumps(result, indent=2) + "\n")
    write_csv(work_dir / TABLE, list(dict.fromkeys(name for run in runs for name in run)), runs)
    curves: dict[str, list[list[float]]] = {name: [] for name in result["summary"]}
    picks: dict[str, list[float]] = {name: [] for name in result["summary"]}
    label = "rank" if "rank" in runs[0] else "reward"
    for run in runs:
        curves[run["strategy"]].append(best_so_far(Path(run["log"])))
        picks[run["strategy"]].append(run[label])
    from ean_core.figures.strategy_comparison import strategy_comparison  # Matplotlib: not before there is a result

    save_figure(strategy_comparison(curves, picks, label, result["space"]), work_dir / PICTURE)


def best_so_far(log: Path) -> list[float]:
    """The highest reward after 1, 2, ... evaluations of different schemes; NaN before the first that succeeded."""
    seen: set[str] = set()
    curve: list[float] = []
    best = math.nan
    for entry in read_log(log):
        if entry["scheme"] not in seen:
            seen.add(entry["scheme"])
            if not entry["failed"] and not entry["reward"] <= best:
                best = entry["reward"]
            curve.append(best)
    return curve


def print_report(result: Mapping[str, Any], work_dir: Path) -> None:
    """The table (mean and standard deviation over the seeds) and where everything lies."""
    ranked = "rank" in result["runs"][0]
    columns = {"rank": "rank"} if ranked else {}
    columns |= {"reward": "reward", **{name: name for name in result["metrics"]}}
    columns |= {"sparsity": "sparsity", "evaluations": "evals", "seconds": "wall s"}
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0), show_edge=False)
    most = max(row["runs"] for row in result["summary"].values())
    table.title = f"{most} runs each, of at most {result['evaluations']} different schemes out of {result['space']:,}"
    for header in ("", *columns.values(), *(["top 2 %"] if ranked else [])):
        table.add_column(header, justify="right" if header else "left")
    for name, row in result["summary"].items():
        cells = []
        for column in columns:
            mean, sd = row.get(column), row.get(f"{column} sd")
            cells.append("-" if mean is None else f"{mean:.2f}" + ("" if sd is None else f"\n± {sd:.2f}"))
        table.add_row(name, *cells, *([f"{row['in the top 2 %']}/{row['runs']}"] if ranked else []))
    Console(width=max(80, Console().width)).print(table)
    for name, row in result["against random"].items():
        chance = "no spread" if row["p"] is None else f"p = {row['p']:.2g}, Holm {row['holm']:.2g}"
        print(f"{name} - random: {row['difference']:+.2f} {row['measured']}, {chance}")
    if ranked:
        print("rank: the pick's place among all schemes, by reward; wall times without evaluations (scores known)")
    for label, name in (("summary", SUMMARY), ("runs", TABLE), ("picture", PICTURE), ("logs", RUNS)):
        print_line(label, work_dir / name)


def line_of(number: int, total: int, run: Run) -> str:
    """What a run has found, on the terminal."""
    seconds = "" if run["seconds"] is None else f", {run['seconds']:.1f} s"
    return (
        f"{number:>{len(str(total))}}/{total}  {run['strategy']} seed {run['seed']}: reward {run['reward']:.3f}, "
        f"{run['scheme']}, {run['evaluations']} evaluations{seconds}"
    )
