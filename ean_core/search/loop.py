"""The search loop: ask, evaluate, log, tell. It knows neither the strategy nor the network."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, barrier, get_rank, get_world_size, is_main_process

from ean_core.checkpoint import read_checkpoint, write_checkpoint
from ean_core.errors import UserError
from ean_core.figures import save_figure
from ean_core.files import write_atomic
from ean_core.scheme import ConnectionScheme
from ean_core.search.front import FRONT, PICTURE, set_front_aside, write_front
from ean_core.search.log import SearchLog, metrics_of, score_key
from ean_core.search.reward import Reward
from ean_core.search.status import SearchProgress
from ean_core.search.verdict import entry_of, scheme_file, verdict
from ean_core.stopping import running
from ean_core.stopping import steps as stopping_steps
from ean_core.strategies import Strategy
from ean_core.work_dir import begin, set_aside

Evaluate = Callable[[list[ConnectionScheme]], Sequence[Mapping[str, float]]]
LOG, STATE, SCHEME, PLOT = "search.jsonl", "search_state.pth", "scheme.json", "search.png"
IMPORTANCE = "importance.png"
FILES = (LOG, STATE, SCHEME, PLOT, IMPORTANCE, FRONT, PICTURE)


def search(
    strategy: Strategy,
    evaluate: Evaluate,
    steps: int,
    per_step: int,
    work_dir: str | Path,
    *,
    reward: Reward | None = None,
    checkpoint: str = "",
    settings: Mapping[str, Any] | None = None,
    attention: Mapping[str, Any] | None = None,
    points: Sequence[str] | None = None,
    resume: bool = False,
    caches: Sequence[str | Path] = (),
    draw: bool = True,
    evaluations: int | None = None,
    show: bool = True,
) -> dict[str, Any]:
    """Search, and write ``search.jsonl``, ``search_state.pth``, ``scheme.json``, ``search.png`` and ``importance.png``.

    With a reward of several aims also ``front.json``, ``front/`` and ``front.png`` (:mod:`ean_core.search.front`).

    Under ``torchrun`` every rank evaluates its share of a step's schemes; all tell the same rewards to equal copies
    of the strategy. A scheme is never evaluated twice. Killed at any moment and resumed, a search ends with the same
    log as one that ran through.

    Args:
        strategy: What proposes schemes.
        evaluate: From different schemes to the metrics of each; see :class:`ean_core.search.Evaluator`. A metric that
            is not finite makes a failed candidate, and the search goes on.
        steps: Steps in all; a finished search can be resumed with more. 1000 on CIFAR and 300 on ImageNet in the paper.
        per_step: Schemes a step; 3 in the authors' code.
        work_dir: Where everything is written. A new search moves the files of an earlier one to ``previous/``.
        reward: ``Reward()``, the authors', by default.
        checkpoint: The hash of the supernet's weights: :func:`ean_core.checkpoint.weights_digest`.
        settings: What else the scores depend on: ``evaluator.settings()``.
        attention: The attention's config, for the scheme file.
        points: The names of the network's points, if it is plugged, for the scheme file.
        resume: Continue the search in ``work_dir``; where there is none yet, begin.
        caches: Logs of other searches whose scores may be used, e.g. of an exhaustive evaluation.
        draw: Write the pictures.
        evaluations: Evaluate at most this many different schemes, the final one included: the search ends before
            a step that could exceed it. Schemes met again cost nothing. ``None``: only ``steps`` ends it.
        show: Show the progress on the terminal.

    Returns:
        The content of ``scheme.json``.

    Raises:
        UserError: The search to resume had another checkpoint, reward, strategy or settings; or all candidates failed.
    """
    if steps < 1 or per_step < 1:
        raise UserError(f"a search needs at least one step and one scheme a step, got {steps} and {per_step}")
    if evaluations is not None and evaluations <= per_step:
        raise UserError(f"{evaluations} evaluations are too few: a step takes {per_step}, the final scheme one more")
    work_dir, reward = Path(work_dir), reward or Reward()
    config = getattr(strategy, "config", {"type": type(strategy).__name__})
    identity = json.loads(
        json.dumps(
            {
                "blocks": strategy.blocks,
                "strategy": config,
                "reward": reward.config,
                "checkpoint": checkpoint,
                "settings": settings or {},
                "attention": attention,
                "points": None if points is None else list(points),
                "per_step": per_step,
            },
            default=str,
        )
    )
    done = _restore(strategy, work_dir / STATE, identity) if resume else 0
    barrier()
    if is_main_process() and not done:
        begin()
        if not resume:
            set_aside(work_dir, FILES)
            set_front_aside(work_dir)
        _save(strategy, work_dir / STATE, identity, 0)
    key = score_key(checkpoint, identity["settings"])
    barrier()
    others = [Path(path) for path in caches]
    log = SearchLog(
        work_dir / LOG, key=key, step=done, lines=done * per_step, others=others, writable=is_main_process()
    )
    notes: Callable[[Sequence[ConnectionScheme]], list[dict[str, float]]]
    notes = getattr(strategy, "notes", lambda schemes: [{} for _ in schemes])

    begin()
    known = {entry["scheme"] for entry in log.entries}
    step = done
    with (
        running(lambda: f"step {step} of {steps}", lambda: True),
        SearchProgress(steps, per_step, log.entries, show) as progress,
        stopping_steps() as step_done,
    ):
        for step in range(done + 1, steps + 1):
            if evaluations is not None and len(known) + per_step >= evaluations:
                break
            schemes = strategy.ask(per_step)
            metrics = _measure(evaluate, schemes, log)
            rewards = [reward(scheme, metrics[scheme]) for scheme in schemes]
            for i, (scheme, value, note) in enumerate(zip(schemes, rewards, notes(schemes), strict=True)):
                cached = str(scheme) in known
                known.add(str(scheme))
                log.add(entry_of(step, i, scheme, value, metrics[scheme], cached, note, key))
            log.sync()
            if reward.aims and hasattr(strategy, "tell_aims"):
                strategy.tell_aims(schemes, rewards, [reward.values(scheme, metrics[scheme]) for scheme in schemes])
            else:
                strategy.tell(schemes, rewards)
            if is_main_process():
                _save(strategy, work_dir / STATE, identity, step)
            progress.update(log.entries[-per_step:])
            step_done()

    result = verdict(strategy, lambda scheme: _measure(evaluate, [scheme], log)[scheme], reward, log, identity)
    if is_main_process():
        if reward.aims:
            one = partial(scheme_file, identity=identity, blocks=strategy.blocks)
            write_front(log.entries, reward, strategy.blocks, work_dir, one, picked=result["scheme"], draw=draw)
        write_atomic(work_dir / SCHEME, json.dumps(result, indent=2) + "\n")
        if draw:
            # Matplotlib and SciPy: not before there is a result
            from ean_core.figures.block_importance import block_importance
            from ean_core.figures.search_history import search_history
            from ean_core.search.importance import block_effects

            candidates = [entry for entry in log.entries if not entry.get("final")]
            metric = next(iter(metrics_of(candidates[0])), "accuracy")
            save_figure(search_history(candidates, metric), work_dir / PLOT)
            save_figure(block_importance(strategy.blocks, block_effects(candidates)), work_dir / IMPORTANCE)
    barrier()
    return result


def _measure(
    evaluate: Evaluate, schemes: Sequence[ConnectionScheme], log: SearchLog
) -> dict[ConnectionScheme, Mapping[str, float]]:
    """The metrics of some schemes, evaluating those that the log does not know, shared out over the ranks."""
    found: dict[ConnectionScheme, Mapping[str, float]] = {}
    todo = []
    for scheme in dict.fromkeys(schemes):
        metrics = log.metrics(str(scheme))
        if metrics is None:
            todo.append(scheme)
        else:
            found[scheme] = metrics
    if todo:
        mine = todo[get_rank() :: get_world_size()]
        shares = all_gather_object([{k: float(v) for k, v in m.items()} for m in evaluate(mine)] if mine else [])
        for rank, share in enumerate(shares):
            found.update(zip(todo[rank :: get_world_size()], share, strict=True))
    return found


def _save(strategy: Strategy, path: Path, identity: Mapping[str, Any], step: int) -> None:
    write_checkpoint({"identity": identity, "step": step, "strategy": strategy.state_dict()}, path)


def _restore(strategy: Strategy, path: Path, identity: Mapping[str, Any]) -> int:
    """Load the strategy's state; the number of steps that it contains (0 where there is no file)."""
    if not path.is_file():
        return 0
    saved = read_checkpoint(path)
    if not isinstance(saved.get("identity"), Mapping) or not isinstance(saved.get("step"), int):
        raise UserError(f"'{path}' is not the state of a search: start a new search without --resume")
    changed = [name for name, value in identity.items() if saved["identity"].get(name) != value]
    if changed:
        before, now = (json.dumps(source.get(changed[0])) for source in (saved["identity"], identity))
        raise UserError(
            f"cannot resume the search in '{path.parent}': {' and '.join(changed)} changed ({changed[0]} was {before}, "
            f"is {now}); put it back, or start a new search without --resume"
        )
    try:
        strategy.load_state_dict(saved["strategy"])
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"'{path}' does not hold the state of this search's strategy: start a new search without --resume"
        ) from error
    return int(saved["step"])
