"""What a run shows on the terminal: a header, a bar with the time left, validation results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from rich.progress import Progress
from torch import nn

from ean_core.engine.runner import unwrap
from ean_core.engine.shipped import short_name
from ean_core.engine.stop_hook import StopHook
from ean_core.plug import Pluggable, find_pluggable
from ean_core.terminal import ProgressLines, progress_bar


@HOOKS.register_module()
class ProgressHook(Hook):
    """A bar on a terminal; where output goes to a file, a line per validation, and in between one now and then.

    Args:
        metric: The validation metric shown beside the loss.
    """

    priority = "LOWEST"

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self._bar: Progress | None = None
        self._lines: ProgressLines | None = None
        self._score = ""

    def before_train(self, runner: Any) -> None:
        """Print the header and start the bar."""
        if not is_main_process():
            return
        _show(runner, header(runner))
        self._bar = progress_bar()
        self._bar.start()
        self._task = self._bar.add_task("", total=runner.max_iters, completed=runner.iter)
        self._lines = ProgressLines("iteration", total=runner.max_iters, begun=runner.iter, slower=1.5)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Advance the bar."""
        if self._bar is not None:
            loss = float((outputs or {})["loss"].detach())
            text = f"epoch {runner.epoch + 1}/{runner.max_epochs}  loss {loss:.3f}{self._score}"
            self._bar.update(self._task, completed=runner.iter + 1, description=text)
        if self._lines is not None:
            self._lines.update(runner.iter + 1, text)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Say how far a long validation is."""
        if self._lines is not None:
            self._lines.update(note=f"validating, {batch_idx + 1} of {len(runner.val_dataloader)}")

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Show the metrics of this epoch."""
        if self._bar is not None and metrics:
            self._score = f"  {self.metric} {metrics.get(self.metric, float('nan')):.2f}"
            values = "  ".join(f"{name} {value:.2f}" for name, value in metrics.items())
            self._bar.console.print(
                f"epoch {runner.epoch:>3}/{runner.max_epochs}  {values}", highlight=False, soft_wrap=True
            )

    def before_test(self, runner: Any) -> None:
        """Print the header and start the bar of a test."""
        if is_main_process():
            _show(runner, header(runner, test=True))
            self._bar = progress_bar()
            self._bar.start()
            self._task = self._bar.add_task("evaluating", total=len(runner.test_dataloader))
            self._lines = ProgressLines("evaluated", total=len(runner.test_dataloader), slower=1.5)

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advance the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=batch_idx + 1)
        if self._lines is not None:
            self._lines.update(batch_idx + 1)

    def after_run(self, runner: Any) -> None:
        """Stop the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._lines = None


@contextmanager
def showing(runner: Any) -> Iterator[None]:
    """Give the terminal and the signals back when a run ends, however it ends: its bar would stay behind an error."""
    try:
        yield
    finally:
        for hook in runner.hooks:
            if isinstance(hook, ProgressHook | StopHook):
                hook.after_run(runner)


def header(runner: Any, test: bool = False) -> str:
    """What is trained or tested, on what, in a few lines.

    Args:
        runner: With its data loaders built.
        test: Whether it is a test.
    """
    cfg, model = runner.cfg, unwrap(runner.model)
    lines = {"config": short_name(cfg.filename or "-"), "task": cfg.get("task", "-"), **describe(model, cfg)}
    if test:
        lines["checkpoint"] = cfg.get("load_from") or "-"
        lines["data"] = f"{len(runner.test_dataloader.dataset)} images"
    else:
        lines["data"] = f"{len(runner.train_dataloader.dataset)} training images"
        if runner.val_dataloader is not None:
            lines["data"] += f", {len(runner.val_dataloader.dataset)} validation"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    lines["device"] = device + (f" x {runner.world_size}" if runner.world_size > 1 else "")
    lines["work dir"] = cfg.work_dir
    if runner.iter:
        lines["resumed"] = f"after epoch {runner.epoch}"
    return "\n".join(f"{name:<11} {text}" for name, text in lines.items())


def describe(model: nn.Module, cfg: Config) -> dict[str, str]:
    """A config's network in words: its parts and its size, its attention, its scheme."""
    backbone, head = getattr(model, "backbone", None), getattr(model, "decode_head", None)
    options = cfg.model.get("module", cfg.model).get("backbone", {})
    options = options.get("network", options)
    name = options.get("name") or f"{type(backbone).__name__}-{options.get('depth', '')}".rstrip("-")
    parts = [type(model).__name__, name]
    parts += [type(head).__name__] if head is not None else []
    number = sum(p.numel() for p in model.parameters()) / 1e6
    lines = {"model": f"{' / '.join(parts)}, {number:.3f} M parameters"}
    network = find_pluggable(model) if any(isinstance(module, Pluggable) for module in model.modules()) else None
    if network is not None:
        attention, scheme = network.attention, network.scheme
        shared = "one module per stage" if network.sharing == "stage" else "a module in every connected block"
        lines["attention"] = f"{attention['type']}, {shared}" if attention else "none"
        if attention and scheme is not None:
            lines["scheme"] = f"{scheme} ({sum(scheme)} of {len(scheme)} blocks connected)"
    return lines


def _show(runner: Any, text: str) -> None:
    print(text)
    runner.logger.info(f"\n{text}")  # below MMEngine's environment and config, which are in the file alone
