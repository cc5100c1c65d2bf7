"""The config that travels inside a checkpoint, read without running any of it.

MMEngine stores a config as Python text (``checkpoint["meta"]["cfg"]``), and its own reader executes that text. A
checkpoint is often a stranger's file, so here the text is parsed, and only assignments of plain values are accepted.
What it may build is said in :mod:`ean_core.inference.admission`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config

from ean_core.application import TASKS
from ean_core.checkpoint import meta_of
from ean_core.errors import UserError

CONSTANTS = {"inf": float("inf"), "nan": float("nan")}
LONGEST = 1_000_000  # characters; those of our own configs have some thousands


def stored_config(checkpoint: Mapping[str, Any], name: str) -> Config:
    """The config of a checkpoint.

    Args:
        checkpoint: What :func:`ean_core.checkpoint.read_checkpoint` returns.
        name: Its path, for messages.

    Raises:
        UserError: It holds none, one that is more than plain values, one of an unknown task, or one whose choices are
            not made.
    """
    text = meta_of(checkpoint).get("cfg")
    if not isinstance(text, str):
        raise UserError(f"checkpoint '{name}' holds no config: name the config file before it")
    if len(text) > LONGEST:
        raise UserError(
            f"the config in checkpoint '{name}' has {len(text)} characters, more than {LONGEST}: name the config file "
            "before it"
        )
    try:
        cfg = Config(parse_config(text))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError, AttributeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"the config in checkpoint '{name}' is not plain values ({reason}): name the config file before it"
        ) from error
    if cfg.get("task") not in TASKS:
        raise UserError(
            f"checkpoint '{name}' is of the task {cfg.get('task')!r:.80}, which is none of {', '.join(TASKS)}: "
            "name a config file before it"
        )
    for word in ("heads", "schedules"):  # choosing one builds the network
        if word in cfg:
            raise UserError(
                f"the config in checkpoint '{name}' is not as a training leaves it: its {word} are still to be chosen; "
                "name the config file before it"
            )
    return cfg


@contextmanager
def building_stored(name: str) -> Iterator[None]:
    """Around whatever a stored config builds: it is data, so what fails is no bug.

    Raises:
        UserError: Instead of any other exception.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError | OSError) and name in str(error):
            raise
        reason = " ".join(str(error).split())[:200]
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        raise UserError(
            f"the config in checkpoint '{name}' cannot be built ({kind}{reason}): name the config file before it"
        ) from error


def parse_config(text: str) -> dict[str, Any]:
    """Assignments of plain values, in Python's words: literals, lists, tuples, dicts and ``dict(key=value)``.

    Raises:
        UserError: The text contains anything else.
        SyntaxError: It is not Python.
    """
    values = {}
    for statement in ast.parse(text).body:
        if not isinstance(statement, ast.Assign) or not all(isinstance(t, ast.Name) for t in statement.targets):
            raise UserError(f"line {statement.lineno} is not 'name = value'")
        for target in statement.targets:
            values[target.id] = _value(statement.value)  # type: ignore[attr-defined]
    return values


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        plain = isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args
        if not plain or any(keyword.arg is None for keyword in node.keywords):
            raise UserError(f"line {node.lineno} calls '{ast.unparse(node.func)}'")
        return {keyword.arg: _value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        if None in node.keys:
            raise UserError(f"line {node.lineno} unpacks a dict")
        return {_value(k): _value(v) for k, v in zip(node.keys, node.values, strict=True) if k is not None}
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)](_value(item) for item in node.elts)
    if isinstance(node, ast.Name) and node.id in CONSTANTS:
        return CONSTANTS[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise UserError(f"line {node.lineno} is not a plain value") from None
