"""The config that travels inside a checkpoint, read without running any of it.

MMEngine stores a config as Python text (``checkpoint["meta"]["cfg"]``), and its own reader executes that text. A
checkpoint is often a stranger's file, so here the text is parsed, and only assignments of plain values are accepted.
A parsed config can still name anything importable as a ``type``; :func:`check_types` therefore admits only what our
packages and the MM libraries have registered.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, TASK_UTILS, WEIGHT_INITIALIZERS, Registry
from torch import nn

from ean_core.application import TASKS
from ean_core.attention.base import ATTENTION
from ean_core.cells import Genotype
from ean_core.errors import UserError

LIBRARIES = ("timm", "torchvision")
RULES = ("residual", "convolutions", "named")  # for points of a plugged network: they build nothing
CONSTANTS = {"inf": float("inf"), "nan": float("nan")}


def stored_config(checkpoint: Mapping[str, Any], name: str) -> Config:
    """The config of a checkpoint.

    Args:
        checkpoint: What :func:`ean_core.checkpoint.read_checkpoint` returns.
        name: Its path, for messages.

    Raises:
        UserError: It holds none, one that is more than plain values, or one of an unknown task.
    """
    meta = checkpoint.get("meta")
    text = meta.get("cfg") if isinstance(meta, Mapping) else None
    if not isinstance(text, str):
        raise UserError(f"checkpoint '{name}' holds no config: name the config file before it")
    try:
        cfg = Config(parse_config(text))
    except (ValueError, SyntaxError, RecursionError, AttributeError, KeyError) as error:
        raise UserError(
            f"the config in checkpoint '{name}' is not plain values ({error}): name the config file before it"
        ) from error
    if cfg.get("task") not in TASKS:
        raise UserError(
            f"checkpoint '{name}' is of the task {cfg.get('task')!r}, which is none of {', '.join(TASKS)}: "
            "name a config file before it"
        )
    return cfg


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


def check_types(model: Any, name: str) -> None:
    """Refuse a model's config that names a type which is not registered.

    MMEngine would import and call whatever a ``type`` names, ``os.system`` included.

    Args:
        model: ``cfg.model``, after the task's modules have been imported.
        name: Where it comes from, for messages.

    Raises:
        UserError: An unknown type; the message names it.
    """
    registries = [r for root in (MODELS, WEIGHT_INITIALIZERS, TASK_UTILS, ATTENTION) for r in _family(root)]
    known = {key: cls for registry in registries for key, cls in registry.module_dict.items()}
    for kind in _types(model):
        if kind in RULES or _is_library_module(kind):
            continue
        prefix, _, last = kind.rpartition(".")
        home = getattr(known.get(last), "__module__", "")
        if last not in known or (prefix and prefix.split(".")[0] != home.split(".")[0]):
            raise UserError(
                f"the config in '{name}' builds '{kind}', which is not a registered model part: if you trust it, name "
                "its config file before the checkpoint"
            )


def _is_library_module(kind: str) -> bool:
    """Whether it is a class of modules in timm or torchvision, as an attention may be."""
    if kind.split(".")[0] not in LIBRARIES or "." not in kind:
        return False
    try:
        found = MODELS.get(kind)
    except RuntimeError:  # there is no such thing
        return False
    return isinstance(found, type) and issubclass(found, nn.Module) and found.__module__.split(".")[0] in LIBRARIES


def _family(registry: Registry) -> Iterator[Registry]:
    yield registry
    for child in registry.children.values():
        yield from _family(child)


def _attentions(genotype: Any) -> Iterator[str]:
    """The attentions that the genotype of a network of cells names."""
    if isinstance(genotype, str):
        for _, cell in Genotype.load(genotype).cells():
            yield from {edge.attention for pair in cell for edge in pair if edge.attention is not None}


def _types(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from _attentions(value.get("genotype"))
        kind = value.get("type")
        if kind is not None and not isinstance(kind, Mapping | list | tuple):
            yield str(kind)
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _types(item)
