"""``search.jsonl``: the record of a search, its score cache, and what a resumed search checks itself against."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import barrier

from ean_core.errors import UserError
from ean_core.files import append_line, naming, read_json_lines, write_atomic

Entry = dict[str, Any]
FIELDS = ("step", "index", "scheme", "reward", "sparsity", "cached", "failed", "strategy", "key", "final")
"""The fields of a line that are no metrics; all others are the evaluator's."""
KINDS = {"step": int, "index": int, "scheme": str, "cached": bool, "failed": bool, "strategy": dict, "key": str}
"""Those that are no numbers, or not only."""


class SearchLog:
    """Appends entries, flushed to the disk one by one, and knows the metrics of every scheme it has seen.

    A resumed search goes through its unfinished step again. It finds the lines of that step in the file, uses their
    metrics, and adds nothing until it is past them; so a search that was killed ends with the same file.

    Args:
        path: The file.
        key: From :func:`score_key`: metrics are known for lines with this key only.
        step: Steps that the saved state of the strategy contains; 0 for a new search.
        lines: How many lines these steps have; ``None``: any number.
        others: Logs of other searches, whose scores under the same key are used too.
        writable: Whether this process writes; only one may.

    Raises:
        UserError: The file has another number of lines, or one that is none of a search. It is left as it is.
    """

    def __init__(
        self,
        path: Path,
        *,
        key: str,
        step: int = 0,
        lines: int | None = None,
        others: Sequence[Path] = (),
        writable: bool = True,
    ) -> None:
        self.path, self.key, self.writable = path, key, writable
        whole = read_log(path)
        # The verdict of an earlier end of this search: its score stays known, its line makes room for what follows.
        candidates = [entry for entry in whole if not entry.get("final")]
        self.entries = [entry for entry in candidates if entry["step"] <= step]
        self._pending = deque(entry for entry in candidates if entry["step"] > step)
        if lines is not None and len(self.entries) != lines:
            raise UserError(
                f"cannot resume: '{path}' has {len(self.entries)} lines of the {step} steps that are done, instead of "
                f"{lines}"
            )
        self._scores: dict[str, dict[str, float]] = {}
        for entry in [line for other in others for line in read_log(other)] + whole:
            if entry["key"] == key:
                self._scores.setdefault(entry["scheme"], metrics_of(entry))
        barrier()  # every rank has read the file before one of them changes it
        if writable:
            self._rewrite([*self.entries, *self._pending])

    def metrics(self, scheme: str) -> dict[str, float] | None:
        """The metrics of a scheme if they are known."""
        return self._scores.get(scheme)

    def add(self, entry: Entry) -> None:
        """Append an entry, unless the file has it from before a kill."""
        entry = json.loads(_dump(entry))
        self._scores.setdefault(entry["scheme"], metrics_of(entry))
        if self._pending and self._pending[0] == entry:
            self._pending.popleft()
        else:
            if self._pending:  # the search took another way than before, e.g. on another machine
                self._pending.clear()
                if self.writable:
                    self._rewrite(self.entries)
            if self.writable:
                append_line(self.path, _dump(entry), sync=False)
        self.entries.append(entry)

    def sync(self) -> None:
        """Wait until the file is on the disk: the strategy's state must never be ahead of it."""
        if self.writable:
            with naming(self.path), self.path.open("a") as file:
                os.fsync(file.fileno())

    def _rewrite(self, entries: Sequence[Entry]) -> None:
        text = "".join(map(_dump, entries))
        if not self.path.is_file() or self.path.read_text() != text:
            write_atomic(self.path, text)


def read_log(path: Path) -> list[Entry]:
    """The lines of a ``search.jsonl``, none if it is missing, without a last one that a kill has cut off.

    Raises:
        UserError: One is not such a line; the message names the file and the line.
    """
    entries = read_json_lines(path)
    for number, entry in enumerate(entries, 1):
        if not _is_line(entry):
            raise UserError(
                f"line {number} of '{path}' is not a line of a search: start without --resume, which moves it to "
                "previous/"
            )
    return entries


def _is_line(entry: Entry) -> bool:
    whole = all(isinstance(entry.get(name), kind) for name, kind in KINDS.items())
    rest = [value for name, value in entry.items() if name not in KINDS and name != "final"]
    return (
        whole
        and "reward" in entry
        and is_number(entry.get("sparsity"))
        and all(value is None or is_number(value) for value in (*rest, *entry["strategy"].values()))
    )


def is_number(value: object) -> bool:
    """Whether a value is a finite number, and no Boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def metrics_of(entry: Mapping[str, Any]) -> dict[str, float]:
    """The evaluator's metrics in an entry; ``null`` is NaN."""
    return {name: math.nan if value is None else value for name, value in entry.items() if name not in FIELDS}


def score_key(checkpoint: str, settings: Mapping[str, Any]) -> str:
    """What a score belongs to besides its scheme: a hash of the checkpoint's hash and the evaluation settings."""
    return hashlib.sha256(json.dumps([checkpoint, settings], sort_keys=True).encode()).hexdigest()[:12]


def _dump(entry: Mapping[str, Any]) -> str:
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in entry.items()}
    return json.dumps(finite, allow_nan=False) + "\n"
