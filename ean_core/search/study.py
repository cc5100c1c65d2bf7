"""A search as an Optuna study, for the user's own ``optuna-dashboard`` and Optuna's analyses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ean_core.errors import UserError, building
from ean_core.search.log import Entry, metrics_of, read_log
from ean_core.terminal import progress_bar


class Exported(NamedTuple):
    """What an export did.

    Attributes:
        name: The study's.
        added: Trials that were new.
        trials: Trials that the study has now.
    """

    name: str
    added: int
    trials: int


def export_study(log: Path, storage: str, name: str | None = None) -> Exported:
    """Write the candidates of a search into an Optuna study; those that it has already are not written again.

    A candidate is a trial, in the order of the log: the block ``b`` of stage ``s`` is the categorical parameter
    ``stage{s}.block{b}`` with the values 0 and 1, both counted from 1; the value is the reward, which is maximised; a
    failed candidate is a failed trial; step, index, scheme, sparsity, the metrics, and whether the candidate was known
    already, are user attributes. The times are those of the export. What the search evaluates for its verdict, in the
    end, is no candidate. The log may be that of a search that is still running.

    Args:
        log: A ``search.jsonl``.
        storage: An address that Optuna knows, such as ``sqlite:///search.db``.
        name: Of the study; by default that of the log's folder.

    Raises:
        UserError: Optuna is missing, the storage cannot be used, the study holds another search, or the log is none.
        FileNotFoundError: There is no log.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError("a study needs Optuna: pip install 'ean[search]'") from error
    if not log.is_file():
        raise FileNotFoundError(f"'{log}' does not exist: name the work directory of a search of schemes")
    entries = [entry for entry in read_log(log) if not entry.get("final")]
    if not entries:
        raise UserError(f"'{log}' has no candidate yet")
    name = name or log.resolve().parent.name
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it prints a line a study
    with building(f"the storage '{storage}'"):
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        old = study.get_trials(deepcopy=False)
    if study.directions != [optuna.study.StudyDirection.MAXIMIZE] or not _begins_with(entries, old):
        raise UserError(
            f"study '{name}' in '{storage}' holds another search: choose another --name, or another storage"
        )
    with building(f"the storage '{storage}'"), progress_bar() as bar:
        for entry in bar.track(entries[len(old) :], description="trials"):
            study.add_trial(_trial(optuna, entry))
    return Exported(name, len(entries) - len(old), len(entries))


def parameters(scheme: str) -> dict[str, int]:
    """``"01-1"`` as ``{"stage1.block1": 0, "stage1.block2": 1, "stage2.block1": 1}``."""
    return dict(_bits(scheme))


def _bits(scheme: str) -> Iterator[tuple[str, int]]:
    for stage, bits in enumerate(scheme.split("-"), 1):
        for block, bit in enumerate(bits, 1):
            yield f"stage{stage}.block{block}", int(bit)


def _begins_with(entries: list[Entry], trials: list[Any]) -> bool:
    """Whether the trials are the first candidates of a log."""
    if len(trials) > len(entries):
        return False
    return all(
        all(trial.user_attrs.get(name) == entry[name] for name in ("step", "index", "scheme"))
        and (trial.values or [None]) == [_reward(entry)]
        for entry, trial in zip(entries, trials, strict=False)
    )


def _reward(entry: Entry) -> float | None:
    return None if entry["failed"] else entry["reward"]


def _trial(optuna: Any, entry: Entry) -> Any:
    params = parameters(entry["scheme"])
    states = optuna.trial.TrialState
    metrics = {name: value if math.isfinite(value) else None for name, value in metrics_of(entry).items()}
    return optuna.trial.create_trial(
        state=states.FAIL if entry["failed"] else states.COMPLETE,
        value=_reward(entry),
        params=params,
        distributions=dict.fromkeys(params, optuna.distributions.CategoricalDistribution([0, 1])),
        user_attrs={**{k: entry[k] for k in ("step", "index", "scheme", "sparsity", "cached")}, **metrics},
    )
