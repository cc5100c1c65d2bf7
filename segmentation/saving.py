"""Predictions as files for other programs: label images, GeoJSON and COCO."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from ean_core.files import write_atomic
from segmentation.polygons import CocoFile, to_geojson
from segmentation.prediction import SegmentationResult

Save = Callable[[Path, Path, SegmentationResult], None]
FORMS = ("masks", "geojson", "coco")


def label_image(result: SegmentationResult) -> bytes:
    """A PNG whose values are the classes: 8 bits with the palette, or 16 bits where there are more than 256 classes."""
    image = Image.fromarray(result.labels)
    if len(result.palette) <= 256:
        image.putpalette([value for colour in result.palette for value in colour])
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


@contextmanager
def saving(kinds: Collection[str], out: Path) -> Iterator[Save]:
    """What to call with an image's path, its place below ``out``, and its result; ``coco.json`` is written at the end.

    Polygons leave out a class whose colour is black, which is VOC's background.

    Args:
        kinds: Some of ``"masks"`` (``masks/PLACE.png``), ``"geojson"`` (``polygons/PLACE.geojson``) and ``"coco"``.
        out: The folder.
    """
    coco: CocoFile | None = None

    def save(path: Path, place: Path, result: SegmentationResult) -> None:
        nonlocal coco
        background = [k for k, colour in enumerate(result.palette) if not any(colour)]
        if "masks" in kinds:
            write_atomic(out / "masks" / place.with_suffix(".png"), label_image(result))
        if "geojson" in kinds:
            text = to_geojson(result.labels, result.classes, background)
            write_atomic(out / "polygons" / place.with_suffix(".geojson"), text)
        if "coco" in kinds:
            coco = coco or CocoFile(result.classes, background)
            coco.add((place.parent / path.name).as_posix(), result.labels)

    yield save
    if coco is not None:
        write_atomic(out / "coco.json", coco.text())
