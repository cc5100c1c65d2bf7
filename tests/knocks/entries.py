"""Wrong entries in configs: every entry in turn, set to something else on the command line of the tool."""

import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop

from ean_core.search import cell_training
from ean_testing.runs import tool
from knocks.answers import run_tool
from knocks.runs import PROGRAMS, ROOT
from knocks.world import World

VALUES = ("abc", "1.5", "None", "3", "0", "-1", "[]", "{}", "nan", "True", "1e30", "x" * 3000)
MADE = ("work_dir", "data_root", "task")  # the campaign's own, and one whose value is a module to import
OTHERS = {
    "crowd": PROGRAMS["segment"]._replace(
        config="configs/crowd/ean_se_shb.py",
        data="crowd",
        options=["train_cfg.max_epochs=1", "train_dataloader.num_workers=0", "val_dataloader.num_workers=0"],
        more=(),
    ),
    "cells of a genotype": PROGRAMS["train"]._replace(
        config="configs/cls/att_darts_cifar10.py", options=["train_cfg.max_epochs=2"], more=("--toy",)
    ),
}
CONFIGS = {**PROGRAMS, **OTHERS}


class Began(BaseException):
    """The training has begun: nothing was found to be wrong."""


class Entry(NamedTuple):
    """An entry of a config, by its dotted name."""

    config: str
    name: str


def knock(world: World, folder: Path, random: Random) -> None:
    """Set a random entry to a random value and begin to train, or to search."""
    config = random.choice(list(CONFIGS))
    entry, value = random.choice(entries(config)), random.choice(VALUES)
    begin(world, folder, entry, value)


def begin(world: World, folder: Path, entry: Entry, value: str) -> str | None:
    """Run a tool until its first iteration; the message where it refuses."""
    program, work_dir = CONFIGS[entry.config], folder / "work"
    if entry.config == "search" and entry.name.startswith("search."):  # these count when the supernet is there
        shutil.copytree(world.references["search"].work_dir / "supernet", work_dir / "supernet")
    argv = program.argv(world.data, work_dir, changes=(f"{entry.name}={value}",))
    stop_at_first_iteration()
    try:
        return run_tool(tool(program.tool), argv).message
    except Began:
        return None


def stop_at_first_iteration() -> None:
    """For this process, in which nothing else runs."""

    def began(*args: Any, **kwargs: Any) -> None:
        raise Began

    EpochBasedTrainLoop.run_iter = began
    cell_training.search_step = began


@cache
def entries(config: str) -> list[Entry]:
    """All entries of a config, nested ones and whole branches too."""
    cfg = Config.fromfile(ROOT / CONFIGS[config].config).to_dict()
    changed = {option.partition("=")[0] for option in CONFIGS[config].options}
    return [Entry(config, name) for name in dotted(cfg) if name not in MADE and name not in changed]


def dotted(tree: Any, prefix: str = "") -> Iterator[str]:
    """The names of all nodes of nested dicts and lists."""
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield f"{prefix}{key}"
            yield from dotted(value, f"{prefix}{key}.")
