"""The configs that come with the package, by short names."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

from ean_core.errors import UserError

CONFIGS = (Path(__file__).parents[1] / ".mim" / "configs").resolve()
"""Where MMEngine too looks for them: ``_base_ = "ean_core::seg/ean_se_voc.py"``."""


def config_names() -> list[str]:
    """Their names, with their folders: ``"seg/ean_se_voc"``."""
    files = (file.relative_to(CONFIGS) for file in CONFIGS.rglob("*.py"))
    return sorted(file.with_suffix("").as_posix() for file in files if file.parts[0] != "_base_")


def short_name(path: str | os.PathLike[str]) -> str:
    """By which :func:`find_config` finds a config that comes with the package; the path of any other as it is."""
    return Path(path).relative_to(CONFIGS).with_suffix("").as_posix() if CONFIGS in Path(path).parents else str(path)


def without_scope(entry: Any) -> Any:
    """A part of a config without what MMEngine notes in each dict of a base that begins with ``ean_core::``.

    That is ``_scope_="ean_core"``, as if the dict's type were in registries of that name. Types of our configs are in
    the registries of ``default_scope``, or of their own names.
    """
    if isinstance(entry, dict):
        if entry.get("_scope_") == "ean_core":
            del entry["_scope_"]
        for value in entry.values():
            without_scope(value)
    elif isinstance(entry, list | tuple):
        for value in entry:
            without_scope(value)
    return entry


def find_config(path: str | os.PathLike[str]) -> Path:
    """The file that a config's path or name means.

    Args:
        path: A file; or of a config that comes with the package its name, ``"ean_se_voc"``, the same with its folder,
            ``"seg/ean_se_voc"``, or its path in the repository, ``"configs/seg/ean_se_voc.py"``.

    Raises:
        FileNotFoundError: There is neither such a file nor such a name; the message has the nearest.
        UserError: Two configs have this name, or it is a checkpoint or a folder.
    """
    given, path = os.fspath(path), Path(path)
    if path.suffix == ".pth":
        raise UserError(f"'{path}' is a checkpoint, not a config")
    if path.is_file():
        return path
    name, names = path.as_posix().removesuffix(".py").removeprefix("configs/"), config_names()
    found = [known for known in names if name in (known, known.partition("/")[2])]
    if len(found) > 1:
        raise UserError(f"there are {len(found)} configs named '{name}': take {' or '.join(found)}")
    if found:
        return CONFIGS / f"{found[0]}.py"
    if given and path.is_dir():
        raise UserError(f"'{given}' is a folder, not a config: name a file in it")
    files = [other.name for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
    beside = [f"'{path.parent / other}'" for other in difflib.get_close_matches(path.name, files, n=1)]
    known = {known.partition("/")[2]: known for known in names} | {known: known for known in names}
    near = beside or list(dict.fromkeys(f"'{short}'" for short in difflib.get_close_matches(name, known, n=3)))
    hint = f"did you mean {' or '.join(near)}?" if near else "name a file, or one of those that 'ean configs' lists"
    raise FileNotFoundError(f"config '{given}' does not exist: {hint}")
