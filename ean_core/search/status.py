"""What a search shows on the terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
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


class CellProgress:
    """A search of cells: a bar over all iterations; where output is a file, a line for every epoch.

    A file has within seconds, too, how long an epoch will take.

    Args:
        epochs: Of the search.
        steps: Iterations of an epoch.
        history: Epochs done, of a resumed search.
    """

    def __init__(self, epochs: int, steps: int, history: Sequence[dict[str, Any]]) -> None:
        self.epochs, self.steps, self.done = epochs, steps, len(history)
        self._decided = _decided(history[-1]) if history else ""
        self._bar = progress_bar(TextColumn("{task.fields[text]}"))
        self._task = self._bar.add_task("", total=epochs * steps, completed=self.done * steps, text="")
        self._seen: list[Mapping[str, torch.Tensor]] = []
        self._first = self._began = 0.0
        self._timed = False

    def __enter__(self) -> CellProgress:
        self._bar.start()
        self._first = self._began = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step(self, values: Mapping[str, torch.Tensor]) -> None:
        """An iteration is done, with these values on the device: few are fetched from there, as that waits for it."""
        self._seen.append(values)
        number = len(self._seen)
        if not self._bar.disable:
            if number % 10 == 1 or number == self.steps:
                lately = self._seen[-20:]
                names = [name for name in ("train_loss", "train_top1", "val_loss") if name in values]
                means = {name: float(torch.stack([v[name] for v in lately]).mean()) for name in names}
                description = f"epoch {self.done + 1}/{self.epochs}"
                self._bar.update(self._task, description=description, text=_measured(means) + self._decided)
            self._bar.update(self._task, completed=self.done * self.steps + number)
        elif not self._timed and (number == 10 or number == self.steps):
            float(values["train_loss"])  # waits for the device
            an_epoch = (time.monotonic() - self._first) / number * self.steps
            rest = f", all of them {_duration(an_epoch * (self.epochs - self.done))}" if "val_loss" in values else ""
            print(f"an epoch takes about {_duration(an_epoch)}{rest or ' in the warm-up'}", flush=True)
            self._timed = True

    def epoch(self, entry: Mapping[str, Any]) -> None:
        """An epoch is done, with this line in the log."""
        self.done += 1
        self._seen.clear()
        self._decided = _decided(entry)
        text = f"epoch {self.done:>3}/{self.epochs}  {_measured(entry)}{self._decided}"
        if self._bar.disable:
            now = time.monotonic()
            text += f"  left {_duration((now - self._began) * (self.epochs - self.done))}"
            self._began = now
        self._bar.console.print(text, highlight=False, soft_wrap=True)


def _measured(values: Mapping[str, Any]) -> str:
    """Losses and accuracies."""
    names = {"train_loss": "loss", "train_top1": "top1", "val_loss": "val_loss", "val_top1": "val_top1"}
    return "  ".join(
        f"{text} {values[name]:.{1 if 'top1' in name else 3}f}" for name, text in names.items() if name in values
    )


def _decided(entry: Mapping[str, Any]) -> str:
    """How far the architecture is."""
    return f"  entropy {entry['entropy_alpha']:.3f}/{entry['entropy_beta']:.3f}  skips {entry['skips']}"


def _duration(seconds: float) -> str:
    """E.g. ``41 s``, ``12 min``, ``3.4 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
