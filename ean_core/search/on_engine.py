"""A step's candidates evaluated by the workers of an engine (:mod:`ean_core.scale`), each on a supernet of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mmengine.config import Config

from ean_core.application import find_application
from ean_core.engine.runner import build_runner
from ean_core.errors import UserError
from ean_core.scale import Engine, engine_of
from ean_core.scheme import ConnectionScheme
from ean_core.search.evaluator import Evaluator, build_evaluator
from ean_core.search.latency_table import LatencyTable
from ean_core.search.loop import Evaluate

FUNCTION = "ean_core.search.on_engine:scores"


@contextmanager
def engine_for(name: str | None, cfg: Config) -> Iterator[Engine | None]:
    """The engine that ``--engine`` names, with the options of the config's entry ``engine``; ``None`` for none.

    Raises:
        UserError: There is no such engine, or several processes search already.
    """
    if name is None:
        yield None
        return
    if cfg.get("launcher", "none") != "none":
        raise UserError("--engine and --launcher both share out the candidates of a search: leave one of them out")
    with closing(engine_of(name, cfg.get("engine"))) as engine:
        yield engine


def on_engine(
    engine: Engine, cfg: Config, checkpoint: Path, options: Mapping[str, Any], evaluator: Evaluator
) -> Evaluate:
    """From schemes to their metrics, as ``evaluator`` computes them, shared out over the workers of an engine.

    Each worker builds the evaluator once, and keeps it: data and checkpoint lie at the same path for all.

    Args:
        engine: Where the workers are.
        cfg: The config of the search.
        checkpoint: The trained supernet.
        options: Of :func:`~ean_core.search.evaluator.build_evaluator`.
        evaluator: What the workers' evaluators must be equal to.
    """
    made = {
        "config": cfg.pretty_text,
        "checkpoint": str(checkpoint.resolve()),
        "options": json.dumps(dict(options)),
        "settings": json.dumps(evaluator.settings()),
        "increments": json.dumps(evaluator.table.increments if evaluator.table else None),
    }
    blocks = list(evaluator.backbone.blocks)

    def evaluate(schemes: Sequence[ConnectionScheme]) -> list[Mapping[str, float]]:
        shares = [schemes[i :: engine.workers] for i in range(min(engine.workers, len(schemes)))]
        arguments = [{**made, "blocks": blocks, "schemes": [str(scheme) for scheme in share]} for share in shares]
        found: dict[ConnectionScheme, Mapping[str, float]] = {}
        for outcome in engine.run(FUNCTION, arguments):
            if outcome.error:
                raise UserError(f"a worker of the engine could not evaluate its schemes: {outcome.error}")
            found.update(zip(shares[outcome.index], outcome.value, strict=True))
        return [found[scheme] for scheme in schemes]

    return evaluate


def scores(blocks: Sequence[int], schemes: Sequence[str], **made: str) -> list[dict[str, float]]:
    """The metrics of some schemes, in a worker.

    Args:
        blocks: Number of blocks of each stage.
        schemes: As text.
        made: What the evaluator is built from.

    Raises:
        UserError: This machine's evaluator is another one.
    """
    parsed = [ConnectionScheme.parse(text, tuple(blocks)) for text in schemes]
    return [{name: float(value) for name, value in metrics.items()} for metrics in _evaluator(**made)(parsed)]


@cache
def _evaluator(config: str, checkpoint: str, options: str, settings: str, increments: str) -> Evaluator:
    evaluator = evaluator_of(Config.fromstring(config, ".py"), checkpoint, json.loads(options))
    if increments != "null":
        evaluator.table = LatencyTable(json.loads(increments))
    if json.dumps(evaluator.settings()) != settings:
        raise UserError("the data of this machine are not those of the search: both must read the same folders")
    return evaluator


def evaluator_of(cfg: Config, checkpoint: str, options: Mapping[str, Any]) -> Evaluator:
    """The evaluator of a trained supernet, outside of its search.

    Args:
        cfg: The config of the search; changed in place.
        checkpoint: The supernet.
        options: Of :func:`~ean_core.search.evaluator.build_evaluator`.

    Raises:
        UserError, OSError: The checkpoint or the data cannot be read.
    """
    with TemporaryDirectory() as folder:  # of MMEngine's log
        cfg.work_dir, cfg.experiment_name = folder, Path(folder).name  # MMEngine remembers runs by their names
        runner = build_runner(cfg)
        runner.load_checkpoint(checkpoint)
        return build_evaluator(runner, find_application(cfg), **options)
