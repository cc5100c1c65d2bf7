"""What a search was made with, compared with what it is to go on with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


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
