"""The entry ``search`` of a config that searches cells: its options, and whether they make sense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from mmengine.config import Config

from ean_core.errors import UserError

SELECTIONS = ("argmax", "perturbation")
WEIGHTS = ("type", "optimizer", "clip_grad")
"""What a search reads in ``optim_wrapper``."""
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

    _: KW_ONLY
    skips: int | None = None
    patience: int | None = None
    after: int = 0


@dataclass(frozen=True)
class Perturbation:
    """How the strength of candidates is measured (``ean_core/search/cell_perturbation.py``).

    Attributes:
        images: Images of D_val, evenly spaced; ``None``: all.
        tune: Iterations of the search behind every decision, for what is left to get used to it.
    """

    _: KW_ONLY
    images: int | None = None
    tune: int = 0


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

    _: KW_ONLY
    architecture_optimizer: Mapping[str, Any]
    type: str = "cells"
    order: int = 1
    warmup: int = 0
    selection: str = "argmax"
    max_skips: int | None = None
    stop: Stop = field(default_factory=Stop)
    perturbation: Perturbation = field(default_factory=Perturbation)
    operations: Sequence[str] | None = None
    attentions: Sequence[str] | None = None
    val_dataset: Mapping[str, Any] = field(default_factory=dict)
    retrain: str = "CONFIG"


def read_plan(cfg: Config) -> Plan:
    """The plan of a config.

    Raises:
        UserError: An unknown option, one that is missing, or values that make no sense.
    """
    entry = dict(cfg.search)
    entry |= {name: {} for name in TABLES if entry.get(name) is None}
    weights = cfg.optim_wrapper
    clip = weights.get("clip_grad") if isinstance(weights, Mapping) else None
    tables = {f"search.{name}": entry[name] for name in (*TABLES, "architecture_optimizer") if name in entry}
    for name, value in (tables | {"optim_wrapper": weights, "optim_wrapper.clip_grad": clip or {}}).items():
        if not isinstance(value, Mapping):
            raise UserError(f"{name} must be a dict of options, got {value!r}")
    for name, kind in (("stop", Stop), ("perturbation", Perturbation)):
        entry[name] = _read(kind, dict(entry[name]), f"search.{name}")
    plan: Plan = _read(Plan, entry, "search")
    epochs = cfg.train_cfg.max_epochs
    for name, value, least, optional in (
        ("train_cfg.max_epochs", epochs, 1, False),
        ("search.warmup", plan.warmup, 0, False),
        ("search.max_skips", plan.max_skips, 0, True),
        ("search.stop.skips", plan.stop.skips, 0, True),
        ("search.stop.patience", plan.stop.patience, 1, True),
        ("search.stop.after", plan.stop.after, 0, False),
        ("search.perturbation.images", plan.perturbation.images, 1, True),
        ("search.perturbation.tune", plan.perturbation.tune, 0, False),
    ):
        if not (optional and value is None) and (type(value) is not int or value < least):  # bool is no number
            raise UserError(f"{name} must be a whole number from {least} on, got {value!r}")
    norm = (clip or {}).get("max_norm")
    if norm is not None and (isinstance(norm, bool) or not isinstance(norm, int | float) or not norm > 0):
        raise UserError(f"optim_wrapper.clip_grad.max_norm must be a number above 0, got {norm!r}")
    if type(plan.order) is not int or plan.order not in (1, 2):
        raise UserError(f"search.order must be 1 or 2, got {plan.order!r}")
    if plan.selection not in SELECTIONS:
        raise UserError(f"search.selection must be {' or '.join(SELECTIONS)}, got {plan.selection!r}")
    if plan.warmup >= epochs:
        raise UserError(
            f"search.warmup={plan.warmup} must be less than train_cfg.max_epochs={epochs}: behind it the architecture "
            "learns"
        )
    if plan.stop.skips is not None and plan.selection != "argmax":
        raise UserError(
            "search.stop.skips goes back to an earlier epoch's probabilities: it needs search.selection=argmax"
        )
    unread = [key for key in cfg.optim_wrapper if key not in WEIGHTS]
    if unread:
        raise UserError(f"optim_wrapper.{unread[0]}: a search of cells reads {', '.join(WEIGHTS)} only; leave it out")
    return plan


def _read(kind: Any, entry: Mapping[str, Any], where: str) -> Any:
    known = [option.name for option in fields(kind) if option.name != "_"]
    for name in entry:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise UserError(f"{where}.{name}: there is no such option; {hint}")
    if kind is Plan and "architecture_optimizer" not in entry:
        raise UserError("search.architecture_optimizer is missing: take configs/_base_/search/cells.py as a base")
    return kind(**entry)
