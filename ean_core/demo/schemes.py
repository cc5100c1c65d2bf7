"""The tab "Schemes": what a scheme costs in a network, and how good it is on a search's supernet."""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from ean_core.analysis.complexity import count_macs, count_parameters
from ean_core.application import find_application
from ean_core.checkpoint import read_checkpoint, weights_digest, weights_of
from ean_core.engine.models import blueprint, build_model
from ean_core.engine.saving import LAST
from ean_core.errors import UserError
from ean_core.plug import Pluggable, find_pluggable
from ean_core.scheme import ConnectionScheme
from ean_core.search.evaluator import Evaluator
from ean_core.search.log import metrics_of, read_log, score_key
from ean_core.search.loop import LOG
from ean_core.search.on_engine import evaluator_of
from ean_core.search.trained_supernet import SUPERNET, evaluation_options, plan_of
from ean_core.timing import interleave, ratio, synchronizer

SECONDS = 3.0  # for the passes of one measurement
ROUNDS = 3, 30
MEMORY = 0.25  # GiB of activations that the evaluator of a page keeps


@dataclass(frozen=True)
class Paper:
    """What a network costs on paper.

    Attributes:
        parameters: Of the whole network.
        macs: Multiply-accumulates of one image.
    """

    parameters: int
    macs: int


@dataclass(frozen=True)
class Time:
    """How long a forward pass takes.

    Attributes:
        milliseconds: The median.
        increment: Eq. 9 over the network without attention, in percent, with its quartiles; ``None`` for itself.
        low: The first quartile.
        high: The third.
    """

    milliseconds: float
    _: KW_ONLY
    increment: float | None = None
    low: float = math.nan
    high: float = math.nan


class Lab:
    """A network whose blocks can be connected at will, with random weights: its costs do not depend on them.

    Args:
        cfg: Of a model whose backbone has an attention.
        work_dir: Of the search that it belongs to, if it does.
        device: Where it is timed.

    Attributes:
        blocks: Number of blocks of each stage.
        side: Of the image that is counted and timed: what the network is made for.

    Raises:
        UserError: The model has no attention to connect.
    """

    def __init__(self, cfg: Config, work_dir: Path | None = None, device: torch.device | None = None) -> None:
        self.cfg, self.work_dir, self.device = copy.deepcopy(cfg), work_dir, device or torch.device("cpu")
        network = connectable(self.cfg)
        self.blocks, self.side = network.blocks, int(getattr(network, "image_size", 224))
        self._paper: dict[ConnectionScheme, Paper] = {}
        self._scores: dict[ConnectionScheme, dict[str, float]] = {}
        self._model: Any = None
        self._evaluator: Evaluator | None = None

    def paper(self, scheme: ConnectionScheme) -> Paper:
        """Of the network that is built with the scheme: a stage without connections has no module."""
        if scheme not in self._paper:
            with torch.device("meta"):  # no memory, no arithmetic
                model = self._build(str(scheme))
                macs = count_macs(partial(model, torch.empty(1, 3, self.side, self.side)))
            self._paper[scheme] = Paper(count_parameters(model), macs)
        return self._paper[scheme]

    def times(self, schemes: Sequence[ConnectionScheme]) -> tuple[list[Time], int]:
        """Of one image with each scheme, in turn with none; and the number of rounds. The first scheme is ``none``."""
        if self._model is None:
            self._model = self._build("full").to(self.device)
        network, image = find_pluggable(self._model), torch.rand(1, 3, self.side, self.side, device=self.device)

        def run(scheme: ConnectionScheme) -> None:
            network.set_scheme(scheme)
            self._model(image)

        calls = {str(number): partial(run, scheme) for number, scheme in enumerate(schemes)}
        with torch.inference_mode():
            once = sum(map(sum, interleave(calls, 1, warmup=1, synchronize=synchronizer(image.device)).values()))
            rounds = min(max(int(SECONDS / once), ROUNDS[0]), ROUNDS[1])
            times = interleave(calls, rounds, warmup=0, synchronize=synchronizer(image.device))
        found = []
        for name, seconds in times.items():
            against = ratio(seconds, times["0"])
            own = {} if name == "0" else {"increment": against.increment}
            quartiles = {} if name == "0" else {"low": 100 * (against.low - 1), "high": 100 * (against.high - 1)}
            found.append(Time(1e3 * statistics.median(seconds), **own, **quartiles))
        return found, rounds

    def scores(self, schemes: Sequence[ConnectionScheme]) -> list[dict[str, float]]:
        """The metrics of schemes on the search's held-out images, from its log where it has them.

        Raises:
            UserError, OSError: There is no supernet, or its data cannot be read.
        """
        todo = [scheme for scheme in dict.fromkeys(schemes) if scheme not in self._scores]
        if todo:
            evaluator, known = self._supernet()
            missing = [scheme for scheme in todo if str(scheme) not in known]
            self._scores.update(zip(missing, evaluator(missing) if missing else [], strict=True))
            self._scores.update({scheme: known[str(scheme)] for scheme in todo if str(scheme) in known})
        return [self._scores[scheme] for scheme in schemes]

    def _build(self, scheme: str) -> Any:
        cfg = copy.deepcopy(self.cfg)
        cfg.model.backbone.scheme = scheme
        return build_model(cfg).eval()

    def _supernet(self) -> tuple[Evaluator, dict[str, dict[str, float]]]:
        """The evaluator, and the metrics that the search's log has of the same weights and images."""
        if self.work_dir is None:
            raise UserError("there is no supernet of this network")
        cfg = copy.deepcopy(self.cfg)
        plan = plan_of(cfg)
        checkpoint = Path(plan.get("supernet") or self.work_dir / SUPERNET / LAST)
        content = read_checkpoint(checkpoint)
        if self._evaluator is None:
            options = evaluation_options(plan) | {"memory": MEMORY}
            self._evaluator = evaluator_of(cfg, str(checkpoint), options)
        key = score_key(weights_digest(weights_of(content, checkpoint)), self._evaluator.settings())
        entries = read_log(self.work_dir / LOG)
        return self._evaluator, {entry["scheme"]: metrics_of(entry) for entry in entries if entry["key"] == key}


def connectable(cfg: Config) -> Pluggable:
    """The network of a config, without memory, with every block connected.

    Raises:
        UserError: It has no attention to connect, or no scheme.
    """
    find_application(cfg)  # registers what models are made of
    backbone = cfg.get("model", {}).get("backbone") or {}
    if backbone.get("attention") is None or backbone.get("type") is None:
        raise UserError("this network has no attention to connect")
    return find_pluggable(blueprint({**backbone, "scheme": "full"}))
