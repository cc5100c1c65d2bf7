"""Which scheme a search hands back, as its ``scheme.json``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ean_core.errors import UserError
from ean_core.scheme import ConnectionScheme
from ean_core.search.front import find_front
from ean_core.search.log import Entry, SearchLog
from ean_core.search.reward import Reward
from ean_core.strategies import Strategy


def entry_of(
    step: int,
    index: int,
    scheme: ConnectionScheme,
    reward: float,
    metrics: Mapping[str, float],
    cached: bool,
    note: Mapping[str, float],
    key: str,
) -> Entry:
    """A line of the log."""
    own = {"step": step, "index": index, "scheme": str(scheme), "reward": reward, **metrics}
    return own | {
        "sparsity": scheme.sparsity,
        "cached": cached,
        "failed": not math.isfinite(reward),
        "strategy": dict(note),
        "key": key,
    }


def verdict(
    strategy: Strategy,
    measure: Callable[[ConnectionScheme], Mapping[str, float]],
    reward: Reward,
    log: SearchLog,
    identity: Mapping[str, Any],
) -> dict[str, Any]:
    """Compare the most probable scheme, if the strategy has one, with the best seen, and describe the winner.

    The higher reward wins: both were measured on the same images with the same weights. With aims, only schemes of the
    front can win.

    Args:
        strategy: Told of all candidates.
        measure: The metrics of a scheme.
        reward: What was maximised.
        log: Gets the most probable scheme, if no candidate was it.
        identity: What the search was made with.

    Returns:
        The content of ``scheme.json``.

    Raises:
        UserError: No candidate had a finite reward.
    """
    candidates = list(log.entries)
    scored = [entry for entry in candidates if not entry["failed"]]
    if not scored:
        raise UserError("the search found nothing: no candidate had a finite reward")
    answer = getattr(strategy, "most_probable", strategy.best)()
    if str(answer) not in {entry["scheme"] for entry in candidates}:
        metrics = measure(answer)
        step = candidates[-1]["step"]
        log.add(entry_of(step, 0, answer, reward(answer, metrics), metrics, False, {}, log.key) | {"final": True})
    final = next(entry for entry in log.entries if entry["scheme"] == str(answer))
    front = find_front(log.entries, reward, strategy.blocks) if reward.aims else log.entries
    among = {entry["scheme"] for entry in front}
    best = max(  # the first one of equals
        [entry for entry in scored if entry["scheme"] in among] or [final], key=lambda entry: entry["reward"]
    )
    allowed = final["scheme"] in among
    wins = allowed and not final["failed"] and final["reward"] >= best["reward"]
    if wins:
        because = f"its reward is at least that of every scheme {'of the front' if reward.aims else 'seen'}"
    elif allowed:
        because = "its reward is higher than that of the most probable scheme, on the same images"
    else:
        because = "its reward is the highest of the front, on which the most probable scheme is not"
    return scheme_file(final if wins else best, identity=identity, blocks=strategy.blocks) | {
        "picked": "most probable" if wins and hasattr(strategy, "most_probable") else "best seen",
        "because": because,
        "most_probable": _short(final),
        "best_seen": _short(best),
        "evaluations": len({entry["scheme"] for entry in log.entries}),
        "cache_hits": sum(entry["cached"] for entry in log.entries),
        "failed": sum(entry["failed"] for entry in log.entries),
        **({"front": len(front)} if reward.aims else {}),
        **getattr(strategy, "report", dict)(),
    }


def scheme_file(entry: Entry, *, identity: Mapping[str, Any], blocks: Sequence[int]) -> dict[str, Any]:
    """What a scheme file says of a scheme of the log."""
    scheme = ConnectionScheme.parse(entry["scheme"], blocks)
    return {
        "scheme": str(scheme),
        "blocks": list(blocks),
        "attention": identity["attention"],
        **({"points": identity["points"]} if identity["points"] else {}),
        "strategy": identity["strategy"],
        "reward": entry["reward"],
        "accuracy": entry.get("accuracy"),
        "density": scheme.density,
        "seed": identity["strategy"].get("seed"),
        "checkpoint": identity["checkpoint"],
    }


def _short(entry: Entry) -> Entry:
    return {k: v for k, v in entry.items() if k not in ("index", "cached", "failed", "strategy", "key", "final")}
