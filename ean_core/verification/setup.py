"""What a verification begins with: a finished search, the config of its trainings, images it has not chosen by."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, HOOKS, DefaultScope

from ean_core.application import find_application
from ean_core.cells import Genotype
from ean_core.engine.config import load_config, read_config
from ean_core.engine.models import point_names
from ean_core.engine.runner import registered
from ean_core.errors import UserError, building
from ean_core.files import read_json, read_json_lines
from ean_core.scheme import read_scheme_file
from ean_core.search.cell_resume import GENOTYPE, HISTORY
from ean_core.search.cell_resume import STATE as CELL_STATE
from ean_core.search.log import read_log
from ean_core.search.loop import LOG, SCHEME, STATE
from ean_core.search.made_with import NOTE, searched_config
from ean_core.search.settings import flatten
from ean_core.search.supernet import SupernetHook
from ean_core.terminal import progress_bar

OWN = ("scheme", "init_cfg", "frozen")
"""Options of a backbone that a training does not take from the search."""
TOY_EPOCHS = 3
"""Of a training with ``toy``, where the options do not say otherwise: a verification trains a dozen times."""
PARTS = {"train_part": "train", "val_part": "val"}
"""The parts of the data of a training whose config is that of the search."""


@dataclass(frozen=True)
class Search:
    """A finished search.

    Attributes:
        folder: Where it lies.
        cfg: Its complete config.
        result: The content of its ``scheme.json`` or ``genotype.json``.
        cells: Whether it has searched cells.
    """

    folder: Path
    cfg: Config
    result: dict[str, Any]
    cells: bool


def read_search(folder: Path) -> Search:
    """A finished search.

    Raises:
        UserError: The folder holds no search, or one that is not finished.
    """
    cells = (folder / HISTORY).is_file() or (folder / GENOTYPE).is_file()
    result, state, log = (GENOTYPE, CELL_STATE, HISTORY) if cells else (SCHEME, STATE, LOG)
    if not (folder / result).is_file() and not (folder / state).is_file():
        raise UserError(f"'{folder}' holds no finished search: it has no {SCHEME} and no {GENOTYPE}")
    unfinished = UserError(
        f"the search in '{folder}' is not finished: give its command again with --resume, then verify its result"
    )
    if not (folder / result).is_file():
        raise unfinished
    found = read_json(folder / result)
    try:
        if cells:
            done = found["epochs"] == read_json_lines(folder / log)[-1]["epoch"]
        else:
            done = found["evaluations"] + found["cache_hits"] == len(read_log(folder / log))
    except (IndexError, KeyError, TypeError) as error:
        raise UserError(f"'{folder / result}' is not the result of the search whose log is {log}") from error
    if not done:  # it was continued with more steps
        raise unfinished
    cfg = searched_config(folder)
    find_application(cfg)  # also registers what its data sets are made of
    return Search(folder, cfg, found, cells)


def training_config(
    search: Search,
    config: str | None = None,
    *,
    toy: bool = False,
    data_root: str | None = None,
    classes: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Config:
    """The complete config by which the found scheme, and those beside it, are trained.

    It is ``search.retrain``, or else the search's own config on all its training images. The network and the data are
    the search's: its backbone whole, and every entry of the model and every word at the top of the config that both
    files say alike and that the search has changed, such as ``data_root`` or ``image_size``. The schedule is the
    training's own. A config that is named by ``config`` is taken as it is, with the found scheme.

    Args:
        search: The search.
        config: Another config, also of another task.
        toy: With the config's ``toy`` entries; so it is where the search was made with ``--toy``.
        data_root: Instead of the search's.
        classes: As :func:`~ean_core.engine.load_config` takes it.
        options: Further changes, by dotted name.

    Raises:
        UserError, FileNotFoundError: A config cannot be read, or the scheme does not fit it.
    """
    note = search.cfg[NOTE]
    words = list(note["options"])
    changes: dict[str, Any] = {}
    if config is None:
        path = _path(str(search.cfg.search.get("retrain", "CONFIG")), Path(note["config"]))
        changes = _carried(search, Path(note["config"]), path)
        if data_root is None and "--data-root" in words:
            data_root = words[words.index("--data-root") + 1]
        toy = toy or "--toy" in words
    else:
        path = Path(config)
    if toy:
        changes["train_cfg.max_epochs"] = TOY_EPOCHS
    cfg = load_config(
        path, toy=toy, data_root=data_root, classes=classes, options={**changes, **(options or {})}, work_dir="-"
    )
    if cfg.get("search", {}).get("type") == "cells":
        raise UserError(f"'{path}' searches cells, and does not train them: name a training config by --config")
    backbone = cfg.get("model", {}).get("backbone", {})
    if ("genotype" in backbone) != search.cells:
        kind = "cells" if search.cells else "a connection scheme"
        raise UserError(f"'{search.folder}' has found {kind}, for which '{path}' has no network: name another --config")
    if search.cells:
        backbone.genotype = str(Genotype.load(search.folder / GENOTYPE))
    else:
        if backbone.get("attention") is None:
            raise UserError(f"'{path}' has no attention, which a scheme connects: name a config with it by --config")
        names = point_names(backbone)
        backbone.scheme = read_scheme_file(search.folder / SCHEME, backbone.get("attention"), names)
    hooks = cfg.get("custom_hooks") or []
    cfg.custom_hooks = [hook for hook in hooks if registered(HOOKS, hook) is not SupernetHook]
    for name in ("search", NOTE, "toy", "work_dir"):
        cfg.pop(name, None)
    cfg.train_cfg.val_interval = cfg.train_cfg.max_epochs  # the end is all that counts
    return cfg


def metric_of(cfg: Config) -> tuple[str, bool]:
    """The metric by which a config's task judges, and whether more of it is better: those of its ``SaveHook``."""
    options = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    if "metric" not in options:
        raise UserError("default_hooks.checkpoint names no metric: a verification compares by that of the SaveHook")
    return str(options["metric"]), options.get("rule", "greater") == "greater"


def seen_by_search(search: Search, cfg: Config) -> tuple[list[str], int]:
    """The test images of a training config whose content is that of an image of D_val.

    Images are compared as they are decoded, and by the bytes of their files where a data set names these, so a copy
    under another name is found as well. Those of another task are decoded to other sizes, and have their files only.

    Returns:
        What is known of each: its file, or its number; and how many test images there are.

    Raises:
        UserError: Images of the same task cannot be compared: they have no files, and are decoded to other sizes.
    """
    own, test = _contents(search.cfg, "val_dataloader", "D_val"), _contents(cfg, "test_dataloader", "test images")
    known = {digest for _, _, digests in own for digest in digests}
    found = [name for name, _, digests in test if digests & known]
    files = all(any("file" in digest for digest in part[0][2]) for part in (own, test))
    sizes = [{shape for _, shape, _ in part} for part in (own, test)]
    if search.cfg.task == cfg.task and not files and max(map(len, sizes)) == 1 and sizes[0] != sizes[1]:
        raise UserError(
            f"D_val is decoded to {_shape(sizes[0])} and the test images to {_shape(sizes[1])}: images of different "
            "sizes cannot be compared, and D_val must not be among them; choose the size that the search had"
        )
    return found, len(test)


def build_dataset(cfg: Config, loader: str) -> Any:
    """The data set of a config's ``loader``, without the lines that it would log."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    scope = DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine"))
    try:
        with building(f"{loader}.dataset"), scope:
            return DATASETS.build(cfg[loader].dataset)
    finally:
        logger.setLevel(level)


Content = tuple[str, tuple[int, ...], set[str]]


def _contents(cfg: Config, loader: str, name: str) -> list[Content]:
    """Of every image of a data set: its name, its shape, and digests of what it contains."""
    dataset = build_dataset(cfg, loader)
    found = []
    with progress_bar(transient=True) as bar:
        for index in bar.track(range(len(dataset)), description=f"reading {name}"):
            item = dataset[index]
            path = item.get("img_path") or getattr(item.get("data_samples"), "img_path", None)
            array = torch.as_tensor(item["inputs"]).detach().cpu().contiguous()
            digests = {hashlib.sha256(array.view(torch.uint8).numpy().tobytes()).hexdigest()}
            if path is not None:
                digests.add("file " + hashlib.sha256(Path(path).read_bytes()).hexdigest())
            found.append((str(path or f"number {index}"), tuple(array.shape), digests))
    return found


def _shape(shapes: set[tuple[int, ...]]) -> str:
    return "x".join(map(str, next(iter(shapes))))


def _path(target: str, source: Path) -> Path:
    """A config by its path from the root of the repository, from where the search's config is known."""
    if target == "CONFIG":
        return source
    roots = [Path(), *source.resolve().parents]
    return next((root / target for root in roots if (root / target).is_file()), Path(target))


def _carried(search: Search, source: Path, target: Path) -> dict[str, Any]:
    """What the config of a training takes over from a search, by dotted name."""
    before, other, now = (
        flatten(dict(cfg._cfg_dict)) for cfg in (read_config(source), read_config(target), search.cfg)
    )  # fmt: skip
    alike = [name for name in now if name in before and name in other and before[name] == other[name]]
    words = {name for name in alike if "." not in name or name.startswith("model.")}
    found = {name: now[name] for name in alike if name in words and now[name] != before[name]}
    if source == target:
        found |= {name: part for name, part in PARTS.items() if name in now}
    if not search.cells:
        theirs = read_config(target).model.backbone
        backbone = {name: value for name, value in search.cfg.model.backbone.to_dict().items() if name not in OWN}
        backbone |= {name: theirs[name] for name in OWN if name != "scheme" and name in theirs}
        found = {name: value for name, value in found.items() if not name.startswith("model.backbone.")}
        found["model.backbone"] = {**backbone, "_delete_": True}
    return found
