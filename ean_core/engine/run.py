"""Training and testing a config from beginning to end."""

from __future__ import annotations

import json
import platform
import shlex
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process, master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from rich.console import Console
from rich.table import Table

from ean_core.checkpoint import read_checkpoint
from ean_core.engine.config import task
from ean_core.engine.progress import ProgressHook
from ean_core.engine.runner import EANRunner, build_runner
from ean_core.engine.saving import BEST, LAST
from ean_core.files import set_aside, write_atomic

LONG_TABLE = 30  # rows; longer ones are only written to the file
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


def train(cfg: Config, resume: str | None = None, options: Sequence[str] | None = None) -> EANRunner:
    """Check the data, train, and say where the results lie.

    Args:
        cfg: A complete config.
        resume: ``None``: a new run; ``"last"``: continue the run in the work directory; or a checkpoint's path.
        options: What a test of the result needs on its command line besides the config and the checkpoint, for the
            proposal of the next command; ``None``: propose none.

    Returns:
        The runner, at the end of the training.

    Raises:
        ValueError, OSError: What the user can mend: data, config, paths.
    """
    work_dir = Path(cfg.work_dir)
    if resume is not None:
        checkpoint = work_dir / LAST if resume == "last" else Path(resume)
        if not checkpoint.is_file():
            raise FileNotFoundError(f"nothing to resume: '{checkpoint}' does not exist (start without --resume)")
        read_checkpoint(checkpoint)
        cfg.resume, cfg.load_from = True, str(checkpoint)
    claim(work_dir)
    task(cfg).check(cfg)
    runner = build_runner(cfg)
    loader = runner.train_dataloader
    if len(loader) == 0:  # drop_last
        raise ValueError(
            f"there are fewer training images ({len(loader.dataset)}) than one batch takes: lower "
            f"train_dataloader.batch_size ({cfg.train_dataloader.batch_size})"
        )
    if resume is None:
        runner.register_hook(SetAsideHook())
    if is_main_process():
        write_atomic(work_dir / Path(cfg.filename).name, cfg.pretty_text)
        write_atomic(work_dir / "environment.json", json.dumps(environment(), indent=2) + "\n")
    _finish(runner, runner.train)
    if is_main_process() and (work_dir / "metrics.json").is_file():
        summary = json.loads((work_dir / "metrics.json").read_text())
        rows = {name: {k: v for k, v in summary[name].items() if k != "mode"} for name in ("best", "last")}
        print_table("validation", rows)
        for label, name in task(cfg).RESULTS.items():
            if (work_dir / name).is_file():
                print(f"{label:<11} {work_dir / name}")
        if options is not None and (work_dir / BEST).is_file():
            print_next("python", "tools/test.py", cfg.filename, work_dir / BEST, *options)
    return runner


def evaluate(
    cfg: Config, checkpoint: str, tta: bool = False, fuse: bool = False, show_dir: str | None = None
) -> dict[str, float]:
    """Evaluate a checkpoint and write ``test.json`` into the work directory.

    Args:
        cfg: A complete config.
        checkpoint: The weights.
        tta: Average the predictions over ``cfg.tta_pipeline``'s versions of an image.
        fuse: Fold batch norms into convolutions first; the same results, faster.
        show_dir: Write a picture of every image into this folder.

    Returns:
        The metrics.
    """
    own_config = isinstance((read_checkpoint(checkpoint).get("meta") or {}).get("cfg"), str)
    if tta and "tta_model" not in cfg:
        raise ValueError("--tta: the config has no tta_model")
    if show_dir and "pictures" not in task(cfg).RESULTS:
        raise ValueError(f"--show-dir: {cfg.task} draws no pictures")
    claim(Path(cfg.work_dir))
    task(cfg).check(cfg, train=False)
    cfg.load_from, cfg.show_dir = checkpoint, show_dir
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
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The shape of value will convert")  # of merging, which adds an axis of 1
        metrics = {name: float(value) for name, value in _finish(runner, runner.test).items()}
    if is_main_process():
        record = {"checkpoint": checkpoint, **metrics}
        details = task(cfg).details(runner)
        path = Path(cfg.work_dir, "test.json")
        write_atomic(path, json.dumps(record | details, indent=2) + "\n")
        print_table("test", {"all": metrics})
        for title, rows in details.items():
            if 0 < len(rows) <= LONG_TABLE:
                print_table(title, rows)
        print(f"{'metrics':<11} {path}")
        if show_dir:
            print(f"{'pictures':<11} {show_dir}")
        config = [] if own_config else [cfg.filename]  # the checkpoint knows it, if training wrote it
        print_next("python", "tools/predict.py", *config, checkpoint, "IMAGE_OR_FOLDER", "--out", "predictions")
    return metrics


def environment() -> dict[str, Any]:
    """Versions and device, as written to ``environment.json``."""
    from importlib.metadata import PackageNotFoundError, version

    packages = {}
    for name in ("ean", "torch", "torchvision", "onedl-mmengine", "mmengine", "onedl-mmcv", "mmcv", "mmcv-lite",
                 "onedl-mmsegmentation", "mmsegmentation", "numpy", "scipy", "opencv-python", "pillow"):  # fmt: skip
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "CPU"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "threads": torch.get_num_threads(),
        "packages": packages,
    }


def print_table(title: str, rows: dict[str, dict[str, float]]) -> None:
    """Print numbers by row and column to two decimals (integers whole)."""
    table = Table(title=title, title_justify="left")
    columns = list(next(iter(rows.values())))
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    for name, values in rows.items():
        cells = (values.get(c) for c in columns)
        table.add_row(name, *(str(v) if isinstance(v, int | str) else "-" if v is None else f"{v:.2f}" for v in cells))
    Console(width=max(80, Console().width)).print(table)


def print_next(*command: object) -> None:
    """Print the command to try next, ready to be copied."""
    print(f"{'next':<11} {shlex.join(map(str, command))}")


def _finish(runner: EANRunner, run: Any) -> Any:
    try:
        return run()
    finally:
        for hook in runner.hooks:
            if isinstance(hook, ProgressHook):
                hook.after_run(runner)  # gives the terminal back


def claim(work_dir: Path) -> None:
    """Make a work directory.

    Raises:
        OSError: Nothing can be written there.
    """
    probe = work_dir / ".writable"
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(
            f"the work directory '{work_dir}' is not writable ({error.strerror}): choose --work-dir"
        ) from error
