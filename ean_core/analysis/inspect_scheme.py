"""Schemes, search logs and trained networks as pictures and tables: what is connected, and what does it do?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ean_core.analysis.attention_statistics import BlockStatistics, attention_statistics, to_csv
from ean_core.analysis.scheme_picture import Row, draw_rows, scheme_row
from ean_core.engine.run import print_table
from ean_core.files import write_atomic
from ean_core.inference import Predictor, load
from ean_core.inference.files import find_sources, is_video
from ean_core.published import PUBLISHED
from ean_core.scheme import ConnectionScheme, read_scheme_file
from ean_core.search.log import read_log
from ean_core.search.supernet import find_backbone

EFFECT, ADAPTIVE = "effect: mean of |1 - M|", "adaptive: spread of M over images and positions"


def draw_schemes(sources: Sequence[str], path: Path, blocks: Sequence[int] | None = None, top: int = 5) -> None:
    """Draw schemes, or a search log's frequencies and best schemes, one below the other.

    Args:
        sources: Schemes in any form that :meth:`ConnectionScheme.parse` reads, and paths of ``search.jsonl`` files.
        path: The PNG to write.
        blocks: The number of blocks of each stage; ``None``: that of the first scheme which tells it.
        top: How many of a log's best different schemes are drawn.

    Raises:
        ValueError, FileNotFoundError: A source cannot be read, or does not fit the others.
    """
    rows: list[Row] = []
    if blocks is None:
        blocks = next((found for source in sources if (found := _blocks_of(source))), None)
    for source in sources:
        if source.endswith(".jsonl"):
            rows += log_rows(_entries(source), short(source), top)
        elif blocks is None:
            raise ValueError(f"the scheme '{source}' does not say how many blocks a stage has: add --blocks 3-4-6-3")
        else:
            scheme = ConnectionScheme.parse(source, blocks)
            # as a file or a name it says where it comes from, as text only what it is
            rows.append(scheme_row(short(source) if set(source) - set("01-") else "scheme", scheme, _attention(source)))
    draw_rows(rows, path)


def log_rows(entries: Sequence[dict[str, Any]], name: str, top: int = 5) -> list[Row]:
    """The lines of a search log: how often each block was connected, then the best schemes.

    The frequencies are those of all candidates, of the last fifth of them, and of the best tenth of the different
    schemes by reward (at least one).

    Args:
        entries: Of the log, without its verdict and without failed evaluations.
        name: For the titles.
        top: How many of the best different schemes follow.
    """
    blocks = tuple(map(len, entries[0]["scheme"].split("-")))
    schemes = {e["scheme"]: ConnectionScheme.parse(e["scheme"], blocks) for e in entries}
    candidates = [schemes[e["scheme"]] for e in entries]
    rewards: dict[str, float] = {}
    for entry in entries:
        rewards[entry["scheme"]] = max(entry["reward"], rewards.get(entry["scheme"], entry["reward"]))
    ranked = sorted(rewards, key=lambda text: -rewards[text])  # of equal ones the first found
    tenth = [schemes[text] for text in ranked[: max(len(ranked) // 10, 1)]]
    last = candidates[-max(len(candidates) // 5, 1) :]
    parts = {f"all {len(candidates)} candidates": candidates, f"the last {len(last)} candidates": last}
    parts[f"the best {len(tenth)} of {len(ranked)} different schemes"] = tenth
    rows = [
        Row(f"{name}: % connected, {title}", blocks, values=frequencies(part), percent=True)
        for title, part in parts.items()
    ]
    for place, text in enumerate(ranked[:top], 1):
        rows.append(scheme_row(f"{place}. by reward, {rewards[text]:.3f}", schemes[text]))
    return rows


def frequencies(schemes: Sequence[ConnectionScheme]) -> list[float]:
    """The fraction of the schemes that connect each block."""
    return [sum(bits) / len(schemes) for bits in zip(*(scheme.bits for scheme in schemes), strict=True)]


def inspect_files(model: Sequence[str], images: str, limit: int, path: Path) -> None:
    """:func:`inspect_model` on files, with its table printed.

    Args:
        model: A checkpoint, or its config and the checkpoint.
        images: A folder, image or pattern.
        limit: Use the first images only.
        path: The PNG to write.

    Raises:
        ValueError, FileNotFoundError: A file cannot be read.
    """
    if len(model) > 2:
        raise ValueError(f"a network is a checkpoint, or a config and a checkpoint, got {' '.join(model)}")
    predictor = load(model[0] if len(model) == 2 else None, model[-1])
    found = [file for file, _ in find_sources([images], path.parent / path.stem) if not is_video(file)][:limit]
    statistics = inspect_model(predictor, found, short(model[-1]), path)
    print_table("masks M of the connected blocks", {f"{r.stage}.{r.block}": _numbers(r) for r in statistics})
    print(f"{'table':<11} {path.with_suffix('.csv')}")


def inspect_model(predictor: Predictor, images: Sequence[Path], name: str, path: Path) -> list[BlockStatistics]:
    """The attention statistics of a trained network over images: a picture, and a CSV file beside it.

    Args:
        predictor: From :func:`ean_core.inference.load`; images go through it as in a prediction.
        images: The image files.
        name: The network's, for the title.
        path: The PNG to write; the table has the same name with ``.csv``.

    Returns:
        A row for each connected block.

    Raises:
        ValueError: The network has no connected block, or an image cannot be read.
    """
    backbone = find_backbone(predictor.model)
    statistics = attention_statistics(backbone, [partial(predictor, image) for image in images])
    seen = {(row.stage, row.block) for row in statistics}
    places = [(stage, block) for stage, number in enumerate(backbone.blocks, 1) for block in range(1, number + 1)]
    scheme = ConnectionScheme.parse("".join("01"[place in seen] for place in places), backbone.blocks)
    plugged, shared = str((backbone.attention or {}).get("type", "")), backbone.sharing == "stage"
    rows = []
    for title, number in ((EFFECT, "effect"), (ADAPTIVE, "adaptive")):
        found = {(row.stage, row.block): getattr(row, number) for row in statistics}
        values = [found.get(place) for place in places]
        rows.append(Row(f"{name}   {title}, {len(images)} images", backbone.blocks, scheme, values, plugged, shared))
    draw_rows(rows, path)
    write_atomic(path.with_suffix(".csv"), to_csv(statistics))
    return statistics


def short(name: str) -> str:
    """The last two parts of a path, for a title."""
    return "/".join(Path(name).parts[-2:])


def _numbers(row: BlockStatistics) -> dict[str, float]:
    names = ("mean", "effect", "over_channels", "over_images", "over_positions", "adaptive")
    return {name.replace("_", " "): f"{getattr(row, name):.3f}" for name in names}  # type: ignore[misc]


def _blocks_of(source: str) -> tuple[int, ...] | None:
    """The blocks of the stages, if the source tells them."""
    if source.endswith(".jsonl"):
        source = _entries(source)[0]["scheme"]
    elif source.endswith(".json"):
        source = read_scheme_file(Path(source))
    source = PUBLISHED.get(source, source)
    return None if set(source) - set("01-") or "-" not in source else tuple(map(len, source.split("-")))


def _entries(path: str) -> list[dict[str, Any]]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"search log '{path}' does not exist")
    entries = [e for e in read_log(Path(path)) if isinstance(e, dict) and not e.get("final")]
    entries = [e for e in entries if "scheme" in e and e.get("reward") is not None and not e.get("failed")]
    if not entries:
        raise ValueError(f"'{path}' holds no candidate that was evaluated: is it the search.jsonl of a search?")
    return entries


def _attention(source: str) -> str:
    """The name of the attention that a scheme file was searched with."""
    if source.endswith(".json"):
        attention = json.loads(Path(source).read_text()).get("attention")
        if isinstance(attention, dict) and "type" in attention:
            return str(attention["type"])
    return "attention"
