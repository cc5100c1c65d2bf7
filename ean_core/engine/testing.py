"""Evaluating a checkpoint of a config."""

from __future__ import annotations

import copy
import json
import os
import warnings
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper

from ean_core.application import TASKS, find_application
from ean_core.checkpoint import meta_of, read_checkpoint
from ean_core.engine.progress import showing
from ean_core.engine.runner import build_runner
from ean_core.engine.space import log_strictly
from ean_core.engine.stop_hook import StopHook
from ean_core.errors import UserError
from ean_core.files import write_atomic
from ean_core.stopping import running
from ean_core.terminal import print_line, print_next, print_table, tool
from ean_core.work_dir import begin, working_in

LONG_TABLE = 30  # rows; longer ones are only written to the file


def evaluate(
    cfg: Config,
    checkpoint: str | os.PathLike[str],
    *,
    tta: bool = False,
    fuse: bool = False,
    show_dir: str | os.PathLike[str] | None = None,
    density_dir: str | os.PathLike[str] | None = None,
) -> dict[str, float]:
    """Evaluate a checkpoint and write ``test.json`` into the work directory.

    Args:
        cfg: A complete config (:func:`~ean_core.engine.load_config`). It is not changed.
        checkpoint: The weights.
        tta: Average the predictions over ``cfg.tta_pipeline``'s versions of an image.
        fuse: Fold batch norms into convolutions first; the same results, faster.
        show_dir: Write a picture of every image into this folder.
        density_dir: Write the density of every image into this folder, as NAME.npy and NAME.png.

    Returns:
        The metrics.

    Raises:
        UserError, OSError: What the user can mend: data, config, paths.
    """
    cfg = copy.deepcopy(cfg)
    application = find_application(cfg)
    checkpoint, show_dir = os.fspath(checkpoint), os.fspath(show_dir) if show_dir else None
    has_config = isinstance(meta_of(read_checkpoint(checkpoint)).get("cfg"), str) and cfg.task in TASKS
    if tta and "tta_model" not in cfg:
        raise UserError("--tta: the config has no tta_model")
    if show_dir and "pictures" not in application.results:
        raise UserError(f"--show-dir: {application.name} draws no pictures")
    if density_dir:
        application.require_forms(("density",))
    cfg.load_from, cfg.show_dir, cfg.density_dir = checkpoint, show_dir, os.fspath(density_dir) if density_dir else None
    stop = StopHook()
    with running(lambda: stop.where, lambda: False), working_in(Path(cfg.work_dir), alone=False):
        application.check(cfg, train=False)
        if tta:
            cfg.model = {**cfg.tta_model, "module": cfg.model}
            if "tta_pipeline" in cfg:
                cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        runner = build_runner(cfg)
        runner.load_or_resume()
        if fuse:
            from ean_core.deploy import fuse as fuse_model  # a training needs none of it

            model = runner.model
            runner.model = fuse_model(model.module if is_model_wrapper(model) else model)
        log_strictly(runner.logger)
        runner.register_hook(stop)
        begin()
        with showing(runner), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The shape of value will convert")  # of merging, which adds an axis of 1
            metrics = {name: float(value) for name, value in runner.test().items()}
    if is_main_process():
        measures = runner.test_evaluator.metrics
        tables = {title: rows for measure in measures for title, rows in getattr(measure, "tables", {}).items()}
        path = Path(cfg.work_dir, "test.json")
        write_atomic(path, json.dumps({"checkpoint": checkpoint, **metrics, **tables}, indent=2) + "\n")
        print_table("test", {"all": metrics})
        for title, rows in tables.items():
            if 0 < len(rows) <= LONG_TABLE:
                print_table(title, rows)
        print_line("metrics", path)
        if show_dir:
            print_line("pictures", show_dir)
        if density_dir:
            print_line("densities", density_dir)
        config = []
        if not has_config and cfg.filename:
            as_run = Path(checkpoint).with_name(Path(cfg.filename).name)  # training puts it there
            config = [as_run if as_run.is_file() else cfg.filename]
        print_next(tool("predict"), *config, checkpoint, "IMAGE_OR_FOLDER", "--out", "predictions")
    return metrics
