"""Label images as polygons, for labelling tools: exact, on the corners of the pixels, and back.

Corners have whole coordinates: the pixel in row y and column x is the square from (x, y) to (x + 1, y + 1), y down. A
polygon encloses one connected region of one class (pixels that share a side).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

Ring = list[tuple[int, int]]
RIGHT_OF = {(1, 0): (0, 0), (0, 1): (-1, 0), (-1, 0): (-1, -1), (0, -1): (0, -1)}
"""Direction of an edge -> the pixel at its right, as an offset (x, y) from the corner where it begins."""


@dataclass(frozen=True)
class Region:
    """A connected region of one class.

    Attributes:
        k: The class.
        outer: Its outline as corners (x, y), without the first one again.
        holes: The outlines of what it encloses.
        area: In pixels.
    """

    k: int
    outer: Ring
    holes: list[Ring]
    area: int


def regions_of(labels: NDArray[np.integer], classes: Iterable[int]) -> list[Region]:
    """The connected regions of some classes in an image.

    Args:
        labels: (H, W).
        classes: Which.
    """
    found = []
    for k in classes:
        parts, count = label(labels == k)
        rings: list[list[Ring]] = [[] for _ in range(count + 1)]
        for part, ring in outlines(parts):
            rings[part].append(ring)
        areas = np.bincount(parts.ravel(), minlength=count + 1)
        for part in range(1, count + 1):
            outer = next(ring for ring in rings[part] if signed_area(ring) > 0)
            holes = [ring for ring in rings[part] if ring is not outer]
            found.append(Region(k, outer, holes, int(areas[part])))
    return found


def outlines(parts: NDArray[np.integer]) -> list[tuple[int, Ring]]:
    """Every outline of the numbered parts of an image, with the part's number; 0 is no part.

    An outline runs with its part at the right (y down). Where four pixels meet in a corner and those of a part are
    opposite, it stays with its pixel, so outlines never cross.
    """
    framed = np.pad(parts, 1)
    starts: dict[tuple[int, int, int], list[tuple[int, int]]] = {}  # part, corner -> directions of edges from it
    for direction, (dx, dy) in RIGHT_OF.items():
        # the pixel at the right of an edge, and the one at its left: the other side of the edge
        left = (dx + direction[1], dy - direction[0])
        rows, columns = np.mgrid[0 : parts.shape[0] + 1, 0 : parts.shape[1] + 1]
        own = framed[rows + dy + 1, columns + dx + 1]
        other = framed[rows + left[1] + 1, columns + left[0] + 1]
        ys, xs = np.nonzero((own != other) & (own > 0))
        for y, x in zip(ys.tolist(), xs.tolist(), strict=True):
            starts.setdefault((int(own[y, x]), x, y), []).append(direction)
    found = []
    while starts:
        part, x, y = next(iter(starts))
        ring: Ring = []
        before: tuple[int, int] | None = None
        while (part, x, y) in starts:
            directions = starts[part, x, y]
            around = before is not None and len(directions) > 1  # to the right: around the same pixel
            direction = (-before[1], before[0]) if around and before else directions[0]
            directions.remove(direction)
            if not directions:
                del starts[part, x, y]
            if direction != before:
                ring.append((x, y))
            before = direction
            x, y = x + direction[0], y + direction[1]
            if (x, y) == ring[0] and _closes(starts, part, x, y, before):
                break
        if len(ring) > 1 and _direction(ring[-1], ring[0]) == _direction(ring[0], ring[1]):
            ring.pop(0)  # it began in the middle of a side
        found.append((part, ring))
    return found


def _closes(starts: dict[Any, Any], part: int, x: int, y: int, before: tuple[int, int]) -> bool:
    """Whether an outline that is back where it began ends there: the turn to the right is taken already."""
    return (-before[1], before[0]) not in starts.get((part, x, y), [])


def _direction(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return int(np.sign(b[0] - a[0])), int(np.sign(b[1] - a[1]))


def signed_area(ring: Ring) -> float:
    """The area inside a ring by the shoelace formula: positive for what encloses a region, negative for its holes."""
    x, y = np.array(ring, np.int64).T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2


def without_holes(mask: NDArray[np.bool_]) -> list[Ring]:
    """Outlines of regions without holes that together make a mask (H, W): cut above the first row of a hole."""
    parts, count = label(mask)
    rings = []
    for part in range(1, count + 1):
        own = parts == part
        found = [ring for _, ring in outlines(own.astype(np.uint8))]
        if len(found) == 1:
            rings += found
            continue
        cut = min(y for ring in found if signed_area(ring) < 0 for _, y in ring)
        for begin, piece in ((0, own[:cut]), (cut, own[cut:])):
            rings += [[(x, y + begin) for x, y in ring] for ring in without_holes(piece)]
    return rings


def to_geojson(labels: NDArray[np.integer], names: Sequence[str], skip: Iterable[int] = ()) -> str:
    """A label image (H, W) as a GeoJSON ``FeatureCollection`` in pixels: a ``Polygon``, with its holes, a region.

    Args:
        labels: Classes.
        names: Of the classes, ``properties.class``.
        skip: Classes that are left out.
    """
    left_out = set(skip)
    classes = [int(k) for k in np.unique(labels) if int(k) < len(names) and int(k) not in left_out]
    features = [
        {
            "type": "Feature",
            "properties": {"class": names[region.k], "label": region.k, "area": region.area},
            "geometry": {
                "type": "Polygon",
                "coordinates": [[*ring, ring[0]] for ring in (region.outer, *region.holes)],
            },
        }
        for region in regions_of(labels, classes)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}) + "\n"


class CocoFile:
    """COCO's format for instances, filled image by image; :meth:`text` is the file.

    COCO's polygons have no holes: a region with holes is several polygons beside each other.

    Args:
        names: Of the classes; category k + 1 is class k, because 0 is no category to some tools.
        skip: Classes that are left out.
    """

    def __init__(self, names: Sequence[str], skip: Iterable[int] = ()) -> None:
        self.names, self.skip = names, set(skip)
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, file_name: str, labels: NDArray[np.integer]) -> None:
        """Add the regions of an image (H, W)."""
        height, width = labels.shape
        image = len(self.images) + 1
        self.images.append({"id": image, "file_name": file_name, "height": height, "width": width})
        for k in (int(k) for k in np.unique(labels)):
            if k >= len(self.names) or k in self.skip:
                continue
            parts, _ = label(labels == k)
            for part, (rows, columns) in enumerate(find_objects(parts), 1):
                mask = parts[rows, columns] == part
                top, left = rows.start, columns.start
                polygons = [[v for x, y in ring for v in (x + left, y + top)] for ring in without_holes(mask)]
                self.annotations.append(
                    {
                        "id": len(self.annotations) + 1,
                        "image_id": image,
                        "category_id": k + 1,
                        "segmentation": polygons,
                        "bbox": [left, top, mask.shape[1], mask.shape[0]],
                        "area": int(mask.sum()),
                        "iscrowd": 0,
                    }
                )

    def text(self) -> str:
        """The file's content."""
        kept = [(k, name) for k, name in enumerate(self.names) if k not in self.skip]
        categories = [{"id": k + 1, "name": name, "supercategory": ""} for k, name in kept]
        return json.dumps({"images": self.images, "annotations": self.annotations, "categories": categories}) + "\n"
