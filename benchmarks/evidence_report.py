"""What the files of benchmarks/evidence.py show (docs/evidence.md): correlations, picks, and strategies on the truth.

Only schemes that every seed of a question has are compared, so it can be run while the trainings go on.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from evidence import read_rows
from matplotlib.figure import Figure

from ean_core.analysis.correlation import Values, correlate, pearson
from ean_core.analysis.paired import compare_paired, holm
from ean_core.engine.cli import command, make_parser
from ean_core.errors import UserError
from ean_core.figures import save_figure
from ean_core.figures.supernet_correlation import draw_correlation
from ean_core.search.loop import search
from ean_core.search.reward import Reward, Term
from ean_core.strategies import build_strategy

STRATEGIES = ("policy_gradient", "random", "hsp", "genetic", "enas")
Table = dict[str, dict[int, float]]  # scheme -> seed -> accuracy


def truth_of(path: Path, epochs: str) -> dict[str, Table]:
    """The stand-alone accuracies of a file, by attention."""
    tables: dict[str, Table] = defaultdict(lambda: defaultdict(dict))
    for row in read_rows(path):
        if row["epochs"] == epochs:
            tables[row["attention"]][row["scheme"]][int(row["seed"])] = float(row["top1"])
    return tables


def means_of(table: Table, seeds: Sequence[int]) -> dict[str, float]:
    """The mean of the schemes that have all these seeds."""
    return {s: statistics.fmean(v[i] for i in seeds) for s, v in table.items() if set(seeds) <= v.keys()}


def variances(table: Table, seeds: Sequence[int]) -> None:
    """How much schemes differ, and seeds of one scheme: the reliability bounds every correlation."""
    whole = [[values[i] for i in seeds] for values in table.values() if set(seeds) <= values.keys()]
    centred = [[v - statistics.fmean(column) for v in column] for column in zip(*whole, strict=True)]
    rows = list(zip(*centred, strict=True))  # without what a seed does to all schemes alike
    within = statistics.fmean(statistics.variance(row) for row in rows)
    between = max(0.0, statistics.variance([statistics.fmean(row) for row in rows]) - within / len(seeds))
    print(
        f"{len(rows)} schemes x {len(seeds)} seeds: between schemes sd {between**0.5:.2f}, between seeds of one scheme "
        f"{within**0.5:.2f}, reliability of the means {between / (between + within / len(seeds)):.2f}"
    )


def slope_of(truth: Mapping[str, float]) -> None:
    """How the means go with the number of connections."""
    count, means = np.array([name.count("1") for name in truth]), np.array(list(truth.values()))
    slope, _ = _without(count, means)
    r = pearson(count, means)
    print(f"alone: {slope:+.2f} points a connection, r = {r:.2f} with their number")


def correlations(truth: Mapping[str, float], scores: Mapping[tuple[str, ...], Mapping[str, float]]) -> Figure:
    """(a) Every supernet's scores with the stand-alone means, and how both go with the number of connections."""
    columns = math.ceil(math.sqrt(len(scores)))
    figure = Figure(figsize=(4 * columns, 4 * math.ceil(len(scores) / columns)), layout="constrained")
    panels = iter(figure.subplots(math.ceil(len(scores) / columns), columns, squeeze=False).flat)
    print(
        "| p | epochs | seed | norms | n | Pearson | Kendall | r among equally many | points a connection |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    for key, own in sorted(scores.items(), key=lambda item: tuple(map(float, item[0]))):
        names = [name for name in truth if name in own]
        x, y = np.array([own[name] for name in names]), np.array([truth[name] for name in names])
        count = np.array([name.count("1") for name in names])
        found = correlate(x.tolist(), y.tolist())
        (slope, rest), (_, true_rest) = _without(count, x), _without(count, y)
        p, epochs, seed, calibration = key
        norms = f"renewed, {calibration} batches" if int(calibration) else "as stored"
        r, tau = (f"{v:.2f} [{low:.2f}, {high:.2f}]" for v, (low, high) in (
            (found.pearson, found.pearson_interval), (found.kendall, found.kendall_interval)))  # fmt: skip
        print(
            f"| {p} | {epochs} | {seed} | {norms} | {found.n} | {r} | {tau} | {pearson(rest, true_rest):.2f} "
            f"| {slope:+.2f} |"
        )
        title = f"p {p}, {epochs} epochs, seed {seed}\nnorms {norms}"
        draw_correlation(next(panels), {**asdict(found), "supernet": x, "alone": y}, "top-1 in %", title)
    for panel in panels:
        panel.remove()
    return figure


def _without(count: Values, values: Values) -> tuple[float, Values]:
    """The slope of values over the number of connections, and what the line leaves."""
    slope, start = np.polyfit(count, values, 1)
    return float(slope), values - slope * count - start


def picks(table: Table, pick: str, seeds: Sequence[int]) -> None:
    """(b) A pick against all that has been trained with all these seeds, other attention too, paired."""
    whole = {name: [values[i] for i in seeds] for name, values in table.items() if set(seeds) <= values.keys()}
    if pick not in whole:
        raise UserError(f"the pick {pick} has not been trained with the seeds {list(seeds)}")
    others = [name for name in whole if name != pick]
    tests = [compare_paired(whole[pick], whole[name]) for name in others]
    print(f"{pick}: {statistics.fmean(whole[pick]):.2f}")
    print("| other | mean | pick - other | p (Holm) |\n|---|---|---|---|")
    for name, test, p in zip(others, tests, holm([test.p for test in tests]), strict=True):
        d = test.difference
        interval = "" if d.low is None else f" [{d.low:+.2f}, {d.high:+.2f}]"
        corrected = "-" if p is None else f"{p:.2g}"
        print(f"| {name} | {statistics.fmean(whole[name]):.2f} | {d.mean:+.2f}{interval} | {corrected} |")


def strategies(truth: Mapping[str, float], evaluations: int, seeds: int) -> None:
    """(c) The rank of what each strategy answers when its rewards are the stand-alone means."""
    blocks = tuple(map(len, next(iter(truth)).split("-")))
    if len(truth) < 2 ** sum(blocks):
        print(f"strategies: {len(truth)} of {2 ** sum(blocks)} schemes are trained; all are needed")
        return
    reward = Reward((Term("accuracy"),), offset=0.0)
    print("| strategy | rank | worst | best found |\n|---|---|---|---|")
    for name in STRATEGIES:
        ranks = []
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as folder:
                found = search(
                    build_strategy({"type": name}, blocks, seed),
                    lambda asked: [{"accuracy": truth[str(scheme)]} for scheme in asked],
                    4 * evaluations // 3,
                    3,
                    folder,
                    reward=reward,
                    evaluations=evaluations,
                    draw=False,
                    show=False,
                )
            ranks.append(1 + sum(value > truth[found["scheme"]] for value in truth.values()))
        spread = f"{statistics.fmean(ranks):.1f} ± {statistics.stdev(ranks):.1f}"
        print(f"| {name} | {spread} | {max(ranks)} | {ranks.count(1)} of {seeds} |")


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables, draw the picture."""
    parser = make_parser(__doc__ or "", "python benchmarks/evidence_report.py benchmarks/results/evidence")
    parser.add_argument("folder", type=Path, help="with alone.csv and supernet.csv")
    parser.add_argument("--attention", default="SE")
    parser.add_argument("--epochs", default="6", help="of the trainings on their own")
    parser.add_argument("--pick", help="the scheme that a search found, for (b)")
    parser.add_argument("--pick-seeds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2, help="of the means")
    parser.add_argument("--evaluations", type=int, default=24, help="of each strategy")
    parser.add_argument("--repeats", type=int, default=100, help="runs of each strategy")
    parser.add_argument("--out", type=Path, help="PNG of the supernets' scores and the means")
    args = parser.parse_args(argv)
    tables = truth_of(args.folder / "alone.csv", args.epochs)
    if args.attention not in tables:
        raise UserError(f"'{args.folder}' has no training with {args.attention} of {args.epochs} epochs")
    table = tables.pop(args.attention)
    truth = means_of(table, range(args.seeds))
    if args.seeds > 1:
        variances(table, range(args.seeds))
    scores: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    for row in read_rows(args.folder / "supernet.csv"):
        if row["attention"] == args.attention:
            scores[row["p"], row["epochs"], row["seed"], row["calibration"]][row["scheme"]] = float(row["accuracy"])
    if not scores:
        raise UserError(f"'{args.folder}' has no supernet with {args.attention}")
    slope_of(truth)
    figure = correlations(truth, scores)
    if args.pick:
        others = {f"{name} {scheme}": values for name, own in tables.items() for scheme, values in own.items()}
        picks(table | others, args.pick, range(args.pick_seeds))
    strategies(truth, args.evaluations, args.repeats)
    if args.out:
        save_figure(figure, args.out)


if __name__ == "__main__":
    main()
