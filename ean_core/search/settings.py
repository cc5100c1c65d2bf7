"""What a search is made with, and how that differs from what an earlier one was made with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from ean_core.engine.schema import CLOSED, Count, Options, Positive, Rate


@dataclass(frozen=True)
class SchemeSearch:
    """The entry ``search`` of a config that searches schemes; ``configs/_base_/search/algorithm1.py`` explains it."""

    __pydantic_config__ = CLOSED
    _: KW_ONLY
    strategy: Options
    steps: Positive
    per_step: Positive
    type: Literal["schemes"] = "schemes"
    strategies: dict[str, Options] | None = None
    reward: Options | None = None
    calibration: Count = 0
    latency_repeats: Count = 0
    latency: Literal["candidate", "table"] = "candidate"
    fuse: bool = True
    channels_last: bool = False
    memory: Rate = 2.0
    supernet: str | None = None
    retrain: str = "CONFIG"


def flatten(tree: Any, name: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` -> ``{"a.b": 1}``; lists count as mappings from their indices."""
    items = enumerate(tree) if isinstance(tree, list) else tree.items() if isinstance(tree, Mapping) else None
    if items is None:
        return {name: tree}
    return {k: v for key, value in items for k, v in flatten(value, f"{name}.{key}" if name else str(key)).items()}


def difference(before: Any, now: Any) -> str:
    """The first change between two trees of settings in words, and how many more there are; "" for none."""
    old, new = flatten(before), flatten(now)
    changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if not changed:
        return ""
    first = f"{changed[0]} was {json.dumps(old.get(changed[0]))}, is {json.dumps(new.get(changed[0]))}"
    return first + (f" (and {len(changed) - 1} more)" if len(changed) > 1 else "")
