"""What a run shows on the terminal: a header, a bar with the time left, validation results."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ean_core.engine.runner import unwrap


@HOOKS.register_module()
class ProgressHook(Hook):
    """A bar on a terminal; where output goes to a file, one line an epoch.

    Args:
        metric: The validation metric shown beside the loss.
    """

    priority = "LOWEST"

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self._bar: Progress | None = None
        self._score = ""

    def before_train(self, runner: Any) -> None:
        """Print the header and start the bar."""
        if not is_main_process():
            return
        print(header(runner))
        self._bar = _bar(Console(file=sys.stdout))
        self._bar.start()
        self._task = self._bar.add_task("", total=runner.max_iters, completed=runner.iter)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Advance the bar."""
        if self._bar is not None:
            loss = float((outputs or {})["loss"].detach())
            text = f"epoch {runner.epoch + 1}/{runner.max_epochs}  loss {loss:.3f}{self._score}"
            self._bar.update(self._task, completed=runner.iter + 1, description=text)

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Show the metrics of this epoch."""
        if self._bar is not None and metrics:
            self._score = f"  {self.metric} {metrics.get(self.metric, float('nan')):.2f}"
            values = "  ".join(f"{name} {value:.2f}" for name, value in metrics.items())
            self._bar.console.print(f"epoch {runner.epoch:>3}/{runner.max_epochs}  {values}", highlight=False)

    def before_test(self, runner: Any) -> None:
        """Start the bar of a test."""
        if is_main_process():
            self._bar = _bar(Console(file=sys.stdout))
            self._bar.start()
            self._task = self._bar.add_task("evaluating", total=len(runner.test_dataloader))

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advance the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=batch_idx + 1)

    def after_run(self, runner: Any) -> None:
        """Stop the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def header(runner: Any) -> str:
    """What is being trained, on what, in a few lines."""
    model = unwrap(runner.model)
    backbone = getattr(model, "backbone", None)
    scheme = getattr(backbone, "scheme", None)
    lines = [f"config   {runner.cfg.filename or '-'} -> {runner.cfg.work_dir}"]
    options = runner.cfg.model.get("backbone", {})
    parts = [type(model).__name__, f"{type(backbone).__name__}-{options.get('depth', '')}"]
    parts += [str(cfg["type"]) for cfg in (options.get("attention"), runner.cfg.model.get("decode_head")) if cfg]
    lines.append(f"model    {' / '.join(parts)}, {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")
    if scheme is not None:
        lines.append(f"scheme   {scheme} ({sum(scheme)} of {len(scheme)} blocks connected)")
    sizes = f"{len(runner.train_dataloader.dataset)} training images"
    if runner.val_dataloader is not None:
        sizes += f", {len(runner.val_dataloader.dataset)} validation"
    lines.append(f"data     {sizes}")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    world = f" x {runner.world_size}" if runner.world_size > 1 else ""
    lines.append(f"device   {device}{world}")
    if runner.iter:
        lines.append(f"resumed  after epoch {runner.epoch}")
    return "\n".join(lines)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
