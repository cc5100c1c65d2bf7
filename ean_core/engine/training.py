"""Training a config from beginning to end."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process, master_only
from mmengine.hooks import Hook

from ean_core.application import Application, find_application
from ean_core.checkpoint import read_checkpoint
from ean_core.engine.environment import environment
from ean_core.engine.history import HISTORY, read_history
from ean_core.engine.progress import showing
from ean_core.engine.runner import EANRunner, build_runner, unwrap
from ean_core.engine.saving import BEST, LAST
from ean_core.engine.shipped import short_name
from ean_core.engine.space import log_strictly, naming_full_disk, space_needed
from ean_core.engine.stop_hook import StopHook
from ean_core.errors import UserError
from ean_core.files import read_json, write_atomic, written
from ean_core.stopping import launched_rank, running
from ean_core.terminal import print_line, print_next, print_table, tool
from ean_core.work_dir import begin, require_space, set_aside, working_in

RUN_FILES = (LAST, BEST, HISTORY, "metrics.json", "curves.png")


class BeginHook(Hook):
    """Write the first files when training begins: a run that is stopped before, e.g. by weights, leaves none.

    Args:
        write: Writes them.
    """

    priority = "HIGHEST"

    def __init__(self, write: Callable[[], None]) -> None:
        self._write = write

    @master_only
    def before_train(self, runner: Any) -> None:
        """Write the files."""
        begin()
        self._write()


def train(
    cfg: Config,
    resume: str | None = None,
    *,
    options: Sequence[str] | None = None,
    application: Application | None = None,
    first: Callable[[], None] = lambda: None,
) -> EANRunner:
    """Check the data, train, and say where the results lie.

    Results of an earlier run in the work directory are moved to ``previous/``. A run that fails before its training
    begins leaves the work directory as it was.

    Args:
        cfg: A complete config (:func:`~ean_core.engine.load_config`). It is not changed.
        resume: ``None``: a new run; ``"last"``: continue the run in the work directory; or a checkpoint's path.
        options: What a test of the result needs on its command line besides the config and the checkpoint, for the
            proposal of the next command; ``None``: propose none.
        application: The config's task, if the caller has it already.
        first: What else to write when the training begins.

    Returns:
        The runner, at the end of the training.

    Raises:
        UserError, OSError: What the user can mend: data, config, paths, another run in the work directory, a full disk.
    """
    search = cfg.get("search")
    if isinstance(search, dict) and search.get("type") == "cells":
        raise UserError(f"'{cfg.filename}' searches cells: run '{tool('search')}'")
    for name in ("train_cfg", "train_dataloader", "optim_wrapper"):
        if cfg.get(name) is None:
            raise UserError(f"'{cfg.filename}': {name} is missing, which a training needs")
    cfg = copy.deepcopy(cfg)
    application = application or find_application(cfg)
    work_dir = Path(cfg.work_dir)
    if resume is not None:
        checkpoint = work_dir / LAST if resume == "last" else Path(resume)
        if not checkpoint.is_file():
            raise FileNotFoundError(f"nothing to resume: '{checkpoint}' does not exist (start without --resume)")
        read_checkpoint(checkpoint)
        read_history(work_dir / HISTORY)
        cfg.resume, cfg.load_from = True, str(checkpoint)

    def write() -> None:
        if resume is None:
            set_aside(work_dir, RUN_FILES)
        write_atomic(work_dir / Path(cfg.filename).name, cfg.pretty_text)
        write_atomic(work_dir / "environment.json", json.dumps(environment(), indent=2) + "\n")
        first()

    stop, before = StopHook(), written(work_dir / LAST)
    instead = None if resume in (None, "last") else resume

    def saved() -> bool:
        now = written(work_dir / LAST)
        return now is not None and (resume == "last" or now != before)

    with (
        running(lambda: stop.where, saved, instead=instead),
        working_in(work_dir, (*RUN_FILES, Path(cfg.filename).name, "environment.json")),
    ):
        require_space(work_dir, 0)  # for the first lines of the log
        if not launched_rank():  # the first words: a data set may have a hundred thousand files
            print_line("checking", f"the data in {cfg.get('data_root', 'the config')}")
        application.check(cfg, train=True)
        runner = build_runner(cfg)
        loader = runner.train_dataloader
        if len(loader) == 0:  # drop_last
            raise UserError(
                f"there are fewer training images ({len(loader.dataset)}) than one batch takes: lower "
                f"train_dataloader.batch_size ({cfg.train_dataloader.batch_size})"
            )
        require_space(work_dir, space_needed(cfg, unwrap(runner.model), replaced=resume is not None))
        log_strictly(runner.logger)
        runner.register_hook(BeginHook(write))
        runner.register_hook(stop)
        with showing(runner), naming_full_disk(work_dir):
            runner.train()
        if is_main_process() and (work_dir / "metrics.json").is_file():
            _report(cfg, application, work_dir, options)
    return runner


def _report(cfg: Config, application: Application, work_dir: Path, options: Sequence[str] | None) -> None:
    """The best and the last validation, the files, and the next command."""
    summary = read_json(work_dir / "metrics.json")
    rows = {name: {k: v for k, v in summary[name].items() if k != "mode"} for name in ("best", "last")}
    print_table("validation", rows)
    for label, name in application.results.items():
        if (work_dir / name).is_file():
            print_line(label, work_dir / name)
    if options is not None and (work_dir / BEST).is_file():
        print_next(tool("test"), short_name(cfg.filename), work_dir / BEST, *options)
