"""MMEngine's Runner with a quiet terminal, strict and safe loading, and a resume that continues exactly."""

from __future__ import annotations

import functools
import logging
import os
import warnings
from collections.abc import Callable
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import HOOKS, OPTIM_WRAPPERS, OPTIMIZERS, Registry
from mmengine.runner import Runner
from torch import distributed, nn

from ean_core.checkpoint import read_checkpoint
from ean_core.engine.amp import CPUAmpOptimWrapper
from ean_core.engine.loading import load_model, notes_removed, resuming
from ean_core.engine.slurm import enter_slurm
from ean_core.errors import UserError, building, shortened


def _in_words(part: str, build: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(build)
    def wrapped(self: Runner, *args: Any, **kwargs: Any) -> Any:
        with building(part):
            return build(self, *args, **kwargs)

    return wrapped


class EANRunner(Runner):
    """Changes to :class:`mmengine.runner.Runner`, each of which its methods describe.

    Where something is built from a wrong entry of the config, the error says so (:func:`ean_core.errors.building`).
    """

    setup_env = _in_words("env_cfg", Runner.setup_env)
    build_visualizer = _in_words("visualizer", Runner.build_visualizer)
    build_model = _in_words("model", Runner.build_model)
    register_default_hooks = _in_words("default_hooks", Runner.register_default_hooks)
    register_custom_hooks = _in_words("custom_hooks", Runner.register_custom_hooks)
    build_optim_wrapper = _in_words("optim_wrapper", Runner.build_optim_wrapper)
    build_param_scheduler = _in_words("param_scheduler", Runner.build_param_scheduler)
    build_train_loop = _in_words("train_cfg, train_dataloader", Runner.build_train_loop)
    build_val_loop = _in_words("val_cfg, val_dataloader, val_evaluator", Runner.build_val_loop)
    build_test_loop = _in_words("test_cfg, test_dataloader, test_evaluator", Runner.build_test_loop)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """The log file takes everything, the terminal errors only: progress and results are printed by hooks."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.setLevel(logging.ERROR)
        return logger

    def dump_config(self) -> None:
        """Nothing: :func:`ean_core.engine.train` writes the config as run, and a test must not replace it."""

    def load_checkpoint(
        self, filename: str, map_location: Any = "cpu", strict: bool = True, revise_keys: Any = ()
    ) -> dict[str, Any]:
        """Load weights without running code from the file, and fail unless they cover the model.

        Raises:
            FileNotFoundError: There is no such file.
            UserError: The file cannot be read, or does not fit the model.
        """
        checkpoint = notes_removed(read_checkpoint(filename))
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        load_model(unwrap(self.model), checkpoint, filename)
        self._has_loaded = True
        self.logger.info(f"loaded {filename}")
        return checkpoint

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Continue from a checkpoint: moments come from it, hyperparameters and schedules from the config.

        MMEngine restores the schedulers' state, so that a run resumed with more epochs keeps the old, finished
        schedule (learning rate 0). Here they are stepped anew to the checkpoint's iteration.
        """
        optimizer: Any = self.build_optim_wrapper(self.optim_wrapper)  # type: ignore[has-type]
        self.optim_wrapper = optimizer
        fresh = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        kwargs["resume_param_scheduler"] = False
        with resuming(self, filename):
            super().resume(filename, *args, **kwargs)
        for group, values in zip(optimizer.param_groups, fresh, strict=True):
            group.update(values)
        epochs = max(self.epoch, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of schedulers that are stepped before the optimizer
            for _ in range(epochs):
                for _ in range(self.iter // epochs):
                    self._step_schedulers(by_epoch=False)
                if self.epoch:
                    self._step_schedulers(by_epoch=True)

    def _step_schedulers(self, by_epoch: bool) -> None:
        for scheduler in self.param_schedulers or []:
            if scheduler.by_epoch == by_epoch:
                scheduler.step()


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside a distributed or test-time-augmentation wrapper."""
    wrapped = is_model_wrapper(model) or hasattr(model, "merge_preds")
    return model.get_submodule("module") if wrapped else model


def build_runner(cfg: Config) -> EANRunner:
    """Build the runner of a config, in one process or one of several (``cfg.launcher``).

    ``"pytorch"`` is under ``torchrun``; ``"slurm"``, under ``srun``, becomes it.

    Without a GPU the processes talk through gloo, which MMEngine's own set-up cannot do. A supernet's disconnected
    stages leave parameters without gradient, which distributed training is told here.
    """
    cuda = torch.cuda.is_available()
    hooks = [registered(HOOKS, hook) for hook in cfg.get("custom_hooks") or []]
    if any(getattr(hook, "leaves_parameters_unused", False) for hook in hooks):
        cfg.find_unused_parameters = True
    if cfg.get("launcher", "none") != "none":
        if cfg.launcher == "slurm":
            enter_slurm()
            cfg.launcher = "pytorch"
        if "LOCAL_RANK" not in os.environ:
            raise UserError("--launcher pytorch needs torchrun: torchrun --nproc_per_node=2 -m ean_tools train ...")
        if cuda:
            cfg.sync_bn = "torch"
        else:
            distributed.init_process_group("gloo")
            cfg.model_wrapper_cfg = {
                "type": "MMDistributedDataParallel",
                "device_ids": None,
                "broadcast_buffers": False,
                "find_unused_parameters": cfg.get("find_unused_parameters", False),
            }
    if not cuda and registered(OPTIM_WRAPPERS, cfg.get("optim_wrapper")) is AmpOptimWrapper:
        cfg.optim_wrapper.type = CPUAmpOptimWrapper.__name__
    optimizer = (cfg.get("optim_wrapper") or {}).get("optimizer")
    if optimizer is not None and registered(OPTIMIZERS, optimizer) is None:  # MMEngine calls what it has not found
        raise UserError(f"optim_wrapper.optimizer: unknown type {shortened(optimizer.get('type'))}: check its spelling")
    with building("the config"):
        return EANRunner.from_cfg(cfg)


def registered(registry: Registry, options: Any) -> Any:
    """What the ``type`` of a config entry names; ``None`` where it names nothing."""
    kind = (options or {}).get("type")
    return registry.get(kind) if isinstance(kind, str) else kind
