"""Algorithm 1 from a config: the supernet is trained on D_train, then connection schemes are searched on D_val."""

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
from ean_core.files import read_json, write_atomic, written
from ean_core.plug import find_pluggable, find_plugged
from ean_core.search.cell_resume import HISTORY
from ean_core.search.cells import run_cell_search
from ean_core.search.evaluator import Evaluator, build_evaluator
from ean_core.search.loop import FILES, LOG, PLOT, SCHEME, STATE, search
from ean_core.search.reward import build_reward
from ean_core.search.settings import SchemeSearch, difference, flatten
from ean_core.search.supernet import SupernetHook
from ean_core.stopping import running
from ean_core.strategies import Strategy, build_strategy, find_strategy
from ean_core.terminal import print_line, print_table
from ean_core.work_dir import require_space, working_in

SUPERNET, SETTINGS = "supernet", "settings.json"
EVALUATION = ("calibration", "latency_repeats", "fuse", "channels_last")


def run_search(
    cfg: Config,
    strategy: str | None = None,
    steps: int | None = None,
    resume: bool = False,
    options: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Train the supernet, search, and say where the results lie.

    With ``cfg.search.type = "cells"`` it is :func:`ean_core.search.cells.run_cell_search` instead.

    A supernet that ``WORK_DIR/supernet`` holds is used if it is finished and continued if it is not, so that several
    strategies can search one supernet; with ``cfg.search.supernet`` it is another checkpoint, and nothing is trained.

    Args:
        cfg: A complete config with an entry ``search`` (``configs/_base_/search/algorithm1.py`` explains it). It is not
            changed.
        strategy: Instead of ``cfg.search.strategy``, with its default options; a name, or ``"module.Class"``.
        steps: Instead of ``cfg.search.steps``.
        resume: Continue the search in the work directory, or the training of its supernet.
        options: What the command to retrain the result needs besides, e.g. ``["--toy"]``, for the proposal of the next
            command; ``None``: propose none.

    Returns:
        The content of ``scheme.json``.

    Raises:
        UserError, OSError: What the user can mend: data, config, paths, a supernet or a search made with others,
            nothing to resume, another run in the work directory, a full disk.
    """
    if cfg.get("search", {}).get("type") == "cells":
        for name, value in (("strategy", strategy), ("steps", steps)):
            if value is not None:
                raise UserError(
                    f"--{name} is of a search for schemes, and '{cfg.filename}' searches cells: its length is "
                    "train_cfg.max_epochs, its ways are search.order and search.selection (--cfg-options)"
                )
        return run_cell_search(cfg, resume, options)
    cfg = copy.deepcopy(cfg)
    plan, work_dir = _plan(cfg), Path(cfg.work_dir)
    if (work_dir / HISTORY).is_file():
        raise UserError(f"'{work_dir}' holds a search for cells ({HISTORY}): choose another --work-dir")
    if strategy is not None and strategy != plan.strategy.type:
        plan.strategy = {"type": strategy}
    steps = plan.steps if steps is None else steps
    if steps < 1 or plan.per_step < 1:
        raise UserError(f"a search needs at least one step and one scheme a step, got {steps} and {plan.per_step}")
    state, last, before = work_dir / STATE, work_dir / SUPERNET / LAST, written(work_dir / STATE)
    if resume and not state.is_file() and not last.is_file():
        raise FileNotFoundError(
            f"nothing to resume: '{work_dir}' has neither {STATE} nor {SUPERNET}/{LAST} (start without --resume)"
        )

    def saved() -> bool:
        return (resume or written(state) != before) if state.is_file() else last.is_file()

    with running(lambda: "the search", saved), working_in(work_dir, FILES):
        require_space(work_dir, 0)
        supernet = trained_supernet(cfg, [plan.strategy.to_dict()])
        result = search(
            supernet.strategy(plan.strategy.to_dict()),
            supernet.evaluator,
            steps,
            plan.per_step,
            work_dir,
            resume=resume,
            **supernet.common,
        )
        if is_main_process():
            _report(result, work_dir, supernet.checkpoint)
            if options is not None:
                print_line("next", _retrain(cfg, work_dir / SCHEME, options))
    return result


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
    plan, work_dir = _plan(cfg), Path(cfg.work_dir)
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
    options = {name: plan[name] for name in EVALUATION if name in plan}
    if options.get("calibration"):
        options["fuse"] = False  # it needs the norms
    evaluator = build_evaluator(runner, application, **options)
    plugs = find_plugged(evaluator.backbone.network)
    common = {
        "reward": reward,
        "checkpoint": weights_digest(weights_of(read_checkpoint(checkpoint), checkpoint)),
        "settings": evaluator.settings(),
        "attention": evaluator.backbone.attention,
        "points": plugs.points.names if plugs else None,
    }
    return Supernet(evaluator, blocks=blocks, seed=seed, checkpoint=checkpoint, common=common)


def _plan(cfg: Config) -> Any:
    """The config's entry ``search``."""
    if "search" not in cfg:
        raise UserError(f"'{cfg.filename}' is no config for a search: take one of configs/search")
    kind = cfg.search.get("type", "schemes")
    if kind == "cells":
        raise UserError(f"'{cfg.filename}' searches cells, not schemes: run it with tools/search.py")
    if kind != "schemes":
        raise UserError(f"search.type must be schemes (the default) or cells, got {kind!r}")
    read(SchemeSearch, cfg.search, "search.")
    return cfg.search


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


def _report(result: Mapping[str, Any], work_dir: Path, checkpoint: Path) -> None:
    """The final table, the reason of the choice, and the files."""
    rows = {}
    for name in ("most_probable", "best_seen"):
        entry = result[name]
        numbers = {key: value for key, value in entry.items() if key not in ("step", "scheme")}
        rows[name.replace("_", " ")] = numbers | {"density": 1 - entry["sparsity"], "step": entry["step"]}
    print_table("search", rows)
    for name, row in (("probable", "most_probable"), ("best seen", "best_seen")):
        print_line(name, result[row]["scheme"])
    print_line("written", f"the {result['picked']} scheme: {result['because']}")
    failed = f", {result['failed']} failed" if result["failed"] else ""
    print_line("evaluations", f"{result['evaluations']}, and {result['cache_hits']} cache hits{failed}")
    if "pareto" in result:
        print_line("pareto", f"{len(result['pareto'])} schemes, of reward x sparsity, listed in {SCHEME}")
    files = {"supernet": checkpoint, "log": work_dir / LOG, "picture": work_dir / PLOT, "scheme": work_dir / SCHEME}
    for label, path in files.items():
        print_line(label, path)


def _retrain(cfg: Config, scheme: Path, options: Sequence[str]) -> str:
    """The command that trains the network found: the config to retrain, where its backbone differs made like this."""
    target = cfg.search.get("retrain", "CONFIG")
    command = ["python tools/train.py", target, "--scheme", str(scheme), *options]
    if Path(target).is_file():
        other = Config.fromfile(target).model.backbone
        own = {key: value for key, value in cfg.model.backbone.items() if key not in ("scheme", "init_cfg", "frozen")}
        before = flatten(other)
        changes = [f"model.backbone.{key}={value}" for key, value in flatten(own).items() if before.get(key) != value]
        command += ["--cfg-options", *changes] if changes else []
    return " ".join(command)
