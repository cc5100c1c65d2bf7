"""From the runs of a verification to its tables, its file, and a verdict in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ean_core.analysis.correlation import compare_groups, correlate
from ean_core.analysis.paired import compare_paired, detectable, holm, mean_of
from ean_core.files import write_csv
from ean_core.verification.plan import CHOSEN, CONSTANT, FOUND, OWN_MODULES, PLAIN, RANDOM, Contestant

Runs = Mapping[tuple[str, int], float]
LEVEL = 0.05
FEWEST = 4
"""Schemes of a correlation."""


def summarise(
    who: Sequence[Contestant],
    runs: Runs,
    *,
    better: float,
    costs: Mapping[str, Mapping[str, float]],
    supernet: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """All numbers of a verification.

    Args:
        who: The networks, the found one first.
        runs: The metric by name and seed, of the runs that have one.
        better: 1 where more is better, -1 where less is.
        costs: By name: ``increment`` (Eq. 9, %) and others.
        supernet: The supernet's scores by scheme, larger is better.

    Returns:
        ``contestants``, ``differences`` (found - other), ``place``, ``groups`` and ``correlation``; the last three are
        ``None`` where there is too little for them.
    """
    values = {c.name: {seed: v for (name, seed), v in sorted(runs.items()) if name == c.name} for c in who}
    rows = []
    for c in who:
        row = {**c.as_dict(), **costs.get(c.name, {}), "values": values[c.name]}
        rows.append(row | (asdict(mean_of(list(values[c.name].values()))) if values[c.name] else {"n": 0}))
    differences = _differences(who, values)
    return {
        "contestants": rows,
        "differences": differences,
        "place": _place(who, values, better),
        "groups": _groups(who, values),
        "correlation": _correlation(who, values, better, supernet or {}),
    }


def _differences(who: Sequence[Contestant], values: Mapping[str, Mapping[int, float]]) -> list[dict[str, Any]]:
    """Found - other over the seeds that both have, and found - the mean of the random schemes."""
    found = values[FOUND]
    others = [(c.name, values[c.name]) for c in who if c.group not in (FOUND, RANDOM)]
    drawn = [values[c.name] for c in who if c.group == RANDOM]
    if drawn:
        seeds = [seed for seed in found if all(seed in own for own in drawn)]
        others.append((RANDOM, {seed: float(np.mean([own[seed] for own in drawn])) for seed in seeds}))
    rows = []
    for name, own in others:
        seeds = [seed for seed in found if seed in own]
        if seeds:
            test = compare_paired([found[seed] for seed in seeds], [own[seed] for seed in seeds])
            rows.append({"other": name, **asdict(test.difference), "t": test.t, "p": test.p})
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p
        row["detectable"] = detectable(row["n"]) * row["sd"] if row["n"] > 1 else None
    return rows


def _place(
    who: Sequence[Contestant], values: Mapping[str, Mapping[int, float]], better: float
) -> dict[str, float] | None:
    """The found scheme's place among the random ones by their means, and the chance of such a place for one of them."""
    seeds = values[FOUND].keys()
    drawn = [values[c.name] for c in who if c.group == RANDOM]
    means = [np.mean([own[seed] for seed in seeds]) for own in drawn if seeds and seeds <= own.keys()]
    if not means:
        return None
    own = np.mean(list(values[FOUND].values()))
    place = 1 + sum(better * mean >= better * own for mean in means)
    return {"place": int(place), "of": len(means) + 1, "p": float(place / (len(means) + 1))}


def _groups(who: Sequence[Contestant], values: Mapping[str, Mapping[int, float]]) -> dict[str, Any] | None:
    """Welch's test between the means of chosen schemes (the found one among them) and of random ones."""
    groups = [
        [float(np.mean(list(values[c.name].values()))) for c in who if c.group in names and values[c.name]]
        for names in ((FOUND, CHOSEN), (RANDOM,))
    ]
    if min(map(len, groups)) < 2 or all(len(set(group)) == 1 for group in groups):
        return None
    return {**asdict(compare_groups(*groups)), "names": [CHOSEN, RANDOM], "sizes": [len(group) for group in groups]}


def _correlation(
    who: Sequence[Contestant],
    values: Mapping[str, Mapping[int, float]],
    better: float,
    supernet: Mapping[str, float],
) -> dict[str, Any] | None:
    """Of the supernet's scores and the means of the trainings, both turned so that more is better."""
    pairs = {  # those with the supernet's modules: shared by a stage, and attention
        c.scheme: (supernet[c.scheme], better * float(np.mean(list(values[c.name].values()))))
        for c in who
        if c.scheme in supernet and values[c.name] and not c.name.startswith((OWN_MODULES, CONSTANT))
    }
    x, y = [pair[0] for pair in pairs.values()], [pair[1] for pair in pairs.values()]
    if len(pairs) < FEWEST or len(set(x)) == 1 or len(set(y)) == 1:
        return None
    return {**asdict(correlate(x, y)), "schemes": list(pairs), "supernet": x, "alone": [better * v for v in y]}


def verdict(result: Mapping[str, Any], metric: str, better: float, failed: Sequence[str] = ()) -> list[str]:
    """What the numbers say, in sentences.

    Args:
        result: What :func:`summarise` returns.
        metric: The metric's name.
        better: 1 where more is better, -1 where less is.
        failed: Runs that have failed, each with its reason.
    """
    lines = []
    shown: list[str] = []
    worse: list[str] = []
    for row in result["differences"]:
        name = _name(row["other"])
        line = f"found - {name}: {row['mean']:+.2f} {metric}"
        if row["n"] < 2:
            lines.append(f"{line} (one seed: no test)")
            continue
        line += f" (95 %: {row['low']:+.2f} to {row['high']:+.2f}, {row['n']} seeds)"
        if row["p"] is None:
            lines.append(f"{line}: the same difference with every seed, so there is no test")
            continue
        line += f", p = {row['p']:.2g}, Holm {row['p_holm']:.2g}"
        if row["p_holm"] < LEVEL:
            good = better * row["mean"] > 0
            (shown if good else worse).append(name)
            lines.append(f"{line}: {'better' if good else 'worse'}")
        else:
            lines.append(f"{line}: no difference shown; one of {row['detectable']:.2f} would be found in 4 of 5 cases")
    place = result["place"]
    if place is not None:
        kind = "schemes of the same density" if result["contestants"][0]["density"] is not None else "genotypes"
        lines.append(f"place {place['place']} of {place['of']} among random {kind}")
    groups = result["groups"]
    if groups is not None:
        means, sds = groups["means"], groups["sds"]
        lines.append(
            f"{groups['sizes'][0]} chosen schemes {means[0]:.2f} ± {sds[0]:.2f}, {groups['sizes'][1]} random ones "
            f"{means[1]:.2f} ± {sds[1]:.2f}; Welch's t-test: t = {groups['t']:.2f}, {groups['df']:.1f} degrees of "
            f"freedom, p = {groups['p']:.2g}"
        )
    correlation = result["correlation"]
    if correlation is not None:
        lines.append(correlation_in_words(correlation))
    lines += [f"failed: {line}" for line in failed]
    return [_sum_up(result["differences"], shown, worse), *lines]


def correlation_in_words(found: Mapping[str, Any]) -> str:
    """The correlation of supernet and training, with its intervals."""
    parts = []
    for kind in ("pearson", "kendall"):
        low, high = found[f"{kind}_interval"]
        parts.append(f"{kind.capitalize()} {found[kind]:.2f} (95 %: {low:.2f} to {high:.2f})")
    return f"supernet against training, {found['n']} schemes: {', '.join(parts)}"


def _sum_up(differences: Sequence[Mapping[str, Any]], shown: Sequence[str], worse: Sequence[str]) -> str:
    """One sentence: a scheme holds that is better than all it was tested against, in part if better than some.

    One that is worse than random schemes or than no attention does not hold; to be worse than full attention, which
    costs more, does not decide alone.
    """
    tested = [row for row in differences if row["p"] is not None]
    if not tested:
        return "VERDICT: open - there is nothing to test yet"
    parts = [f"better than {_listed(shown)}"] if shown else []
    parts += [f"worse than {_listed(worse)}"] if worse else []
    open_ = [_name(row["other"]) for row in tested if row["p_holm"] >= LEVEL]
    parts += [f"no difference shown to {_listed(open_)}"] if open_ else []
    if {_name(RANDOM), *PLAIN} & set(worse) or (worse and not shown):
        word = "the scheme does not hold"
    elif len(shown) == len(tested):
        word = "the scheme holds"
    else:
        word = "the scheme holds in part" if shown else "it is not shown that the scheme holds"
    return f"VERDICT: {word} - {', '.join(parts)}"


def _name(other: str) -> str:
    return "random (mean)" if other == RANDOM else other


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def table(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows to print: of every network its mean, interval, density and cost."""
    rows = {}
    for row in result["contestants"]:
        low, high = row.get("low"), row.get("high")
        rows[row["name"]] = {
            "runs": row["n"],
            "mean": row.get("mean"),
            "95 %": "-" if low is None or high is None else f"{low:.1f}..{high:.1f}",
            "density": row["density"],
            "Eq. 9, %": row.get("increment"),
            "params, M": f"{row['parameters'] / 1e6:.3f}" if "parameters" in row else "-",
        }
    return rows


def write_runs(who: Sequence[Contestant], runs: Sequence[Mapping[str, Any]], path: Path) -> None:
    """``verify.csv``: a line for each run, failed ones with their error."""
    by_name = {c.name: c for c in who}
    metrics = list(dict.fromkeys(name for run in runs for name in run.get("metrics", {})))
    columns = ["contestant", "group", "scheme", "density", "seed", *metrics, "seconds", "error"]
    rows = []
    for run in runs:
        c = by_name[run["contestant"]]
        row = {"contestant": c.name, "group": c.group, "scheme": " ".join(c.scheme.split("\n")), "density": c.density}
        rest = {"seed": run["seed"], "seconds": run.get("seconds"), "error": run.get("error", "")}
        rows.append({**row, **run.get("metrics", {}), **rest})
    write_csv(path, columns, rows)


def finite(tree: Any) -> Any:
    """A tree for JSON, ``None`` for numbers that are not finite."""
    if isinstance(tree, Mapping):
        return {str(key): finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
