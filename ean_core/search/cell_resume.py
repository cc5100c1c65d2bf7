"""What a search of cells goes on from: its state and its log, compared with the search that is to go on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ean_core.checkpoint import read_checkpoint
from ean_core.errors import UserError
from ean_core.files import read_json_lines
from ean_core.search.cell_perturbation import DECISIONS, START_ANEW, reading_lines
from ean_core.search.cell_selection import read_probabilities
from ean_core.search.cell_training import CellTraining
from ean_core.search.settings import difference

HISTORY, STATE, GENOTYPE = "cells.jsonl", "cells_state.pth", "genotype.json"
FREE = ("selection", "perturbation")
"""Settings that may change when a search is resumed, until the first decision."""
NUMBERS = ("train_loss", "lr", "entropy_alpha", "entropy_beta", "skips")
KEYS = {"epoch", "learning_architecture", "genotype", "operations", "attentions", *NUMBERS}
"""What every line of ``cells.jsonl`` has."""
Entry = dict[str, Any]


def restore(training: CellTraining, work_dir: Path, settings: Mapping[str, Any]) -> list[Entry]:
    """Put the state that lies in a work directory into a training.

    Args:
        training: As it begins.
        work_dir: With both files.
        settings: What the search is to go on with.

    Returns:
        The lines of ``cells.jsonl`` of the epochs that are done.

    Raises:
        UserError: It was made with other settings, or a file is damaged.
    """
    state = _read_state(training, work_dir / STATE)
    free = () if state["decisions"] else FREE
    changes = difference(*({k: v for k, v in tree.items() if k not in free} for tree in (state["settings"], settings)))
    if changes:
        raise UserError(
            f"the search in '{work_dir}' was made with other settings: {changes}; put it back, choose another "
            "--work-dir, or start anew without --resume"
        )
    lines = _read_history(work_dir / HISTORY, state["epoch"], read_probabilities(training.supernet))
    try:
        training.load_state_dict(state)
    except torch.OutOfMemoryError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"cannot resume: the weights in '{work_dir / STATE}' are not those of this search; {START_ANEW}"
        ) from error
    return lines


def check_nothing_is_lost(work_dir: Path) -> None:
    """Say what a folder has of a search that got further than its first epoch, whose state is written behind its line.

    Raises:
        UserError: There is something.
    """
    history = work_dir / HISTORY
    found = [HISTORY] if history.is_file() and history.read_bytes().count(b"\n") > 1 else []
    found += [name for name in (GENOTYPE, DECISIONS) if (work_dir / name).is_file()]
    if found:
        raise UserError(f"cannot resume: '{work_dir}' has {found[0]} but no {STATE}: {START_ANEW}")


def _read_state(training: CellTraining, path: Path) -> dict[str, Any]:
    """The state of a search, whatever its settings."""
    state = read_checkpoint(path)
    counts = [state.get(name) for name in ("epoch", "decisions")]
    whole = training.state_dict().keys() <= state.keys() and isinstance(state.get("settings"), Mapping)
    if not whole or not all(isinstance(count, int) and count >= 0 for count in counts):
        raise UserError(f"cannot resume: '{path}' is not the state of a search of cells; {START_ANEW}")
    return state


def _read_history(path: Path, epochs: int, own: Mapping[str, Any]) -> list[Entry]:
    """The first lines of ``cells.jsonl``, whose tables have the shapes of the supernet's own."""
    with reading_lines(path):
        lines = read_json_lines(path)[:epochs]
    if len(lines) < epochs:
        raise UserError(f"cannot resume: '{path}' lacks lines of the {epochs} epochs; {START_ANEW}")
    for number, line in enumerate(lines, 1):
        if not line.keys() >= KEYS or line["epoch"] != number or not _has_values(line, own):
            raise UserError(f"cannot resume: line {number} of '{path}' is not that of epoch {number}; {START_ANEW}")
    return lines


def _has_values(line: Entry, own: Mapping[str, Any]) -> bool:
    """Whether the values that are shown and compared are what they should be."""
    if not isinstance(line["genotype"], dict):
        return False
    for name, cells in own.items():
        table = line.get(name)
        if not isinstance(table, dict) or table.keys() != cells.keys():
            return False
        for cell, rows in cells.items():
            try:
                values = np.array(table[cell], dtype=float)
            except (TypeError, ValueError):
                return False
            if values.shape != np.shape(rows) or not np.isfinite(values).all():
                return False
    return all(isinstance(line[name], int | float) and math.isfinite(line[name]) for name in NUMBERS)
