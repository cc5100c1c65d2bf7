"""The Pareto front of a search whose reward has several aims: ``front.json``, a scheme file a point, ``front.png``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ean_core.figures import save_figure
from ean_core.files import write_atomic
from ean_core.scheme import ConnectionScheme
from ean_core.search.log import Entry, metrics_of
from ean_core.search.reward import Reward

FRONT, FOLDER, PICTURE = "front.json", "front", "front.png"


def non_dominated(values: Sequence[Sequence[float]]) -> list[int]:
    """The rows that no other row surpasses: none is at least as high everywhere and higher somewhere. Equals all stay.

    Args:
        values: (n, k), finite; more is better.

    Returns:
        Their indices in order: the first front of NSGA-II's non-dominated sorting (Deb et al., 2002).
    """
    table = np.asarray(values, dtype=float)
    kept = [not ((table >= row).all(1) & (table > row).any(1)).any() for row in table]
    return [i for i, keep in enumerate(kept) if keep]


def find_front(entries: Sequence[Entry], reward: Reward, blocks: Sequence[int]) -> list[Entry]:
    """The non-dominated ones of a log's schemes, each once, the best in the first aim first."""
    scored = list({entry["scheme"]: entry for entry in reversed(entries) if not entry["failed"]}.values())[::-1]
    values = [aims_of(entry, reward, blocks) for entry in scored]
    return [scored[i] for i in sorted(non_dominated(values), key=lambda i: (values[i], scored[i]["reward"]))[::-1]]


def aims_of(entry: Entry, reward: Reward, blocks: Sequence[int]) -> tuple[float, ...]:
    """A log entry's aims, of which more is better."""
    return reward.values(ConnectionScheme.parse(entry["scheme"], blocks), metrics_of(entry))


def write_front(
    entries: Sequence[Entry],
    reward: Reward,
    blocks: Sequence[int],
    work_dir: Path,
    scheme_file: Callable[[Entry], Mapping[str, Any]],
    *,
    picked: str,
    draw: bool,
) -> None:
    """Write the front of a log, in the place of an earlier one.

    Args:
        entries: The log's.
        reward: It has aims.
        blocks: Number of blocks of each stage.
        work_dir: Gets ``front.json``, which lists the points, ``front/1.json`` and so on, each in the form of
            ``scheme.json``, and ``front.png``.
        scheme_file: From an entry to the content of its scheme file.
        picked: The scheme of ``scheme.json``.
        draw: Write ``front.png``.
    """
    front, points = find_front(entries, reward, blocks), []
    aims = [{"metric": aim.metric, "direction": aim.direction} for aim in reward.aims]
    for number, entry in enumerate(front, 1):
        chosen = _measured(entry, reward, blocks)
        path = work_dir / FOLDER / f"{number}.json"
        point = {"file": f"{FOLDER}/{path.name}", "scheme": entry["scheme"], "aims": chosen, "reward": entry["reward"]}
        points.append(point | {"step": entry["step"], "picked": entry["scheme"] == picked})
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, json.dumps({**scheme_file(entry), "aims": chosen}, indent=2) + "\n")
    for path in (work_dir / FOLDER).iterdir():
        if f"{FOLDER}/{path.name}" not in {point["file"] for point in points}:
            path.unlink()  # of an earlier end of this search
    write_atomic(work_dir / FRONT, json.dumps({"aims": aims, "front": points}, indent=2) + "\n")
    if draw:
        from ean_core.figures.pareto_front import pareto_front  # Matplotlib: not before there is a result

        seen = {e["scheme"]: _measured(e, reward, blocks) for e in entries if not e["failed"]}
        save_figure(pareto_front([list(values.values()) for values in seen.values()], points, aims), work_dir / PICTURE)


def _measured(entry: Entry, reward: Reward, blocks: Sequence[int]) -> dict[str, float]:
    """The metrics of the aims by their names."""
    values = reward.measured(ConnectionScheme.parse(entry["scheme"], blocks), metrics_of(entry))
    return {aim.metric: values[aim.metric] for aim in reward.aims}


def set_front_aside(work_dir: Path) -> None:
    """Move the scheme files of an earlier search's front to ``previous/front``, in the place of those there."""
    if (work_dir / FOLDER).is_dir():
        shutil.rmtree(work_dir / "previous" / FOLDER, ignore_errors=True)
        (work_dir / "previous").mkdir(exist_ok=True)
        (work_dir / FOLDER).rename(work_dir / "previous" / FOLDER)
