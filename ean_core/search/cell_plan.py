"""The entry ``search`` of a config that searches cells: its options, and whether they make sense."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import Annotated, Any, Literal

from mmengine.config import Config
from pydantic import Field

from ean_core.engine.schema import CLOSED, Count, Options, Positive, check_entries, read
from ean_core.errors import UserError

TABLES = ("stop", "perturbation", "val_dataset")
"""Options that are dicts; ``None`` is an empty one."""


@dataclass(frozen=True)
class Stop:
    """When a search ends before its last epoch.

    Attributes:
        skips: Once the normal cell of the largest probabilities has more skip connections than this; the genotype is
            then of the last epoch before that had not (DARTS+, arXiv 1909.06035). ``None``: never.
        patience: Once the genotype has been the same in this many epochs and the one before them. ``None``: never.
        after: Only epochs behind this one count, and behind the warm-up: a genotype that is drawn by lot may have any
            number of skip connections. The genotype is of none before this one either.
    """

    __pydantic_config__ = CLOSED
    _: KW_ONLY
    skips: Count | None = None
    patience: Positive | None = None
    after: Count = 0


@dataclass(frozen=True)
class Perturbation:
    """How the strength of candidates is measured (``ean_core/search/cell_perturbation.py``).

    Attributes:
        images: Images of D_val, evenly spaced; ``None``: all.
        tune: Iterations of the search behind every decision, for what is left to get used to it.
    """

    __pydantic_config__ = CLOSED
    _: KW_ONLY
    images: Positive | None = None
    tune: Count = 0


@dataclass(frozen=True)
class Plan:
    """Options of a search of cells; ``configs/_base_/search/cells.py`` explains them.

    Attributes:
        type: ``"cells"``.
        architecture_optimizer: Config of the optimizer of alpha and beta.
        order: Of the approximation, 1 or 2 (:mod:`ean_core.search.bilevel`).
        warmup: First epochs in which the weights alone learn.
        selection: ``"argmax"`` or ``"perturbation"``.
        max_skips: Skip connections that ``argmax`` leaves in the normal cell at most; ``None``: any number.
        stop: When to end early.
        perturbation: How ``perturbation`` measures.
        operations: Candidate operations, in the place of the supernet's own.
        attentions: Candidate attentions, in the place of the supernet's own.
        val_dataset: What is different from ``val_dataloader.dataset`` where D_val teaches the architecture.
        retrain: The config with which the next command, which is printed in the end, trains the network.
    """

    __pydantic_config__ = CLOSED
    _: KW_ONLY
    architecture_optimizer: Options
    type: str = "cells"
    order: Annotated[int, Field(ge=1, le=2, strict=True)] = 1
    warmup: Count = 0
    selection: Literal["argmax", "perturbation"] = "argmax"
    max_skips: Count | None = None
    stop: Stop = field(default_factory=Stop)
    perturbation: Perturbation = field(default_factory=Perturbation)
    operations: list[str] | None = None
    attentions: list[str] | None = None
    val_dataset: Options = field(default_factory=dict)
    retrain: str = "CONFIG"


@dataclass(frozen=True)
class Clip:
    """``optim_wrapper.clip_grad``."""

    __pydantic_config__ = CLOSED
    max_norm: Annotated[float, Field(gt=0, strict=True)] | None = None


@dataclass(frozen=True)
class Weights:
    """``optim_wrapper``: a search of cells knows no other options."""

    __pydantic_config__ = CLOSED
    optimizer: Options
    type: Any = "OptimWrapper"
    clip_grad: Clip | None = None


def read_plan(cfg: Config) -> Plan:
    """The plan of a config.

    Raises:
        UserError: An unknown option, one that is missing, or values that make no sense.
    """
    check_entries(cfg)
    entry = dict(cfg.search)
    entry |= {name: {} for name in TABLES if entry.get(name) is None}
    if "architecture_optimizer" not in entry:
        raise UserError("search.architecture_optimizer is missing: take configs/_base_/search/cells.py as a base")
    for name, kind in (("stop", Stop), ("perturbation", Perturbation)):
        entry[name] = read(kind, entry[name], f"search.{name}.")
    plan = read(Plan, entry, "search.")
    read(Weights, cfg.get("optim_wrapper"), "optim_wrapper.")
    epochs = (cfg.get("train_cfg") or {}).get("max_epochs")
    if epochs is None:
        raise UserError("train_cfg.max_epochs is missing: the length of a search of cells")
    if plan.warmup >= epochs:
        raise UserError(
            f"search.warmup={plan.warmup} must be less than train_cfg.max_epochs={epochs}: behind it the architecture "
            "learns"
        )
    if plan.stop.skips is not None and plan.selection != "argmax":
        raise UserError(
            "search.stop.skips goes back to an earlier epoch's probabilities: it needs search.selection=argmax"
        )
    return plan
