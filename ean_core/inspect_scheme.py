"""Schemes, search logs and trained networks, named as files, as pictures and tables (``tools/inspect_scheme.py``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ean_core.analysis.attention_statistics import BlockStatistics, attention_statistics, to_csv
from ean_core.errors import UserError
from ean_core.figures import label, save_figure
from ean_core.figures.scheme_rows import NAME, Row, log_rows, mask_rows, scheme_row, scheme_rows
from ean_core.files import read_json_lines, write_atomic
from ean_core.inference import Predictor, load
from ean_core.inference.predict_files import find_sources, is_video
from ean_core.plug import find_pluggable
from ean_core.published import PUBLISHED
from ean_core.scheme import ConnectionScheme, read_scheme_file
from ean_core.terminal import print_line, print_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 130


def draw_schemes(sources: Sequence[str], path: Path, blocks: Sequence[int] | None = None, top: int = 5) -> None:
    """Draw schemes, or a search log's frequencies and best schemes, one below the other.

    Args:
        sources: Schemes in any form that :meth:`ConnectionScheme.parse` reads, and paths of ``search.jsonl`` files.
        path: The PNG to write.
        blocks: The number of blocks of each stage; ``None``: that of the first scheme which tells it.
        top: How many of a log's best different schemes are drawn.

    Raises:
        UserError, FileNotFoundError: A source cannot be read, or does not fit the others.
    """
    rows: list[Row] = []
    if blocks is None:
        blocks = next((found for source in sources if (found := _blocks_of(source))), None)
    for source in sources:
        if source.endswith(".jsonl"):
            rows += log_rows(_entries(source), short(source), top)
        elif blocks is None:
            raise UserError(f"the scheme '{source}' does not say how many blocks a stage has: add --blocks 3-4-6-3")
        else:
            scheme = ConnectionScheme.parse(source, blocks)
            # as a file or a name it says where it comes from, as text only what it is
            rows.append(scheme_row(short(source) if set(source) - set("01-") else "scheme", scheme, _attention(source)))
    save_figure(scheme_rows(rows), path, dpi=DPI)


def inspect_files(model: Sequence[str], images: str, limit: int, path: Path, trust: Sequence[str] = ()) -> None:
    """The statistics of a trained network's masks over images: a picture, a printed table, and that as a CSV file.

    Images go through the network as in a prediction.

    Args:
        model: A checkpoint, or its config and the checkpoint.
        images: A folder, image or pattern.
        limit: Use the first images only.
        path: The PNG to write; the table has the same name with ``.csv``.
        trust: See :func:`ean_core.inference.load`.

    Raises:
        UserError, FileNotFoundError: A file cannot be read, or the network has no connected block.
    """
    if len(model) > 2:
        raise UserError(f"a network is a checkpoint, or a config and a checkpoint, got {' '.join(model)}")
    predictor = load(model[0] if len(model) == 2 else None, model[-1], trust=trust)
    found = [file for file, _ in find_sources([images], path.parent / path.stem) if not is_video(file)][:limit]
    statistics, figure = draw_masks(predictor, found, f"{label(short(model[-1]), NAME)}, {len(found)} images")
    save_figure(figure, path, dpi=DPI)
    write_atomic(path.with_suffix(".csv"), to_csv(statistics))
    print_table("masks M of the connected blocks", {f"{r.stage}.{r.block}": _numbers(r) for r in statistics})
    if any(row.effect > 1 for row in statistics):
        print_line(
            "note", "an effect above 1 is no weight: attention that adds to f has large M = f'/f where f is small"
        )
    print_line("table", path.with_suffix(".csv"))


def draw_masks(predictor: Predictor, images: Sequence[Any], title: str) -> tuple[list[BlockStatistics], Figure]:
    """The statistics of a network's masks over images, as numbers and as a picture; write it with :data:`DPI`.

    Args:
        predictor: The trained network.
        images: As it takes them.
        title: Of the picture, as :func:`ean_core.figures.label` writes it.

    Raises:
        UserError: The network has no connected block, or an image cannot be read.
    """
    network = find_pluggable(predictor.model)
    statistics = attention_statistics(network, [partial(predictor, image) for image in images])
    plugged = str((network.attention or {}).get("type", ""))
    rows = mask_rows(statistics, network.blocks, title, plugged, network.sharing == "stage")
    return statistics, scheme_rows(rows)


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
    entries = [e for e in read_json_lines(Path(path)) if isinstance(e, dict) and not e.get("final")]
    entries = [e for e in entries if "scheme" in e and e.get("reward") is not None and not e.get("failed")]
    if not entries:
        raise UserError(f"'{path}' holds no candidate that was evaluated: is it the search.jsonl of a search?")
    return entries


def _attention(source: str) -> str:
    """The name of the attention that a scheme file was searched with."""
    if source.endswith(".json"):
        attention = json.loads(Path(source).read_text()).get("attention")
        if isinstance(attention, dict) and "type" in attention:
            return str(attention["type"])
    return "attention"
