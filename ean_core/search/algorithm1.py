"""Algorithm 1 from a config: the supernet is trained on D_train, then connection schemes are searched on D_val."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process

from ean_core.engine.saving import LAST
from ean_core.engine.shipped import find_config
from ean_core.errors import UserError
from ean_core.files import written
from ean_core.search.cell_resume import HISTORY
from ean_core.search.cells import run_cell_search
from ean_core.search.found import Found
from ean_core.search.front import FRONT
from ean_core.search.latency_table import TABLE
from ean_core.search.loop import FILES, LOG, PLOT, SCHEME, STATE, Evaluate, search
from ean_core.search.made_with import note_config
from ean_core.search.on_engine import engine_for, on_engine
from ean_core.search.settings import flatten
from ean_core.search.trained_supernet import SUPERNET, evaluation_options, plan_of, trained_supernet
from ean_core.stopping import running
from ean_core.terminal import print_line, print_table, tool
from ean_core.work_dir import require_space, working_in


def run_search(
    cfg: Config,
    strategy: str | None = None,
    steps: int | None = None,
    resume: bool = False,
    options: Sequence[str] | None = None,
    engine: str | None = None,
) -> Found:
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
        engine: Where candidates are evaluated: the name of an engine (:func:`ean_core.scale.build_engine`), to which
            ``cfg.engine`` gives its options; ``None``: in this process, or the ranks of torchrun.

    Returns:
        The content of ``scheme.json``, a dict.

    Raises:
        UserError, OSError: What the user can mend: data, config, paths, a supernet or a search made with others,
            nothing to resume, another run in the work directory, a full disk.
    """
    if cfg.get("search", {}).get("type") == "cells":
        for name, value in (("strategy", strategy), ("steps", steps), ("engine", engine)):
            if value is not None:
                raise UserError(
                    f"--{name} is of a search for schemes, and '{cfg.filename}' searches cells: its length is "
                    "train_cfg.max_epochs, its ways are search.order and search.selection (--cfg-options)"
                )
        return run_cell_search(cfg, resume, options)
    cfg = copy.deepcopy(cfg)
    plan, work_dir = plan_of(cfg), Path(cfg.work_dir)
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

    with (
        running(lambda: "the search", saved),
        working_in(work_dir, (*FILES, TABLE)),
        engine_for(engine, cfg) as workers,
    ):
        require_space(work_dir, 0)
        supernet = trained_supernet(cfg, [plan.strategy.to_dict()])
        evaluate: Evaluate = supernet.evaluator
        if workers is not None:
            evaluate = on_engine(workers, cfg, supernet.checkpoint, evaluation_options(plan), supernet.evaluator)
        if is_main_process():
            note_config(cfg, work_dir, options or ())
        result = search(
            supernet.strategy(plan.strategy.to_dict()),
            evaluate,
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
                print_line("verify", f"{tool('verify')} {shlex.quote(str(work_dir))}")
    return Found(result, work_dir / PLOT)


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
    if "front" in result:
        print_line("front", f"{result['front']} schemes that no other surpasses in all aims: {work_dir / FRONT}")
    files = {"supernet": checkpoint, "log": work_dir / LOG, "picture": work_dir / PLOT, "scheme": work_dir / SCHEME}
    for label, path in files.items():
        print_line(label, path)


def _retrain(cfg: Config, scheme: Path, options: Sequence[str]) -> str:
    """The command that trains the network found: the config to retrain, where its backbone differs made like this."""
    target = cfg.search.get("retrain", "CONFIG")
    command = [tool("train"), target, "--scheme", str(scheme), *options]
    try:
        other = Config.fromfile(find_config(target)).model.backbone
    except FileNotFoundError:  # it names none
        return " ".join(command)
    own = {key: value for key, value in cfg.model.backbone.items() if key not in ("scheme", "init_cfg", "frozen")}
    before = flatten(other)
    changes = [f"model.backbone.{key}={value}" for key, value in flatten(own).items() if before.get(key) != value]
    return " ".join([*command, "--cfg-options", *changes] if changes else command)
