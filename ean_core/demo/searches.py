"""The tab "Searches": what the work directories hold, also while a search runs, and searches side by side."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ean_core.engine.history import HISTORY as TRAINING
from ean_core.engine.history import read_history
from ean_core.errors import UserError
from ean_core.figures import to_png
from ean_core.files import read_json
from ean_core.inspect_scheme import DPI
from ean_core.search.cell_resume import HISTORY as CELLS
from ean_core.search.front import FRONT, non_dominated
from ean_core.search.log import Entry, metrics_of, read_log
from ean_core.search.loop import LOG, PLOT, SCHEME
from ean_core.search.trained_supernet import SUPERNET
from ean_core.work_dir import running_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WATCHED = (LOG, CELLS, FRONT, SCHEME, PLOT, f"{SUPERNET}/{TRAINING}")
"""Files whose change is a change of the page."""
BEST, PICTURES = 10, 24  # rows of the table; pictures that are kept
REDRAWN = 10.0  # seconds at least between two drawings of a search that runs: they take time from it
TRADE_OFF = "sparsity"  # the other aim of a search without a front


@dataclass(frozen=True)
class Summary:
    """A search in words and numbers.

    Attributes:
        name: The search's.
        version: Changes when anything of it does.
        drawn: The version that the pictures show.
        state: What it is doing.
        running: Whether a process has the work directory.
        lines: What it has done, in words.
        best: The best different schemes so far, as lines of the log.
        metric: The measure that is shown with them.
        pictures: Names for :meth:`Searches.picture`, and what they show.
    """

    name: str
    _: KW_ONLY
    version: str
    drawn: str
    state: str
    running: bool
    lines: Sequence[str]
    best: Sequence[Entry]
    metric: str
    pictures: Mapping[str, str]


class Searches:
    """The searches in the work directories that the command line names: those themselves, or their subfolders.

    Args:
        work_dirs: The folders.
    """

    def __init__(self, work_dirs: Iterable[Path]) -> None:
        self.work_dirs = list(work_dirs)
        self._pictures: OrderedDict[tuple[str, ...], bytes] = OrderedDict()
        self._drawings: dict[str, tuple[str, float]] = {}

    def find(self) -> dict[str, Path]:
        """The searches that there are now, by name."""
        found: dict[str, Path] = {}
        for folder in self.work_dirs:
            inside = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
            for path in [folder] if _is_search(folder) else [path for path in inside if _is_search(path)]:
                name, number = path.resolve().name, 2
                while name in found:
                    name, number = f"{path.resolve().name} ({number})", number + 1
                found[name] = path
        return found

    def path(self, name: str) -> Path:
        """The folder of a search; names come from visitors and are looked up, never opened.

        Raises:
            UserError: There is none of that name.
        """
        found = self.find()
        if name not in found:
            raise UserError("There is no search of that name any more: choose another one.")
        return found[name]

    def summary(self, name: str) -> Summary:
        """What is known of a search now.

        Raises:
            UserError: There is none of that name, or a file of it cannot be read.
        """
        path = self.path(name)
        owner, entries = running_in(path), _candidates(path)
        words = "running" if owner else "finished" if (path / SCHEME).is_file() else "not running"
        best = _ranked(entries)[:BEST]
        return Summary(
            name,
            version=self.version(name),
            drawn=self.drawn(name),
            state=f"{words}: {owner}" if owner else words,
            running=owner is not None,
            lines=_lines(path, entries),
            best=best,
            metric=next(iter(metrics_of(entries[0])), "") if entries else "",
            pictures=_pictures(path, entries),
        )

    def version(self, name: str) -> str:
        """A word that changes when anything of the search does."""
        path = self.path(name)
        stats = [file.stat() for file in (path / part for part in WATCHED) if file.is_file()]
        return "-".join(f"{stat.st_mtime_ns:x}.{stat.st_size:x}" for stat in stats) + f"-{running_in(path) is not None}"

    def drawn(self, name: str) -> str:
        """The version that the pictures of a search show: the current one, or for some seconds an earlier one."""
        version, now = self.version(name), time.monotonic()
        shown, since = self._drawings.get(name, ("", -REDRAWN))
        if shown != version and now - since >= REDRAWN:
            self._drawings[name] = (version, now)
        return self._drawings[name][0]

    def picture(self, name: str, kind: str) -> bytes:
        """One of a summary's pictures, as a PNG; drawn once for each state of the search.

        Raises:
            UserError: There is nothing to draw.
        """
        path = self.path(name)
        if kind == "cells" and (path / PLOT).is_file():
            return (path / PLOT).read_bytes()
        draw = {"history": _history, "schemes": _schemes, "front": _front, "training": _training}.get(kind)
        if draw is None:
            raise UserError("There is no such picture.")
        return self._drawn((name, kind, self.drawn(name)), lambda: draw(path), DPI if kind == "schemes" else 110)

    def comparison(self, names: Sequence[str]) -> bytes:
        """The best reward so far of several searches, and what they found, as a PNG.

        Raises:
            UserError: One of them has no candidate, or their networks differ in the number of blocks.
        """
        key = ("comparison", *names, *map(self.drawn, names))
        return self._drawn(key, lambda: _comparison({name: _candidates(self.path(name)) for name in names}), 110)

    def _drawn(self, key: tuple[str, ...], draw: Callable[[], Figure], dpi: int) -> bytes:
        if key not in self._pictures:
            self._pictures[key] = to_png(draw(), dpi)
            while len(self._pictures) > PICTURES:
                self._pictures.popitem(last=False)
        self._pictures.move_to_end(key)
        return self._pictures[key]


def _is_search(path: Path) -> bool:
    return any((path / name).exists() for name in (LOG, CELLS, SUPERNET))


def _candidates(path: Path) -> list[Entry]:
    return [entry for entry in read_log(path / LOG) if not entry.get("final")]


def _ranked(entries: Iterable[Entry]) -> list[Entry]:
    """The different schemes that were measured, the highest reward first."""
    scored: dict[str, Entry] = {}
    for entry in entries:
        if not entry["failed"]:
            scored.setdefault(entry["scheme"], entry)
    return sorted(scored.values(), key=lambda entry: -entry["reward"])


def _lines(path: Path, entries: Sequence[Entry]) -> list[str]:
    lines = []
    training = read_history(path / SUPERNET / TRAINING)
    if training:
        lines.append(f"supernet: {training[-1]['epoch']} epochs trained")
    if entries:
        different, failed = len({entry["scheme"] for entry in entries}), sum(entry["failed"] for entry in entries)
        lines.append(
            f"search: step {entries[-1]['step']}, {len(entries)} candidates, {different} different"
            + (f", {failed} failed" if failed else "")
        )
    if (path / CELLS).is_file():
        lines.append("search of cells: its picture is drawn when it ends")
    return lines


def _pictures(path: Path, entries: Sequence[Entry]) -> dict[str, str]:
    pictures = {}
    if _ranked(entries):
        pictures["schemes"] = "how often each block is connected, and the best schemes"
        pictures["history"] = "all schemes as rows of bits, and the search's curves"
        pictures["front"] = "the front: schemes that no other surpasses in both"
    if any(entry["mode"] == "val" for entry in read_history(path / SUPERNET / TRAINING)):
        pictures["training"] = "the training of the supernet"
    if (path / CELLS).is_file() and (path / PLOT).is_file():
        pictures["cells"] = "the cells found, and the search's curves"
    return pictures


def _history(path: Path) -> Figure:
    from ean_core.figures.search_history import search_history

    entries = _candidates(path)
    return search_history(entries, next(iter(metrics_of(entries[0])), "accuracy") if entries else "accuracy")


def _schemes(path: Path) -> Figure:
    from ean_core.figures.scheme_rows import log_rows, scheme_rows

    entries = [entry for entry in _candidates(path) if not entry["failed"]]
    return scheme_rows(log_rows(entries, path.resolve().name) if entries else [])


def _front(path: Path) -> Figure:
    """The front that a search with aims has written; otherwise that of its metric and the sparsity."""
    from ean_core.figures.pareto_front import pareto_front

    entries = _ranked(_candidates(path))
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


def _comparison(searches: Mapping[str, Sequence[Entry]]) -> Figure:
    from ean_core.figures.strategy_comparison import strategy_comparison

    curves, picks = {}, {}
    sizes = {len(entries[0]["scheme"].replace("-", "")) for entries in searches.values() if entries}
    for name, entries in searches.items():
        ranked = _ranked(entries)
        if not ranked:
            raise UserError(f"'{name}' has no candidate yet: leave it out.")
        rewards = [entry["reward"] for entry in sorted(ranked, key=lambda entry: (entry["step"], entry["index"]))]
        curves[name] = [list(accumulate(rewards, max))]
        picks[name] = [ranked[0]["reward"]]
    if len(sizes) > 1:
        raise UserError("These searches are of networks with different numbers of blocks: compare like with like.")
    return strategy_comparison(curves, picks, "reward", 2 ** sizes.pop())
