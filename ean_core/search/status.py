"""What a search shows on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

from mmengine.dist import is_main_process
from rich.progress import TextColumn

from ean_core.terminal import progress_bar


class SearchProgress:
    """A bar with the time left, the best reward so far and cache hits; ten lines in all where output is a file.

    Args:
        steps: Steps of the search.
        per_step: Schemes a step.
        entries: Entries of the log so far, of a resumed search.
        show: Whether anything is shown.
    """

    def __init__(self, steps: int, per_step: int, entries: Sequence[dict[str, Any]], show: bool = True) -> None:
        self.steps, self.step = steps, len(entries) // per_step
        self.best: dict[str, Any] | None = None
        self.seen = self.hits = self.failed = 0
        self._shown = show and is_main_process()
        self._bar = progress_bar(TextColumn("{task.fields[text]}"), show=self._shown)
        self._task = self._bar.add_task("searching", total=steps, completed=self.step, text="")
        self._count(entries)

    def __enter__(self) -> SearchProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, entries: Sequence[dict[str, Any]]) -> None:
        """Another step is done, with these entries."""
        self.step += 1
        self._count(entries)
        self._bar.update(self._task, completed=self.step, text=self.text())
        if self._shown and self._bar.disable and self.step % max(self.steps // 10, 1) == 0:
            print(f"step {self.step}/{self.steps}  {self.text()}")

    def text(self) -> str:
        """The best so far, cache hits, failures."""
        best = "none yet"
        if self.best is not None:
            bits = self.best["scheme"].replace("-", "")
            scheme = self.best["scheme"] if len(bits) <= 20 else f"{bits.count('1')}/{len(bits)} connected"
            best = f"{self.best['reward']:.3f} ({scheme})"
        failed = f"  failed {self.failed}" if self.failed else ""
        return f"best {best}  cache hits {self.hits}/{self.seen}{failed}"

    def _count(self, entries: Sequence[dict[str, Any]]) -> None:
        for entry in entries:
            self.seen += 1
            self.hits += entry["cached"]
            self.failed += entry["failed"]
            if not entry["failed"] and (self.best is None or entry["reward"] > self.best["reward"]):
                self.best = entry
