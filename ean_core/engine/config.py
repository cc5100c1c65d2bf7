"""From a config file and a few choices to a complete config."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ean_core.application import find_application
from ean_core.cells import Genotype
from ean_core.engine.models import blueprint, point_names
from ean_core.engine.schema import check_entries
from ean_core.engine.shipped import find_config, without_scope
from ean_core.errors import UserError, building, first_line, shortened
from ean_core.scheme import read_scheme_file


def load_config(
    path: str | os.PathLike[str] | Config,
    *,
    toy: bool = False,
    scheme: str | None = None,
    genotype: str | os.PathLike[str] | None = None,
    data_root: str | os.PathLike[str] | None = None,
    classes: str | os.PathLike[str] | None = None,
    work_dir: str | os.PathLike[str] | None = None,
    pretrained: str | None = None,
    amp: bool = False,
    launcher: str = "none",
    options: Mapping[str, Any] | None = None,
) -> Config:
    """The complete config of a file, its choices made by its task (:class:`ean_core.application.Application`).

    The file's entries come first, then what ``toy`` changes, then ``options``, then the other arguments.

    Args:
        path: The config file, e.g. ``"configs/seg/ean_se_voc.py"``, or a name, ``"ean_se_voc"``
            (:func:`~ean_core.engine.shipped.find_config`); or a config as it stands.
        toy: Small generated data and a schedule of about a minute.
        scheme: What :meth:`~ean_core.scheme.ConnectionScheme.parse` takes, e.g. a ``scheme.json``.
        genotype: Of a network of cells: what :meth:`~ean_core.cells.Genotype.load` takes, e.g. a ``genotype.json``.
        data_root: The folder of your own data in the task's layout.
        classes: A text file with the class names, one a line.
        work_dir: Where everything is written; ``work_dirs/CONFIG`` by default.
        pretrained: Weights of the backbone: a file, or ``"torchvision"``.
        amp: Mixed precision (bfloat16 on a CPU).
        launcher: ``"pytorch"`` under ``torchrun``, ``"slurm"`` under ``srun``.
        options: Further changes, by dotted name: ``{"train_cfg.max_epochs": 3}``.

    Raises:
        FileNotFoundError: The config, a base of it, or a file that is named does not exist.
        UserError: The config cannot be read, or a choice does not fit it.
    """
    if isinstance(path, Config):
        cfg, path = path.copy(), Path(path.filename or "the config")
    else:
        path = find_config(path)
        cfg = read_config(path)
    if toy:
        _merge(cfg, cfg.get("toy") or {}, f"'{path}': toy")
    _merge(cfg, options or {}, "--cfg-options")
    check_entries(cfg)
    application = find_application(cfg)
    backbone = cfg.get("model", {}).get("backbone")
    if backbone is None and (scheme is not None or pretrained is not None):
        raise UserError(f"'{path}' has no model.backbone, which --scheme and --pretrained are for")
    if scheme is not None:
        if "genotype" in backbone:
            raise UserError(f"'{path}' has a network of cells, which has no connection scheme: take --genotype")
        backbone.scheme = scheme
    written = (backbone or {}).get("scheme")
    if isinstance(written, str) and written.endswith(".json"):  # a stored config does not depend on a file
        backbone.scheme = read_scheme_file(Path(written), backbone.get("attention"), point_names(backbone))
    _take_genotype(cfg, genotype)
    if pretrained is not None:
        backbone.init_cfg = {"type": "Pretrained", "checkpoint": _weights(pretrained, cfg)}
    if amp:
        cfg.setdefault("optim_wrapper", {})["type"] = "AmpOptimWrapper"
    if work_dir is not None and not os.fspath(work_dir):
        raise UserError("--work-dir is empty: name a folder")
    cfg.work_dir = os.fspath(work_dir) if work_dir is not None else cfg.get("work_dir") or f"work_dirs/{path.stem}"
    cfg.launcher = launcher
    with building(f"'{path}', as the task '{application.name}' reads it"):
        application.configure(cfg, toy=toy, data_root=_text(data_root), classes=_text(classes))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for loader in (cfg.get(f"{part}_dataloader") for part in ("train", "val", "test")):
        if loader and loader.get("num_workers", 0) > cores:
            loader.num_workers = cores  # more only wait for each other, and torch warns of it
    schedulers = cfg.get("param_scheduler") or []
    epochs = (cfg.get("train_cfg") or {}).get("max_epochs")
    for scheduler in ([schedulers] if isinstance(schedulers, dict) else schedulers)[-1:]:
        if epochs is not None and scheduler.get("by_epoch", True):
            scheduler["end"] = epochs  # the schedule follows train_cfg.max_epochs
    check_entries(cfg)  # the task's choices have filled in more of them
    return cfg


def _merge(cfg: Config, changes: Mapping[str, Any], where: str) -> None:
    """Lay changes over a config, by dotted name.

    Raises:
        UserError: There is no such place in the config.
    """
    for name, value in changes.items():
        try:
            cfg.merge_from_dict({name: value})
        except Exception as error:  # MMEngine raises what happens to be raised
            raise UserError(f"{where} {name}={shortened(value)}: the config has no such place for it") from error


def _take_genotype(cfg: Config, genotype: str | os.PathLike[str] | None) -> None:
    """Write a genotype into the config as its text, so that the config does not depend on a file."""
    backbone: Any = cfg.get("model", {}).get("backbone") or {}
    if genotype is None:
        genotype = backbone.get("genotype")
    elif "genotype" not in backbone:
        raise UserError(f"'{cfg.filename}' has no network of cells: --genotype is for configs such as att_darts_*.py")
    if genotype is not None:
        backbone.genotype = str(Genotype.load(genotype))


def read_config(path: Path) -> Config:
    """A config as it stands, named as :func:`~ean_core.engine.shipped.find_config` takes it.

    Raises:
        FileNotFoundError: The config, or a base of it, does not exist; the message names similar ones.
        UserError: It cannot be read, or an entry has a wrong value.
    """
    path = find_config(path)
    _check_bases(path)
    try:
        cfg = Config.fromfile(path)
    except (Exception, SystemExit) as error:  # a config is a program: anything may happen in it
        if isinstance(error, OSError) and error.strerror:  # it says which file
            raise
        raise UserError(f"config '{path}' cannot be read: {type(error).__name__}: {first_line(str(error))}") from error
    without_scope(cfg._cfg_dict)
    check_entries(cfg)
    return cfg


def _check_bases(path: Path, above: tuple[Path, ...] = ()) -> None:
    """Follow the files that a config names in ``_base_``, which must not lead back to it.

    Raises:
        UserError: They do.
    """
    path = path.resolve()
    if path in above:
        circle = " -> ".join(p.name for p in (*above[above.index(path) :], path))
        raise UserError(f"config '{above[0]}' is its own base: {circle}")
    try:
        bases = Config._get_base_files(str(path))
    except Exception:  # reading the config itself will say what is wrong
        return
    for base in bases:
        if "::" not in base and (path.parent / base).is_file():  # otherwise it is of an installed package
            _check_bases(path.parent / base, (*above, path))


def read_class_names(path: Path) -> list[str]:
    """Class names, one a line, blank lines skipped.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: It names fewer than two classes.
    """
    if not path.is_file():
        raise FileNotFoundError(f"file of class names '{path}' does not exist")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"'{path}' is not text: write one class name a line") from error
    names = [line.strip() for line in lines if line.strip()]
    if len(names) < 2:
        raise UserError(f"'{path}' names {len(names)} classes: write at least two, one a line, label 0 first")
    return names


def _text(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.fspath(path)


def _weights(pretrained: str, cfg: Config) -> str:
    if pretrained != "torchvision":
        if not Path(pretrained).is_file():
            raise FileNotFoundError(f"pretrained weights '{pretrained}' do not exist")
        return pretrained
    backbone = blueprint(cfg.model.backbone)
    name = getattr(backbone, "torchvision", None)
    if name is None:
        raise UserError(f"torchvision has no weights for {type(backbone).__name__}: name a file with --pretrained")
    return f"torchvision://{name}"
