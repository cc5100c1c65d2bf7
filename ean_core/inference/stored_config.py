"""The config that travels inside a checkpoint, read without running any of it.

MMEngine stores a config as Python text (``checkpoint["meta"]["cfg"]``), and its own reader executes that text. A
checkpoint is often a stranger's file, so here the text is parsed, and only assignments of plain values are accepted.
A parsed config can still name anything importable as a ``type``, or a file or an address to read;
:func:`check_model` therefore admits only what our packages and the MM libraries have registered, modules of torchvision
and timm, and what the user trusts, and no files.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, TASK_UTILS, WEIGHT_INITIALIZERS, Registry
from torch import nn

from ean_core.application import TASKS
from ean_core.attention.base import ATTENTION
from ean_core.cells import Genotype
from ean_core.cells.genotype import PUBLISHED
from ean_core.checkpoint import meta_of
from ean_core.errors import UserError

LIBRARIES = ("timm", "torchvision")
RULES = ("residual", "convolutions", "named")  # for points of a plugged network: they build nothing
CONSTANTS = {"inf": float("inf"), "nan": float("nan")}
LONGEST = 1_000_000  # characters; those of our own configs have some thousands
INITIAL_WEIGHTS = ("init_cfg", "pretrained", "weights")  # a prediction needs none: the checkpoint has all weights
READERS = ("TIMMBackbone", "VPD")  # of MMSegmentation: they fetch weights, or read files, when they are built
FILE_OPTIONS = ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "class_embed_path")
FILE = re.compile(
    r"://|^[~/\\.]|^[a-z]:[/\\]|\.(json|npy|npz|pkl|pickle|pt|pth|ckpt|bin|yaml|yml|txt|csv|safetensors|py|so)$", re.I
)
ADVICE = "if you trust it, name its config file before the checkpoint"


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


def check_model(cfg: Config, name: str, trust: Collection[str] = ()) -> None:
    """Refuse a stored config whose model would call a stranger's choice of code, or read files.

    MMEngine would import and call whatever a ``type`` names, ``os.system`` included. Initial weights are taken out.

    Args:
        cfg: The config, after the task's modules have been imported; its model is changed in place.
        name: The checkpoint's path, for messages.
        trust: Further types, by the names that the config gives them.

    Raises:
        UserError: What is refused; the message names it.
    """
    if not isinstance(cfg.get("model"), Mapping):
        raise UserError(f"the config in '{name}' has no model: name the config file before the checkpoint")
    scope = cfg.get("default_scope", "mmengine")
    if not isinstance(scope, str) or scope not in _scopes():
        raise UserError(f"the config in '{name}' names the scope {str(scope)[:80]!r}, which is none of a library here")
    test_cfg = cfg.model.get("test_cfg") or {}
    if not isinstance(test_cfg, Mapping) or test_cfg.get("mode", "whole") not in ("whole", "slide"):
        raise UserError(f"the config in '{name}' has a test_cfg of no known mode")
    for key, found in (("image_size", cfg), ("crop_size", cfg), ("crop_size", test_cfg), ("stride", test_cfg)):
        given: Any = found.get(key, 1)
        sizes = given if isinstance(given, list | tuple) else [given]
        if not all(type(size) is int and 0 < size <= 1 << 14 for size in sizes):
            raise UserError(f"the config in '{name}' has the {key} {str(given)[:80]}, which is no size")
    _leave_out_weights(cfg.model)
    check_types(cfg.model, name, trust)
    for key, value in _entries(cfg.model):
        words = isinstance(value, str) and key not in ("type", "match")  # "match": names of points, as a pattern
        if (key in FILE_OPTIONS and value) or (words and FILE.search(value)):
            raise UserError(f"the config in '{name}' would read {key} = {str(value)[:80]!r}: {ADVICE}")
        if key == "_scope_" and not (isinstance(value, str) and value in _scopes()):
            raise UserError(f"the config in '{name}' names the scope {str(value)[:80]!r}, which is none here")


def check_types(model: Any, name: str, trust: Collection[str] = ()) -> None:
    """Refuse a model's config that names a type which is not registered.

    Args:
        model: ``cfg.model``, after the task's modules have been imported.
        name: Where it comes from, for messages.
        trust: Types that may be imported and built, by the names that the config gives them.

    Raises:
        UserError: An unknown type; the message names it.
    """
    kinds = [kind for key, value in _entries(model) for kind in _types(key, value)]
    for kind in kinds:
        if isinstance(kind, str) and (kind in trust or kind in RULES):
            continue
        if isinstance(kind, str) and kind.rpartition(".")[2] in READERS:
            raise UserError(f"the config in '{name}' builds '{kind}', which reads files or fetches weights: {ADVICE}")
        if not isinstance(kind, str) or not (_is_registered(kind) or _is_library_module(kind)):
            how = f"--trust {kind}, or " if isinstance(kind, str) and re.fullmatch(r"\w+(\.\w+)+", kind) else ""
            raise UserError(
                f"the config in '{name}' builds {str(kind)[:80]!r}, which is not a registered model part: if you trust "
                f"it, {how}name its config file before the checkpoint"
            )


def _is_registered(kind: str) -> bool:
    """Whether a name is registered: alone, after its library's name, or after the module that has it."""
    prefix, _, last = kind.rpartition(".")
    registries = list(_registries())
    if not prefix or any(registry.scope == prefix and last in registry.module_dict for registry in registries):
        return any(last in registry.module_dict for registry in registries)
    found = getattr(sys.modules.get(prefix), last, None)  # nothing is imported because a stranger names it
    return found is not None and any(found is known for r in registries for known in r.module_dict.values())


def _is_library_module(kind: str) -> bool:
    """Whether it is a class of modules in timm or torchvision, as an attention may be."""
    prefix, _, last = kind.rpartition(".")
    if not re.fullmatch(r"\w+(\.\w+)*", prefix) or prefix.split(".")[0] not in LIBRARIES:
        return False
    try:
        found = getattr(import_module(prefix), last, None)
    except Exception:  # there is no such module, or it needs another package
        return False
    return isinstance(found, type) and issubclass(found, nn.Module) and found.__module__.split(".")[0] in LIBRARIES


def _registries() -> Iterator[Registry]:
    for root in (MODELS, WEIGHT_INITIALIZERS, TASK_UTILS, ATTENTION):
        yield from _family(root)


def _scopes() -> set[str]:
    return {registry.scope for registry in _registries()}


def _family(registry: Registry) -> Iterator[Registry]:
    yield registry
    for child in registry.children.values():
        yield from _family(child)


def _leave_out_weights(value: Any) -> None:
    for inner in [value, *(inner for _, inner in _entries(value))]:
        if isinstance(inner, dict):
            for key in INITIAL_WEIGHTS:
                if key in inner and (key == "init_cfg" or inner[key] is True or isinstance(inner[key], str)):
                    inner[key] = None


def _types(key: Any, value: Any) -> Iterator[Any]:
    """The types that an entry of a config names, be it as a type or within a genotype."""
    if key == "type":
        yield value
    if key == "genotype" and isinstance(value, str):
        genotype = Genotype.load(value) if value in PUBLISHED else Genotype.parse(value)  # never a file
        for _, cell in genotype.cells():
            yield from {edge.attention for pair in cell for edge in pair if edge.attention is not None}


def _entries(value: Any) -> Iterator[tuple[Any, Any]]:
    """All entries of dicts, in dicts, lists and tuples in each other; items of a list count as entries of its key."""
    pending: list[tuple[Any, Any]] = [(None, value)]
    while pending:
        key, found = pending.pop()
        if isinstance(found, Mapping):
            yield from found.items()
            pending += found.items()
        elif isinstance(found, list | tuple | set):
            inner = [(key, item) for item in found]
            yield from inner
            pending += inner
