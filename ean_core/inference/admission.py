"""What a config that travels inside a checkpoint may build.

A stored config can name anything importable as a ``type``, or a file or an address to read. :func:`check_model` admits
what our packages and the MM libraries have registered, modules of torchvision and timm, and what the user trusts, and
no files.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator, Mapping
from importlib import import_module
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, TASK_UTILS, WEIGHT_INITIALIZERS, Registry
from torch import nn

from ean_core.attention.base import ATTENTION
from ean_core.cells import Genotype
from ean_core.cells.genotype import PUBLISHED
from ean_core.errors import UserError

LIBRARIES = ("timm", "torchvision")
RULES = ("residual", "convolutions", "named")  # for points of a plugged network: they build nothing
INITIAL_WEIGHTS = ("init_cfg", "pretrained", "weights")  # a prediction needs none: the checkpoint has all weights
READERS = ("TIMMBackbone", "VPD")  # of MMSegmentation: they fetch weights, or read files, when they are built
FILE_OPTIONS = ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "class_embed_path")
FILE = re.compile(
    r"://|^[~/\\.]|^[a-z]:[/\\]|\.(json|npy|npz|pkl|pickle|pt|pth|ckpt|bin|yaml|yml|txt|csv|safetensors|py|so)$", re.I
)
ADVICE = "if you trust it, name its config file before the checkpoint"


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
