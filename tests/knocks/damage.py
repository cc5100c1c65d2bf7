"""Damage: to bytes, and to a value inside of a nested one."""

import copy
import math
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

WRONG_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 3, 1.5, math.nan, math.inf, 10**30, "", "abc", "../x", "x" * 5000, [], {}, [[]], [None],
    {"a": 1},
)  # fmt: skip


def damaged(data: bytes, random: Random) -> bytes:
    """The bytes of a file after an accident; never the same."""
    while True:
        made = bytes(random.choice(WAYS)(bytearray(data), random))
        if made != data:
            return made


def _flip(data: bytearray, random: Random) -> bytearray:
    """One bit."""
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return data


def _overwrite(data: bytearray, random: Random) -> bytearray:
    """A few bytes."""
    for _ in range(random.choice((1, 2, 10)) if data else 0):
        data[random.randrange(len(data))] = random.randrange(256)
    return data


def _truncate(data: bytearray, random: Random) -> bytearray:
    cut = random.choice((random.randrange(len(data) + 1), max(0, len(data) - random.randrange(1, 9))))
    return data[:cut]


def _insert(data: bytearray, random: Random) -> bytearray:
    at = random.choice((random.randrange(len(data) + 1), 0, len(data)))
    return data[:at] + random.randbytes(random.choice((1, 3, 100))) + data[at:]


def _swap(data: bytearray, random: Random) -> bytearray:
    """Two blocks."""
    a, b, c, d = sorted(random.randrange(len(data) + 1) for _ in range(4))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def _zero(data: bytearray, random: Random) -> bytearray:
    """A block, as a disk leaves it that lost power."""
    a, b = sorted(random.randrange(len(data) + 1) for _ in range(2))
    data[a:b] = bytes(b - a)
    return data


def _drop(data: bytearray, random: Random) -> bytearray:
    """A block in the middle."""
    a = random.randrange(len(data) + 1)
    return data[:a] + data[a + random.choice((1, 2, 50, 512)) :]


def _repeat(data: bytearray, random: Random) -> bytearray:
    a, b = sorted(random.randrange(len(data) + 1) for _ in range(2))
    return data[:b] + data[a:]


WAYS: tuple[Callable[[bytearray, Random], bytearray], ...] = (
    _flip, _flip, _flip, _overwrite, _truncate, _truncate, _insert, _swap, _zero, _drop, _repeat,
)  # fmt: skip


def with_wrong_value(tree: Any, random: Random) -> Any:
    """A copy of nested dicts and lists in which one value is another, or missing."""
    tree = copy.deepcopy(tree)
    places = list(_places(tree))
    if not places:
        return random.choice(WRONG_VALUES)
    owner, key = random.choice(places)
    if random.random() < 0.3:
        del owner[key]
    else:
        owner[key] = copy.deepcopy(random.choice(WRONG_VALUES))
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(tree, dict | list):
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from _places(tree[key])
