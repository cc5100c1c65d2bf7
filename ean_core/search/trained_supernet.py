"""The supernet of a search: trained on D_train where there is none, then with all that a search on it needs."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import barrier, is_main_process
from mmengine.registry import HOOKS

from ean_core.application import Application, find_application
from ean_core.checkpoint import epoch_of, read_checkpoint, weights_digest, weights_of
from ean_core.engine.models import blueprint, build_model
from ean_core.engine.runner import EANRunner, build_runner, registered
from ean_core.engine.saving import LAST
from ean_core.engine.schema import read
from ean_core.engine.training import RUN_FILES, train
from ean_core.errors import UserError
from ean_core.files import read_json, write_atomic
from ean_core.plug import find_pluggable, find_plugged
from ean_core.search.evaluator import Evaluator, build_evaluator
from ean_core.search.latency_table import TABLE, find_table
from ean_core.search.reward import build_reward
from ean_core.search.settings import SchemeSearch, difference
from ean_core.search.supernet import SupernetHook
from ean_core.strategies import Strategy, build_strategy, find_strategy
from ean_core.terminal import print_line, tool
from ean_core.work_dir import working_in

SUPERNET, SETTINGS = "supernet", "settings.json"
EVALUATION = ("calibration", "latency_repeats", "fuse", "channels_last", "memory")


@dataclass(frozen=True)
class Supernet:
    """A trained supernet, and what every search on it needs.

    Attributes:
        evaluator: Of the supernet, on D_val.
        blocks: Number of blocks of each stage.
        seed: The config's.
        checkpoint: The supernet's file.
        common: Further arguments of :func:`ean_core.search.search`.
    """

    evaluator: Evaluator
    _: KW_ONLY
    blocks: tuple[int, ...]
    seed: int
    checkpoint: Path
    common: dict[str, Any]

    def strategy(self, config: Mapping[str, Any], seed: int | None = None) -> Strategy:
        """Build a strategy; its seed is the config's unless another is given."""
        return build_strategy(config, self.blocks, self.seed if seed is None else seed, self.evaluator.gate_loss)


def trained_supernet(cfg: Config, strategies: Sequence[Mapping[str, Any]]) -> Supernet:
    """Check a config and its strategies, train the supernet where there is none, and decode D_val.

    Raises:
        UserError, OSError: What the user can mend.
    """
    cfg = copy.deepcopy(cfg)
    plan, work_dir = plan_of(cfg), Path(cfg.work_dir)
    application = find_application(cfg)
    for strategy in strategies:
        find_strategy(strategy.get("type"))
    if cfg.model.backbone.get("scheme", "full") != "full" or cfg.model.backbone.get("attention") is None:
        raise UserError("a supernet has an attention, and every block connected: leave out --scheme")
    reward = build_reward(**(plan.get("reward") or {}))
    seed = cfg.get("randomness", {}).get("seed") or 0
    blocks = find_pluggable(blueprint(cfg.model.backbone)).blocks
    for strategy in strategies:  # mistakes in their options must not wait for the end of the training
        build_strategy(strategy, blocks, seed, lambda gates, step: gates.sum())
    application.evaluation(build_model(cfg), cfg)  # nor must a model that cannot be searched

    checkpoint = Path(plan.get("supernet") or work_dir / SUPERNET / LAST)
    runner = _train_supernet(cfg, application, checkpoint)
    evaluator = build_evaluator(runner, application, **evaluation_options(plan))
    digest = weights_digest(weights_of(read_checkpoint(checkpoint), checkpoint))
    if plan.get("latency") == "table":
        evaluator.table = find_table(evaluator, blocks, work_dir / TABLE, digest)
    plugs = find_plugged(evaluator.backbone.network)
    common = {
        "reward": reward,
        "checkpoint": digest,
        "settings": evaluator.settings(),
        "attention": evaluator.backbone.attention,
        "points": plugs.points.names if plugs else None,
    }
    return Supernet(evaluator, blocks=blocks, seed=seed, checkpoint=checkpoint, common=common)


def plan_of(cfg: Config) -> Any:
    """The config's entry ``search``."""
    if "search" not in cfg:
        raise UserError(f"'{cfg.filename}' is no config for a search: take one of configs/search")
    kind = cfg.search.get("type", "schemes")
    if kind == "cells":
        raise UserError(f"'{cfg.filename}' searches cells, not schemes: run it with '{tool('search')}'")
    if kind != "schemes":
        raise UserError(f"search.type must be schemes (the default) or cells, got {kind!r}")
    read(SchemeSearch, cfg.search, "search.")
    return cfg.search


def evaluation_options(plan: Any) -> dict[str, Any]:
    """What the entry ``search`` says of the evaluator."""
    options = {name: plan[name] for name in EVALUATION if name in plan}
    if options.get("calibration"):
        options["fuse"] = False  # it needs the norms
    return options


def _train_supernet(cfg: Config, application: Application, checkpoint: Path) -> EANRunner:
    """A runner whose model has the weights of the finished supernet, which is trained first where there is none."""
    own = not cfg.search.get("supernet")
    cfg.work_dir = str(checkpoint.parent if own else Path(cfg.work_dir, SUPERNET))
    if own:
        settings = _settings(cfg)
        epoch = epoch_of(read_checkpoint(checkpoint), checkpoint) if checkpoint.is_file() else 0
        if epoch < cfg.train_cfg.max_epochs:

            def note() -> None:
                write_atomic(checkpoint.with_name(SETTINGS), json.dumps(settings, indent=2) + "\n")

            runner = train(cfg, resume="last" if epoch else None, application=application, first=note)
            barrier()  # the checkpoint is there on every rank
            runner.load_checkpoint(str(checkpoint))
            return runner
    else:
        read_checkpoint(checkpoint)
    application.check(cfg, train=True)
    with working_in(Path(cfg.work_dir), RUN_FILES):  # removes what a training that was killed at its end has left
        runner = build_runner(cfg)
    runner.load_checkpoint(str(checkpoint))
    if is_main_process():
        print_line("supernet", f"{checkpoint}, already trained")
    return runner


def _settings(cfg: Config) -> dict[str, Any]:
    """What the supernet in the work directory is trained with; refuse to go on with anything else."""
    keys = ("model", "optim_wrapper", "param_scheduler", "train_cfg", "train_dataloader", "custom_hooks", "randomness")
    settings: dict[str, Any] = json.loads(json.dumps({key: cfg[key] for key in keys if key in cfg}, default=str))
    hooks = settings.get("custom_hooks") or []
    settings["custom_hooks"] = [hook for hook in hooks if registered(HOOKS, hook) is SupernetHook]
    if not settings["custom_hooks"]:
        raise UserError(f"'{cfg.filename}' trains no supernet: add dict(type='ean_core.search.SupernetHook')")
    path = Path(cfg.work_dir, SETTINGS)
    changes = difference(read_json(path), settings) if path.is_file() else ""
    if changes:
        raise UserError(
            f"the supernet in '{cfg.work_dir}' was trained with other settings: {changes}; put it back, or choose "
            "another --work-dir"
        )
    return settings
