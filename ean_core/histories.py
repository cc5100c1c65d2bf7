"""What trainings save beside tensors: MMEngine's loss histories of NumPy's values, and the options of scripts.

A pickle sets the state of whatever it names, and NumPy believes it: a type with another size, or other flags, reads
memory that is not its own. Within :func:`stand_ins` a pickle meets others in their place, which take plain numbers and
text only, and :func:`restored` puts NumPy's arrays in theirs.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer

PLAIN = re.compile(r"[biufc]\d{1,2}|U\d{1,6}")


class _Type:
    """Stands in for ``numpy.dtype``: a type of numbers or of text by its code."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not PLAIN.fullmatch(code):
            raise pickle.UnpicklingError(f"a NumPy type {str(code)[:40]!r}, which is neither a number nor text")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        plain = np.dtype(self.dtype.str).__reduce__()[2]
        if not isinstance(state, tuple) or state[:1] != plain[:1] or state[2:] != plain[2:] or state[1] not in "<>|=":
            raise pickle.UnpicklingError("a NumPy type with a state of its own")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Options:
    """Stands in for ``argparse.Namespace``, the options of a training script, which nobody here needs."""

    def __setstate__(self, state: Any) -> None:
        """Leave the options out."""


class _Array:
    """Stands in for ``numpy.ndarray``."""

    value: np.ndarray[Any, Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, columns_first, data = state
        self.value = _numbers(kind, data, shape, "F" if columns_first else "C").copy(order="K")


def _new_array(*_: object) -> _Array:
    """Stands in for ``numpy.core.multiarray._reconstruct``, which makes an empty array; its state follows."""
    return _Array()


def _scalar(kind: Any, data: Any) -> Any:
    """Stands in for ``numpy.core.multiarray.scalar``."""
    return _numbers(kind, data, ())[()]


def _numbers(kind: Any, data: Any, shape: Any, order: Literal["C", "F"] = "C") -> np.ndarray[Any, Any]:
    if not isinstance(kind, _Type) or not isinstance(data, bytes) or not isinstance(shape, tuple):
        raise pickle.UnpicklingError("a NumPy array that holds no numbers")
    if not all(type(n) is int and n >= 0 for n in shape) or math.prod(shape) * kind.dtype.itemsize != len(data):
        raise pickle.UnpicklingError("a NumPy array of another size than its shape")
    return np.frombuffer(data, kind.dtype).reshape(shape, order=order)


def _statistic(owner: Any, name: str) -> Any:
    """Stands in for ``getattr``, with which a pickled history names its own methods, and does nothing else."""
    if owner is not HistoryBuffer or name not in ("min", "max", "mean", "current"):
        raise pickle.UnpicklingError(f"GLOBAL {name} of {owner} is not a statistic")
    return getattr(owner, name)


# NumPy's functions have another address in NumPy 1 and 2: know both, whichever wrote the file.
STAND_INS: dict[str, Any] = {
    f"{HistoryBuffer.__module__}.{HistoryBuffer.__qualname__}": HistoryBuffer,
    "argparse.Namespace": _Options,
    "numpy.dtype": _Type,
    "numpy.ndarray": _Array,
    **{f"numpy.{core}.multiarray._reconstruct": _new_array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    "builtins.getattr": _statistic,
}


@contextmanager
def stand_ins() -> Iterator[None]:
    """Within, a pickle that torch reads meets the stand-ins; what this process had allowed before returns afterwards.

    Where it had allowed one of those names itself (``numpy.ndarray``, say), torch would take either of the two, by the
    order of a set: within, only the stand-in has the name.
    """
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([kind for kind in allowed if _name(kind) not in STAND_INS])
    torch.serialization.add_safe_globals([(kind, name) for name, kind in STAND_INS.items()])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(allowed)


def _name(kind: Any) -> str:
    """What torch calls something that is allowed."""
    return str(kind[1]) if isinstance(kind, tuple) else f"{kind.__module__}.{kind.__qualname__}"


def restored(value: Any, seen: set[int] | None = None) -> Any:
    """The value with NumPy's arrays and types in the place of what stands in for them, within containers too.

    Options of scripts become ``None``.

    Args:
        value: Dicts, lists and histories are changed in place.
        seen: Containers that were looked at, by their ``id``: one may hold itself.
    """
    seen = set() if seen is None else seen
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, _Type):
        return value.dtype
    if isinstance(value, _Options):
        return None
    if type(value) is tuple:
        return tuple(restored(inner, seen) for inner in value)
    if id(value) in seen:
        return value
    seen.add(id(value))
    if isinstance(value, HistoryBuffer):
        vars(value).update({name: restored(inner, seen) for name, inner in vars(value).items()})
    elif isinstance(value, dict):
        value.update({key: restored(inner, seen) for key, inner in value.items()})
    elif isinstance(value, list):
        value[:] = [restored(inner, seen) for inner in value]
    return value
