"""The tab "Look inside": where a network looks in an image, and what each of its connections does to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, BinaryIO

from ean_core.analysis.attention_statistics import BlockStatistics
from ean_core.analysis.gradcam import Explanation, explain
from ean_core.demo.kept import Kept, Result
from ean_core.demo.limits import Limits
from ean_core.demo.uploads import read_picture
from ean_core.errors import UserError
from ean_core.figures import label, to_png
from ean_core.figures.heat_maps import HeatMap, heat_maps
from ean_core.figures.scheme_rows import NAME
from ean_core.images import Picture
from ean_core.inference import Predictor
from ean_core.inspect_scheme import DPI, draw_masks
from ean_core.plug import find_staged

HEAT, MASKS = "gradcam.png", "masks.png"


@dataclass(frozen=True)
class Inside:
    """What is seen inside of networks.

    Attributes:
        word: Of the pictures that are kept.
        heat: The Grad-CAM of all networks: a line for each; empty where there is none.
        masks: Of each network: its name, its file, and the numbers of its connected blocks.
        notes: What could not be drawn, and why.
    """

    word: str
    _: KW_ONLY
    heat: Sequence[str]
    masks: Sequence[tuple[str, str, Sequence[BlockStatistics]]]
    notes: Sequence[str]


def look_inside(
    networks: dict[str, Predictor],
    file: BinaryIO,
    *,
    target: str | None,
    stage: int | None,
    limits: Limits,
    kept: Kept,
) -> Inside:
    """Grad-CAM and masks of some networks on one image; what one network cannot show is a note.

    Args:
        networks: By name.
        file: The upload.
        target: What Grad-CAM explains, e.g. a class; ``None``: what the first network predicts.
        stage: From 1; ``None``: each network's last.
        limits: The page's.
        kept: Takes the pictures.

    Raises:
        UserError, RefusedError: The image cannot be read or is too large.
    """
    picture, note = read_picture(file, limits)
    notes = [f"The image was {note}."] if note else []
    files: dict[str, bytes] = {}
    heat = _heat(networks, picture, target, stage, files, notes)
    masks = []
    for number, (name, predictor) in enumerate(networks.items(), 1):
        try:
            statistics, figure = draw_masks(predictor, [picture], f"{label(name, NAME)}, this image")
        except UserError as error:
            notes.append(f"{name}, masks: {error}")
            continue
        own = f"{number}-{MASKS}"
        files[own] = to_png(figure, DPI)
        masks.append((name, own, statistics))
    return Inside(kept.put(Result(files)), heat=heat, masks=masks, notes=notes)


def _heat(
    networks: dict[str, Predictor],
    picture: Picture,
    target: str | None,
    stage: int | None,
    files: dict[str, bytes],
    notes: list[str],
) -> list[str]:
    """A line for each network that has a map; what was asked of the first is asked of all that can answer it."""
    found: list[Explanation] = []
    for name, predictor in networks.items():
        try:
            found.append(_explained(predictor, picture, target, stage, name, found[0].ask if found else None))
        except UserError as error:
            notes.append(f"{name}, Grad-CAM: {str(error).replace('--target ', '').replace('--stage ', 'stage ')}")
    lines = [f"{one.name}\n{one.target}, {one.answer}" for one in found]
    if found:
        maps = [HeatMap(line, one.seen, one.heat, one.region) for line, one in zip(lines, found, strict=True)]
        files[HEAT] = to_png(heat_maps(maps, ""), tight=True)
    return lines


def _explained(
    predictor: Predictor, picture: Picture, target: str | None, stage: int | None, name: str, before: str | None
) -> Explanation:
    """Of the target; without one of what was asked of another network before, or of what this one predicts."""
    if target is None and before is not None:
        try:
            return explain(predictor, picture, before, stage, name)
        except UserError:  # it has no such class
            pass
    return explain(predictor, picture, target, stage, name)


def stages(networks: dict[str, Predictor]) -> int:
    """How many stages can be asked for: the most that one of the networks uses."""
    numbers = [1]
    for predictor in networks.values():
        try:
            numbers.append(max(find_staged(predictor.model).out_indices) + 1)
        except UserError:  # a network without stages: looking inside says so
            continue
    return max(numbers)


def targets(networks: dict[str, Predictor]) -> list[str]:
    """The classes that can be asked for, of all networks."""
    names: list[str] = []
    for predictor in networks.values():
        meta: Any = predictor.model.dataset_meta
        names += meta.get("classes") or ()
    return list(dict.fromkeys(names))
