"""From a command line to a complete config: the file, --toy, --cfg-options, then the options with their own flag."""

from __future__ import annotations

import argparse
import difflib
import os
from importlib import import_module
from pathlib import Path
from types import ModuleType

from mmengine.config import Config, DictAction

from ean_core.scheme import read_scheme_file


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that every tool on a config understands."""
    parser.add_argument("config", help="config file, e.g. configs/seg/ean_se_voc.py")
    parser.add_argument("--toy", action="store_true", help="small generated data and a schedule of about a minute")
    parser.add_argument("--scheme", help="0/1 by stage (1-01-11), full, none, a published name, or a scheme.json")
    parser.add_argument("--data-root", help="folder of your own data in the task's layout")
    parser.add_argument("--classes", help="text file with the class names, one a line")
    parser.add_argument("--work-dir", help="where everything is written (default: work_dirs/CONFIG)")
    parser.add_argument("--launcher", choices=["none", "pytorch"], default="none", help="pytorch: under torchrun")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, default={}, metavar="KEY=VALUE", help="change any config entry"
    )


def load_config(args: argparse.Namespace) -> Config:
    """The config of a command line, resolved by its task.

    A config names its task in ``task``: a package with a module ``task`` whose ``configure(cfg, toy, data_root,
    classes)`` turns the config's one-word choices into what MMEngine builds.

    Raises:
        FileNotFoundError: The config, a base of it, or a file named on the command line does not exist.
        ValueError: The config cannot be read, or an option does not fit it.
    """
    path = Path(args.config)
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, near, n=1)
        hint = f": did you mean '{path.parent / close[0]}'?" if close else ""
        raise FileNotFoundError(f"config '{path}' does not exist{hint}")
    try:
        cfg = Config.fromfile(path)
    except (SyntaxError, TypeError, AttributeError, NameError) as error:
        raise ValueError(f"config '{path}' cannot be read: {error}") from error
    if args.toy:
        cfg.merge_from_dict(cfg.get("toy", {}))
    cfg.merge_from_dict(args.cfg_options)
    if args.scheme is not None:
        backbone = cfg.model.backbone
        backbone.scheme = args.scheme
        if args.scheme.endswith(".json"):
            backbone.scheme = read_scheme_file(Path(args.scheme), backbone.get("attention"))
    if getattr(args, "pretrained", None):
        cfg.model.backbone.init_cfg = {"type": "Pretrained", "checkpoint": _source(args.pretrained, cfg)}
    if getattr(args, "amp", False):
        cfg.optim_wrapper.type = "AmpOptimWrapper"
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or str(Path("work_dirs", path.stem))
    cfg.launcher = args.launcher
    task(cfg).configure(cfg, toy=args.toy, data_root=args.data_root, classes=args.classes)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for loader in (cfg.get(f"{part}_dataloader") for part in ("train", "val", "test")):
        if loader and loader.get("num_workers", 0) > cores:
            loader.num_workers = cores  # more only wait for each other, and torch warns of it
    for scheduler in cfg.get("param_scheduler", [])[-1:]:
        scheduler.end = cfg.train_cfg.max_epochs  # the schedule follows --cfg-options train_cfg.max_epochs
    return cfg


def task(cfg: Config) -> ModuleType:
    """The task module of a config.

    Raises:
        ValueError: The config names none, or one that does not exist.
    """
    if "task" not in cfg:
        raise ValueError(f"'{cfg.filename}' names no task: add task = 'segmentation' (or another of our packages)")
    try:
        return import_module(f"{cfg.task}.task")
    except ModuleNotFoundError as error:
        if error.name not in (cfg.task, f"{cfg.task}.task"):
            raise
        raise ValueError(
            f"'{cfg.filename}' names an unknown task '{cfg.task}': task = 'segmentation' is one"
        ) from error


def read_class_names(path: Path) -> list[str]:
    """Class names, one a line, blank lines skipped.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It names fewer than two classes.
    """
    if not path.is_file():
        raise FileNotFoundError(f"file of class names '{path}' does not exist")
    names = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    if len(names) < 2:
        raise ValueError(f"'{path}' names {len(names)} classes: write at least two, one a line, label 0 first")
    return names


def _source(pretrained: str, cfg: Config) -> str:
    if pretrained != "torchvision":
        if not Path(pretrained).is_file():
            raise FileNotFoundError(f"pretrained weights '{pretrained}' do not exist")
        return pretrained
    return f"torchvision://resnet{cfg.model.backbone.get('depth', 50)}"
