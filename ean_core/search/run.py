"""Algorithm 1 from a config: the supernet is trained on D_train, then connection schemes are searched on D_val."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import barrier, is_main_process
from mmengine.registry import MODELS

from ean_core.checkpoint import read_checkpoint
from ean_core.engine.config import task
from ean_core.engine.run import claim, print_table, train
from ean_core.engine.runner import EANRunner, build_runner, unwrap
from ean_core.engine.saving import LAST
from ean_core.files import file_digest, write_atomic
from ean_core.search.evaluator import Evaluator
from ean_core.search.loop import LOG, PLOT, SCHEME, search
from ean_core.search.reward import build_reward
from ean_core.search.strategy import STRATEGIES, Strategy, build_strategy
from ean_core.search.supernet import find_backbone

SUPERNET, SETTINGS = "supernet", "settings.json"
EVALUATION = ("calibration", "latency_repeats", "fuse", "channels_last")


def run_search(
    cfg: Config,
    strategy: str | None = None,
    steps: int | None = None,
    resume: bool = False,
    options: Sequence[str] = (),
) -> dict[str, Any]:
    """Train the supernet, search, and say where the results lie.

    A supernet that ``WORK_DIR/supernet`` holds is used if it is finished and continued if it is not, so that several
    strategies can search one supernet; with ``cfg.search.supernet`` it is another checkpoint, and nothing is trained.

    Args:
        cfg: A complete config with an entry ``search`` (``configs/_base_/search/algorithm1.py`` explains it), whose
            task has a function ``build_evaluator(runner, **options)``.
        strategy: Instead of ``cfg.search.strategy``, with this one's default options.
        steps: Instead of ``cfg.search.steps``.
        resume: Continue the search in the work directory.
        options: What the proposed command to retrain the result needs besides, e.g. ``["--toy"]``.

    Returns:
        The content of ``scheme.json``.

    Raises:
        ValueError, OSError: What the user can mend: data, config, paths, a supernet or a search made with others.
    """
    _check_plan(cfg)
    plan, work_dir = cfg.search, Path(cfg.work_dir)
    if strategy is not None and strategy != plan.strategy.type:
        plan.strategy = {"type": strategy}
    steps = plan.steps if steps is None else steps
    if steps < 1 or plan.per_step < 1:
        raise ValueError(f"a search needs at least one step and one scheme a step, got {steps} and {plan.per_step}")
    ready = prepare(cfg, [plan.strategy.to_dict()])
    result = search(
        ready.strategy(plan.strategy.to_dict()),
        ready.evaluator,
        steps,
        plan.per_step,
        work_dir,
        resume=resume,
        **ready.common,
    )
    if is_main_process():
        _report(result, work_dir, ready.checkpoint)
        print(f"{'next':<11} {_retrain(cfg, work_dir / SCHEME, options)}")
    return result


@dataclass(frozen=True)
class Prepared:
    """What every search on one supernet needs.

    Attributes:
        evaluator: Of the supernet, on D_val.
        blocks: Number of blocks of each stage.
        seed: The config's.
        checkpoint: The supernet's file.
        common: Further arguments of :func:`ean_core.search.search`.
    """

    evaluator: Evaluator
    blocks: tuple[int, ...]
    seed: int
    checkpoint: Path
    common: dict[str, Any]

    def strategy(self, config: Mapping[str, Any], seed: int | None = None) -> Strategy:
        """Build a strategy; its seed is the config's unless another is given."""
        return build_strategy(config, self.blocks, self.seed if seed is None else seed, self.evaluator.gate_loss)


def prepare(cfg: Config, strategies: Sequence[Mapping[str, Any]]) -> Prepared:
    """Check a config and its strategies, train the supernet where there is none, and decode D_val.

    Raises:
        ValueError, OSError: What the user can mend.
    """
    _check_plan(cfg)
    plan, work_dir = cfg.search, Path(cfg.work_dir)
    for strategy in strategies:
        if strategy.get("type") not in STRATEGIES:
            raise ValueError(f"unknown strategy '{strategy.get('type')}': known are {', '.join(STRATEGIES)}")
    if cfg.model.backbone.get("scheme", "full") != "full" or cfg.model.backbone.get("attention") is None:
        raise ValueError("a supernet has an attention, and every block connected: leave out --scheme")
    reward = build_reward(**plan.get("reward", {}))
    seed = cfg.get("randomness", {}).get("seed") or 0
    blocks = MODELS.build(copy.deepcopy(cfg.model.backbone)).blocks
    for strategy in strategies:  # mistakes in their options must not wait for the end of the training
        build_strategy(strategy, blocks, seed)

    claim(work_dir)
    checkpoint = Path(plan.get("supernet") or work_dir / SUPERNET / LAST)
    runner = _supernet(cfg, checkpoint)
    options = {name: plan[name] for name in EVALUATION if name in plan}
    if options.get("calibration"):
        options["fuse"] = False  # it needs the norms
    evaluator = task(cfg).build_evaluator(runner, **options)
    common = {
        "reward": reward,
        "checkpoint": file_digest(checkpoint),
        "settings": evaluator.settings(),
        "attention": find_backbone(unwrap(runner.model)).attention,
    }
    return Prepared(evaluator, blocks, seed, checkpoint, common)


def _check_plan(cfg: Config) -> None:
    if "search" not in cfg or not hasattr(task(cfg), "build_evaluator"):
        raise ValueError(f"'{cfg.filename}' is no config for a search: take one of configs/search")


def _supernet(cfg: Config, checkpoint: Path) -> EANRunner:
    """A runner whose model has the weights of the finished supernet, which is trained first where there is none."""
    own = not cfg.search.get("supernet")
    cfg.work_dir = str(checkpoint.parent if own else Path(cfg.work_dir, SUPERNET))
    if own:
        _claim_supernet(cfg)
        epoch = read_checkpoint(checkpoint)["meta"]["epoch"] if checkpoint.is_file() else 0
        if epoch < cfg.train_cfg.max_epochs:
            runner = train(cfg, resume="last" if epoch else None)
            barrier()  # the checkpoint is there on every rank
            runner.load_checkpoint(str(checkpoint))
            return runner
    else:
        read_checkpoint(checkpoint)
    task(cfg).check(cfg)
    runner = build_runner(cfg)
    runner.load_checkpoint(str(checkpoint))
    if is_main_process():
        print(f"{'supernet':<11} {checkpoint}, already trained")
    return runner


def _claim_supernet(cfg: Config) -> None:
    """Note what the supernet in the work directory is trained with, and refuse to go on with anything else."""
    keys = ("model", "optim_wrapper", "param_scheduler", "train_cfg", "train_dataloader", "custom_hooks", "randomness")
    settings = json.loads(json.dumps({key: cfg[key] for key in keys if key in cfg}, default=str))
    settings["custom_hooks"] = [hook for hook in settings["custom_hooks"] if hook["type"].endswith("SupernetHook")]
    if not settings["custom_hooks"]:
        raise ValueError(f"'{cfg.filename}' trains no supernet: add dict(type='ean_core.search.SupernetHook')")
    path = Path(cfg.work_dir, SETTINGS)
    if not path.is_file():
        write_atomic(path, json.dumps(settings, indent=2) + "\n")
        return
    before, now = _flatten(json.loads(path.read_text())), _flatten(settings)
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if changed:
        first = f"{changed[0]} was {json.dumps(before.get(changed[0]))}, is {json.dumps(now.get(changed[0]))}"
        more = f" (and {len(changed) - 1} more changes)" if len(changed) > 1 else ""
        raise ValueError(
            f"the supernet in '{cfg.work_dir}' was trained with other settings: {first}{more}; put it back, or choose "
            "another --work-dir"
        )


def _flatten(tree: Any, name: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` -> ``{"a.b": 1}``; lists count as mappings from their indices."""
    items = enumerate(tree) if isinstance(tree, list) else tree.items() if isinstance(tree, Mapping) else None
    if items is None:
        return {name: tree}
    return {k: v for key, value in items for k, v in _flatten(value, f"{name}.{key}" if name else str(key)).items()}


def _report(result: Mapping[str, Any], work_dir: Path, checkpoint: Path) -> None:
    """The final table, the reason of the choice, and the files."""
    rows = {}
    for name in ("most_probable", "best_seen"):
        entry = result[name]
        numbers = {key: value for key, value in entry.items() if key not in ("step", "scheme")}
        rows[name.replace("_", " ")] = numbers | {"density": 1 - entry["sparsity"], "step": entry["step"]}
    print_table("search", rows)
    for name, row in (("probable", "most_probable"), ("best seen", "best_seen")):
        print(f"{name:<11} {result[row]['scheme']}")
    print(f"{'written':<11} the {result['picked']} scheme: {result['because']}")
    failed = f", {result['failed']} failed" if result["failed"] else ""
    print(f"{'evaluations':<11} {result['evaluations']}, and {result['cache_hits']} cache hits{failed}")
    if "pareto" in result:
        print(f"{'pareto':<11} {len(result['pareto'])} schemes, of reward x sparsity, listed in {SCHEME}")
    files = {"supernet": checkpoint, "log": work_dir / LOG, "picture": work_dir / PLOT, "scheme": work_dir / SCHEME}
    for label, path in files.items():
        print(f"{label:<11} {path}")


def _retrain(cfg: Config, scheme: Path, options: Sequence[str]) -> str:
    """The command that trains the network found."""
    target = cfg.search.get("retrain", "CONFIG")
    command = ["python tools/train.py", target, "--scheme", str(scheme), *options]
    depth = cfg.model.backbone.get("depth")
    if Path(target).is_file() and Config.fromfile(target).model.backbone.get("depth") != depth:
        command += ["--cfg-options", f"model.backbone.depth={depth}"]
    return " ".join(command)
