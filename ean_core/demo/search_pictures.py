"""The pictures of the tab "Searches", as the tools draw them, from the files of a work directory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ean_core.application import find_application
from ean_core.cells.genotype import Genotype
from ean_core.engine.history import HISTORY as TRAINING
from ean_core.engine.history import read_history
from ean_core.engine.models import blueprint
from ean_core.errors import UserError
from ean_core.files import read_json, read_json_lines
from ean_core.search.cell_plan import read_plan
from ean_core.search.cell_resume import GENOTYPE
from ean_core.search.cell_resume import HISTORY as CELLS
from ean_core.search.cell_training import searched_backbone, space_of
from ean_core.search.front import FRONT, non_dominated
from ean_core.search.log import Entry, metrics_of, read_log
from ean_core.search.loop import LOG
from ean_core.search.made_with import searched_config
from ean_core.search.trained_supernet import SUPERNET

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRADE_OFF = "sparsity"  # the other aim of a search without a front


def candidates(path: Path) -> list[Entry]:
    """The lines of a search's log, but for the last ones of its result."""
    return [entry for entry in read_log(path / LOG) if not entry.get("final")]


def ranked(entries: Iterable[Entry]) -> list[Entry]:
    """The different schemes that were measured, the highest reward first."""
    scored: dict[str, Entry] = {}
    for entry in entries:
        if not entry["failed"]:
            scored.setdefault(entry["scheme"], entry)
    return sorted(scored.values(), key=lambda entry: -entry["reward"])


def _history(path: Path) -> Figure:
    from ean_core.figures.search_history import search_history

    entries = candidates(path)
    return search_history(entries, next(iter(metrics_of(entries[0])), "accuracy") if entries else "accuracy")


def _schemes(path: Path) -> Figure:
    from ean_core.figures.scheme_rows import log_rows, scheme_rows

    entries = [entry for entry in candidates(path) if not entry["failed"]]
    return scheme_rows(log_rows(entries, path.resolve().name) if entries else [])


def _front(path: Path) -> Figure:
    """The front that a search with aims has written; otherwise that of its metric and the sparsity."""
    from ean_core.figures.pareto_front import pareto_front

    entries = ranked(candidates(path))
    if not entries:
        raise UserError("nothing to draw: no candidate succeeded")
    is_written = (path / FRONT).is_file()
    if is_written:
        written = read_json(path / FRONT)
        aims, points = written["aims"], written["front"]
    else:
        metric = next(iter(metrics_of(entries[0])))
        lower = _less_is_better(metric)
        aims = [{"metric": metric, "direction": "down" if lower else "up"}, {"metric": TRADE_OFF, "direction": "up"}]
        values = [(-entry[metric] if lower else entry[metric], entry[TRADE_OFF]) for entry in entries]
        kept = sorted(non_dominated(values), key=lambda i: values[i])[::-1]
        points = [_point(entries[i], aims, i == 0) for i in kept]
    seen = [list(_measured(entry, aims).values()) for entry in entries]
    return pareto_front(seen, points, aims, is_written)


def _less_is_better(metric: str) -> bool:
    """The names of errors and times, as the tasks of this project have them."""
    return metric in ("MAE", "RMSE", "NAE", "latency") or metric.startswith("GAME")


def _point(entry: Entry, aims: Sequence[Mapping[str, str]], picked: bool) -> dict[str, Any]:
    return {"aims": _measured(entry, aims), "picked": picked}


def _measured(entry: Entry, aims: Sequence[Mapping[str, str]]) -> dict[str, float]:
    values = entry | {"connections": entry["scheme"].count("1")}
    return {aim["metric"]: values[aim["metric"]] for aim in aims}


def _training(path: Path) -> Figure:
    from ean_core.figures.training_curves import training_curves

    history = read_history(path / SUPERNET / TRAINING)
    last = [entry for entry in history if entry["mode"] == "val"][-1:]
    metric = next((name for entry in last for name in entry if name not in ("mode", "epoch", "iter")), "")
    figure = training_curves(history, metric)
    if figure is None:
        raise UserError("nothing to draw: the supernet has not been validated yet")
    return figure


def _cells(path: Path) -> Figure:
    """The cells that a search has found, or would find if it ended now."""
    from ean_core.figures.cell_search import draw_search

    history = read_json_lines(path / CELLS)
    if not history:
        raise UserError("nothing to draw: no epoch has ended yet")
    cfg = searched_config(path)
    find_application(cfg)  # registers what models are made of
    space = space_of(blueprint(searched_backbone(cfg, read_plan(cfg))))
    if (path / GENOTYPE).is_file():
        genotype = Genotype.load(path / GENOTYPE)
    else:
        genotype = Genotype.parse(" ".join(f"{name}: {cell}" for name, cell in history[-1]["genotype"].items()))
    return draw_search(genotype, history, space.operations, space.attentions)


def draw_comparison(searches: Mapping[str, Sequence[Entry]]) -> Figure:
    """The best reward so far of several searches, by the number of candidates, and the best of each.

    Raises:
        UserError: One of them has no candidate, or their networks differ in the number of blocks.
    """
    from ean_core.figures.strategy_comparison import strategy_comparison

    curves, picks = {}, {}
    sizes = {len(entries[0]["scheme"].replace("-", "")) for entries in searches.values() if entries}
    for name, entries in searches.items():
        best = ranked(entries)
        if not best:
            raise UserError(f"'{name}' has no candidate yet: leave it out.")
        rewards = [entry["reward"] for entry in sorted(best, key=lambda entry: (entry["step"], entry["index"]))]
        curves[name] = [list(accumulate(rewards, max))]
        picks[name] = [best[0]["reward"]]
    if len(sizes) > 1:
        raise UserError("These searches are of networks with different numbers of blocks: compare like with like.")
    return strategy_comparison(curves, picks, "reward", 2 ** sizes.pop())


DRAW: dict[str, Callable[[Path], Figure]] = {
    "history": _history,
    "schemes": _schemes,
    "front": _front,
    "training": _training,
    "cells": _cells,
}
"""Draws a picture of the search in a folder; raises a ``UserError`` where there is nothing to draw yet."""
