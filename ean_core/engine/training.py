"""Training a config from beginning to end."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process, master_only
from mmengine.hooks import Hook

from ean_core.application import Application, find_application
from ean_core.checkpoint import read_checkpoint
from ean_core.engine.environment import environment
from ean_core.engine.progress import showing
from ean_core.engine.runner import EANRunner, build_runner
from ean_core.engine.saving import BEST, LAST
from ean_core.errors import UserError
from ean_core.files import make_work_dir, set_aside, write_atomic
from ean_core.terminal import print_line, print_next, print_table

RUN_FILES = (LAST, BEST, "history.jsonl", "metrics.json", "curves.png")


class SetAsideHook(Hook):
    """Move the results of an earlier run in the work directory to ``previous/``, so that none is overwritten.

    It waits until training begins: what stops a run before, such as weights that do not fit, costs no results.
    """

    priority = "HIGHEST"

    @master_only
    def before_train(self, runner: Any) -> None:
        """Move the files."""
        set_aside(Path(runner.work_dir), RUN_FILES)


def train(
    cfg: Config,
    resume: str | None = None,
    *,
    options: Sequence[str] | None = None,
    application: Application | None = None,
) -> EANRunner:
    """Check the data, train, and say where the results lie.

    Args:
        cfg: A complete config (:func:`~ean_core.engine.load_config`). It is not changed.
        resume: ``None``: a new run; ``"last"``: continue the run in the work directory; or a checkpoint's path.
        options: What a test of the result needs on its command line besides the config and the checkpoint, for the
            proposal of the next command; ``None``: propose none.
        application: The config's task, if the caller has it already.

    Returns:
        The runner, at the end of the training.

    Raises:
        UserError, OSError: What the user can mend: data, config, paths.
    """
    search = cfg.get("search")
    if isinstance(search, dict) and search.get("type") == "cells":
        raise UserError(f"'{cfg.filename}' searches cells: run tools/search.py")
    cfg = copy.deepcopy(cfg)
    application = application or find_application(cfg)
    work_dir = Path(cfg.work_dir)
    if resume is not None:
        checkpoint = work_dir / LAST if resume == "last" else Path(resume)
        if not checkpoint.is_file():
            raise FileNotFoundError(f"nothing to resume: '{checkpoint}' does not exist (start without --resume)")
        read_checkpoint(checkpoint)
        cfg.resume, cfg.load_from = True, str(checkpoint)
    make_work_dir(work_dir)
    application.check(cfg, train=True)
    runner = build_runner(cfg)
    loader = runner.train_dataloader
    if len(loader) == 0:  # drop_last
        raise UserError(
            f"there are fewer training images ({len(loader.dataset)}) than one batch takes: lower "
            f"train_dataloader.batch_size ({cfg.train_dataloader.batch_size})"
        )
    if resume is None:
        runner.register_hook(SetAsideHook())
    if is_main_process():
        write_atomic(work_dir / Path(cfg.filename).name, cfg.pretty_text)
        write_atomic(work_dir / "environment.json", json.dumps(environment(), indent=2) + "\n")
    with showing(runner):
        runner.train()
    if is_main_process() and (work_dir / "metrics.json").is_file():
        summary = json.loads((work_dir / "metrics.json").read_text())
        rows = {name: {k: v for k, v in summary[name].items() if k != "mode"} for name in ("best", "last")}
        print_table("validation", rows)
        for label, name in application.results.items():
            if (work_dir / name).is_file():
                print_line(label, work_dir / name)
        if options is not None and (work_dir / BEST).is_file():
            print_next("python", "tools/test.py", cfg.filename, work_dir / BEST, *options)
    return runner
