"""The latency of every scheme from one number a block, measured once: ``search.latency = "table"``.

The model is additive: a scheme's increment over the network without attention (Eq. 9, in %) is the sum of its connected
blocks' increments. It leaves out what blocks of a stage have in common: a module's weights are in the cache when its
second block reads them, and DIA's state costs from the second connected block on. How far that holds is measured, too.
"""

from __future__ import annotations

import itertools
import json
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from mmengine.dist import broadcast_object_list, is_main_process

from ean_core.errors import UserError
from ean_core.files import read_json, write_atomic
from ean_core.scheme import ConnectionScheme
from ean_core.search.log import score_key
from ean_core.terminal import print_line

TABLE = "latency_table.json"
CHECKS = 8  # random schemes that are measured to compare
Seconds = Callable[[Sequence[ConnectionScheme]], list[float]]


@dataclass(frozen=True)
class LatencyTable:
    """One increment a block.

    Attributes:
        increments: In % of a pass without attention, a list for each stage.
    """

    increments: list[list[float]]

    def __call__(self, scheme: ConnectionScheme) -> float:
        """The scheme's increment in %: the sum over its connected blocks."""
        return sum(v for v, bit in zip(itertools.chain(*self.increments), scheme, strict=True) if bit)


class Measured(Protocol):
    """What a table is measured with: :class:`ean_core.search.Evaluator`."""

    latency_repeats: int

    def seconds(self, schemes: Sequence[ConnectionScheme]) -> list[float]:
        """Of a pass with each scheme, taken in turn; medians."""
        ...

    def settings(self) -> dict[str, Any]:
        """What the scores depend on."""
        ...


def find_table(evaluator: Measured, blocks: Sequence[int], path: Path, checkpoint: str) -> LatencyTable:
    """The table in a file; measured, reported and written there if it has none of this supernet and these settings.

    So a resumed search, and every search on one supernet in one work directory, has the same latencies.

    Args:
        evaluator: Without a table.
        blocks: Number of blocks of each stage.
        path: ``latency_table.json``: tables by what they belong to.
        checkpoint: The hash of the supernet's weights.

    Raises:
        UserError: No repeats are set, or the file is not one of tables.
    """
    if not evaluator.latency_repeats:
        raise UserError("search.latency='table' needs search.latency_repeats, e.g. 20: passes for each of its medians")
    key = score_key(checkpoint, evaluator.settings())
    found: list[Any] = [None]
    if is_main_process():
        known = read_json(path) if path.is_file() else {}
        if not isinstance(known, dict):
            raise UserError(f"'{path}' is not a file of latency tables: remove it")
        if key not in known:
            known[key] = measure(evaluator.seconds, blocks) | {"repeats": evaluator.latency_repeats}
            write_atomic(path, json.dumps(known, indent=2) + "\n")
        found = [known[key]]
    broadcast_object_list(found)
    table = found[0]
    try:
        rows = [[float(value) for value in stage] for stage in table["increments"]]
        whole = tuple(map(len, rows)) == tuple(blocks)
        words = describe(table)
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise UserError(f"'{path}' holds no increment for every block: remove it, and start without --resume")
    if is_main_process():
        print_line("latency", f"{path}: {words}")
    return LatencyTable(rows)


def measure(seconds: Seconds, blocks: Sequence[int], checks: int = CHECKS) -> dict[str, Any]:
    """The increments of all blocks, and how well their sums agree with measured schemes.

    Passes with nothing connected, with each block alone, and with all take turns. ``d_i`` and ``F`` are the increments
    of the medians for block ``i`` alone and for all ``m``. The table is the additive model's least-squares fit to these
    ``m + 1`` numbers, ``d_i + (F - sum_j d_j) / (m + 1)``: an error of the pass without attention, which is in every
    ``d_i``, does not add up.

    Args:
        seconds: From schemes to the seconds of a pass with each, measured in turn.
        blocks: Number of blocks of each stage.
        checks: Random schemes to compare, sparse ones and dense ones.

    Returns:
        ``increments`` in %, a list for each stage; ``none_ms``; ``agreement`` with ``mean_absolute_difference`` (points
        of Eq. 9), ``pearson`` (``None`` for fewer than two different values) and the ``schemes``; the ``machine``.
    """
    none, full, m = ConnectionScheme.none(blocks), ConnectionScheme.full(blocks), sum(blocks)
    alone = [ConnectionScheme.parse("".join("01"[i == j] for j in range(m)), blocks) for i in range(m)]
    base, *times = seconds([none, *alone, full])
    *single, together = (100 * (t - base) / base for t in times)
    rest = (together - sum(single)) / (m + 1)
    values = iter([value + rest for value in single])
    table = LatencyTable([[next(values) for _ in range(count)] for count in blocks])

    generator = torch.Generator().manual_seed(0)
    drawn = [ConnectionScheme.random(blocks, (i + 0.5) / checks, generator) for i in range(checks)]
    chosen = [scheme for scheme in dict.fromkeys(drawn) if scheme != none] or [full]
    again, *times = seconds([none, *chosen])
    measured, predicted = [100 * (t - again) / again for t in times], [table(scheme) for scheme in chosen]
    pairs = list(zip(map(str, chosen), measured, predicted, strict=True))
    varied = len(set(measured)) > 1 and len(set(predicted)) > 1
    return {
        "increments": table.increments,
        "none_ms": 1000 * base,
        "agreement": {
            "mean_absolute_difference": statistics.fmean(abs(a - b) for _, a, b in pairs),
            "pearson": statistics.correlation(measured, predicted) if varied else None,
            "schemes": [{"scheme": s, "measured": a, "predicted": b} for s, a, b in pairs],
        },
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }


def describe(table: dict[str, Any]) -> str:
    """The agreement in words."""
    agreement, r = table["agreement"], table["agreement"]["pearson"]
    return (
        f"{len(agreement['schemes'])} random schemes measured {agreement['mean_absolute_difference']:.2f} points off "
        f"the sums of their blocks on average, Pearson's r {'undefined' if r is None else f'{r:.3f}'}"
    )
