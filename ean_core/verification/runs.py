"""The trainings of a verification, as functions that other processes call: each resumes from its folder."""

from __future__ import annotations

import contextlib
import copy
import json
import statistics
import time
import warnings
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS, DefaultScope

from ean_core.application import find_application
from ean_core.checkpoint import epoch_of, read_checkpoint
from ean_core.engine.runner import build_runner, unwrap
from ean_core.engine.saving import BEST, LAST
from ean_core.engine.testing import evaluate
from ean_core.engine.training import train
from ean_core.files import read_json, write_atomic

RESULT, OUTPUT = "result.json", "output.txt"
MEASURED, PATIENCE = 12, 20.0
"""Iterations, and seconds, after which a calibration ends; at least two iterations are measured."""


def change_backbone(model: Any, changes: Mapping[str, Any]) -> None:
    """Replace options of the backbone in a model's config; ``update`` of such a config would merge dicts instead."""
    for name, value in changes.items():
        model.backbone[name] = copy.deepcopy(value)


@HOOKS.register_module()
class SameStartHook(Hook):
    """Begin with the same weights as every other network of a run's seed, as far as they have parameters in common.

    Weights are drawn while a network is built, so an attention module shifts the generator, and the convolutions behind
    it would begin differently. Therefore a reference network is drawn from the seed, and every parameter and buffer
    that has its name and shape in both is copied from it.

    Args:
        backbone: What is different in the config of the reference's backbone, such as ``dict(attention=None)``.
    """

    priority = "VERY_HIGH"

    def __init__(self, backbone: dict[str, Any]) -> None:
        self.backbone = backbone

    def before_train(self, runner: Any) -> None:
        """Copy, unless the run is resumed."""
        if runner.iter:
            return
        options = copy.deepcopy(runner.cfg.model)
        change_backbone(options, self.backbone)
        with torch.random.fork_rng(), DefaultScope.overwrite_default_scope(runner.cfg.get("default_scope", "mmengine")):
            torch.manual_seed(runner.seed)
            reference: Any = MODELS.build(options)
            if hasattr(reference, "init_weights"):
                reference.init_weights()
        drawn = reference.state_dict()
        with torch.no_grad():
            for name, value in unwrap(runner.model).state_dict().items():
                if name in drawn and drawn[name].shape == value.shape:
                    value.copy_(drawn[name])


@HOOKS.register_module()
class StopwatchHook(Hook):
    """Note when iterations end, and stop the training after some.

    Args:
        times: The list to note into.
    """

    priority = "LOWEST"

    def __init__(self, times: list[float]) -> None:
        self.times = times

    def before_train_epoch(self, runner: Any) -> None:
        """The clock starts."""
        self.times.append(time.perf_counter())

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Note the time.

        Raises:
            StopIteration: Enough iterations are measured.
        """
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())
        spent = self.times[-1] - self.times[0]
        if len(self.times) > MEASURED or (len(self.times) > 3 and spent > PATIENCE):
            raise StopIteration


def train_one(
    config: str, folder: str, seed: int, backbone: dict[str, Any], reference: dict[str, Any], keep: bool = False
) -> dict[str, Any]:
    """Train a network, or go on with it, and test the weights of its last epoch.

    A run that is finished is not repeated. Its checkpoints are removed, unless they are to be kept.

    Args:
        config: The complete config of the training.
        folder: Of this run.
        seed: Of this run.
        backbone: What is different in the backbone's config.
        reference: What is different in that of the network of which the weights begin (:class:`SameStartHook`).
        keep: Leave ``last.pth``.

    Returns:
        ``metrics`` on the test images, and ``seconds`` of training and test, ``None`` for a run in two parts.
    """
    home = Path(folder)
    if (home / RESULT).is_file():
        found: dict[str, Any] = read_json(home / RESULT)
        return found
    cfg = _config(config, home, seed, backbone, reference)
    checkpoint, start = home / LAST, time.perf_counter()
    done = epoch_of(read_checkpoint(checkpoint), checkpoint) if checkpoint.is_file() else 0
    with _quiet(home):
        if done < cfg.train_cfg.max_epochs:
            cfg.experiment_name = f"{home.name}_{time.time_ns()}"
            train(cfg, resume="last" if done else None)
        cfg.experiment_name = f"{home.name}_test_{time.time_ns()}"
        metrics = evaluate(cfg, checkpoint)
    seconds = None if done else round(time.perf_counter() - start, 2)
    result = {"metrics": metrics, "seconds": seconds, "epochs": cfg.train_cfg.max_epochs}
    write_atomic(home / RESULT, json.dumps(result, indent=2) + "\n")
    for name in (BEST,) if keep else (BEST, LAST):
        (home / name).unlink(missing_ok=True)
    return result


def calibrate(config: str, folder: str, seed: int, backbone: dict[str, Any], reference: dict[str, Any]) -> float:
    """How many seconds a run takes, from some of its iterations and test batches.

    ``2 start + iterations x epochs + 2 test``, where ``start`` is what passes before the first iteration ends, and an
    iteration and a test batch take their median. Start and test count twice, as there is also a validation at the
    training's end, and a model to build for the test.

    Args:
        config: As in :func:`train_one`.
        folder: A folder of its own, for the log.
        seed: As in :func:`train_one`.
        backbone: As in :func:`train_one`.
        reference: As in :func:`train_one`.
    """
    home = Path(folder)
    home.mkdir(parents=True, exist_ok=True)
    cfg = _config(config, home, seed, backbone, reference)
    cfg.experiment_name = f"{home.name}_{time.time_ns()}"
    times: list[float] = []
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if "ProgressHook" not in str(hook["type"])]
    start = time.perf_counter()
    with _quiet(home):
        find_application(cfg).check(cfg, train=True)
        runner = build_runner(cfg)
        runner.register_hook(StopwatchHook(times))
        with contextlib.suppress(StopIteration):
            runner.train()
        iterations = len(runner.train_dataloader) * cfg.train_cfg.max_epochs
        batches = _test_batches(runner)
    steps = [b - a for a, b in pairwise(times)]
    step = statistics.median(steps[1:] or steps)
    return (
        2 * (times[1] - start) + step * (iterations - 1) + 2 * statistics.median(batches) * len(runner.test_dataloader)
    )


def _test_batches(runner: Any) -> list[float]:
    """Seconds of some batches of the test."""
    model, times = runner.model.eval(), [time.perf_counter()]
    with torch.no_grad():
        for batch in runner.test_dataloader:
            model.test_step(batch)
            times.append(time.perf_counter())
            if len(times) > MEASURED or times[-1] - times[0] > PATIENCE:
                break
    return [b - a for a, b in pairwise(times)]


def _config(config: str, home: Path, seed: int, backbone: dict[str, Any], reference: dict[str, Any]) -> Config:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries about parts that they lack, in every process
        cfg = Config.fromfile(config)
        find_application(cfg)
    cfg.work_dir = str(home)
    cfg.randomness = {**cfg.get("randomness", {}), "seed": seed}
    change_backbone(cfg.model, backbone)
    hook = {"type": f"{SameStartHook.__module__}.{SameStartHook.__name__}", "backbone": reference}
    cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), hook]
    return cfg


@contextlib.contextmanager
def _quiet(home: Path) -> Iterator[None]:
    """What a training prints goes to a file of its folder."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / OUTPUT).open("a") as file, contextlib.redirect_stdout(file):
        yield
