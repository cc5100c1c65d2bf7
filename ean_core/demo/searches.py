"""The tab "Searches": what the work directories hold, also while a search runs, and searches side by side."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ean_core.demo.search_pictures import DRAW, candidates, draw_comparison, ranked
from ean_core.engine.history import HISTORY as TRAINING
from ean_core.engine.history import read_history
from ean_core.errors import UserError
from ean_core.figures import to_png
from ean_core.files import read_json_lines
from ean_core.inspect_scheme import DPI
from ean_core.search.cell_resume import GENOTYPE
from ean_core.search.cell_resume import HISTORY as CELLS
from ean_core.search.front import FRONT
from ean_core.search.log import Entry, metrics_of
from ean_core.search.loop import LOG, PLOT, SCHEME
from ean_core.search.trained_supernet import SUPERNET
from ean_core.work_dir import running_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WATCHED = (LOG, CELLS, FRONT, SCHEME, GENOTYPE, PLOT, f"{SUPERNET}/{TRAINING}")
"""Files whose change is a change of the page."""
BEST, PICTURES = 10, 24  # rows of the table; pictures that are kept
REDRAWN = 10.0  # seconds at least between two drawings of a search that runs: they take time from it


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
        owner, entries = running_in(path), candidates(path)
        ended = any((path / file).is_file() for file in (SCHEME, GENOTYPE))
        words = "running" if owner else "finished" if ended else "not running"
        best = ranked(entries)[:BEST]
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
        if kind not in DRAW:
            raise UserError("There is no such picture.")
        return self._drawn((name, kind, self.drawn(name)), lambda: DRAW[kind](path), DPI if kind == "schemes" else 110)

    def comparison(self, names: Sequence[str]) -> bytes:
        """The best reward so far of several searches, and what they found, as a PNG.

        Raises:
            UserError: One of them has no candidate, or their networks differ in the number of blocks.
        """
        key = ("comparison", *names, *map(self.drawn, names))
        return self._drawn(key, lambda: draw_comparison({name: candidates(self.path(name)) for name in names}), 110)

    def _drawn(self, key: tuple[str, ...], draw: Callable[[], Figure], dpi: int) -> bytes:
        if key not in self._pictures:
            self._pictures[key] = to_png(draw(), dpi)
            while len(self._pictures) > PICTURES:
                self._pictures.popitem(last=False)
        self._pictures.move_to_end(key)
        return self._pictures[key]


def _is_search(path: Path) -> bool:
    return any((path / name).exists() for name in (LOG, CELLS, SUPERNET))


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
    cells = read_json_lines(path / CELLS)
    if cells:
        lines.append(f"search of cells: epoch {cells[-1]['epoch']}, training loss {cells[-1]['train_loss']:.3f}")
    return lines


def _pictures(path: Path, entries: Sequence[Entry]) -> dict[str, str]:
    pictures = {}
    if ranked(entries):
        pictures["schemes"] = "how often each block is connected, and the best schemes"
        pictures["history"] = "all schemes as rows of bits, and the search's curves"
        pictures["front"] = "the front: schemes that no other surpasses in both"
    if any(entry["mode"] == "val" for entry in read_history(path / SUPERNET / TRAINING)):
        pictures["training"] = "the training of the supernet"
    if read_json_lines(path / CELLS):
        pictures["cells"] = "the cells so far, and the search's curves"
    return pictures
