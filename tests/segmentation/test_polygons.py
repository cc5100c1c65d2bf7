"""Polygons of label images, rasterised again by others: Matplotlib's paths, and counting crossings in plain loops."""

import json

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from segmentation.polygons import CocoFile, regions_of, signed_area, to_geojson

Labels = NDArray[np.uint8]
NAMES = ("background", "cat", "dog")
PICTURES = {
    "ring": ["11111", "10001", "10201", "10001", "11111"],
    "corners": ["1010", "0101", "1010", "0101"],
    "touching": ["1110", "1010", "1101", "0111"],  # a hole that meets the outside in a corner
    "two holes": ["1111111", "1011101", "1111111"],
    "hole in hole": ["1111111", "1000001", "1011101", "1010101", "1011101", "1000001", "1111111"],
    "one": ["2"],
}


def labels_of(lines: list[str]) -> Labels:
    return np.array([[int(c) for c in line] for line in lines], np.uint8)


def noise(seed: int) -> Labels:
    return np.random.default_rng(seed).integers(0, 3, (13, 17), dtype=np.uint8)


ALL = [labels_of(lines) for lines in PICTURES.values()] + [noise(seed) for seed in range(4)]


def by_crossings(rings: list[list[list[int]]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Even-odd rule: from a pixel's centre to the right, the sides of the rings that are crossed."""
    mask = np.zeros(shape, bool)
    for y in range(shape[0]):
        for x in range(shape[1]):
            crossed = 0
            for ring in rings:
                for (ax, ay), (bx, by) in zip(ring, [*ring[1:], ring[0]], strict=True):
                    if ax == bx and min(ay, by) < y + 0.5 < max(ay, by) and ax > x + 0.5:
                        crossed += 1
            mask[y, x] = crossed % 2
    return mask


def by_matplotlib(ring: list[list[int]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    ys, xs = np.mgrid[0 : shape[0], 0 : shape[1]] + 0.5
    inside: NDArray[np.bool_] = Outline([*ring, ring[0]], closed=True).contains_points(np.c_[xs.ravel(), ys.ravel()])
    return inside.reshape(shape)


@pytest.mark.parametrize("labels", ALL, ids=[*PICTURES, "0", "1", "2", "3"])
def test_geojson_rasterised_again(labels: Labels) -> None:
    found = json.loads(to_geojson(labels, NAMES))
    assert found["type"] == "FeatureCollection"
    again = np.full(labels.shape, 255, np.uint8)
    for feature in found["features"]:
        rings = feature["geometry"]["coordinates"]
        assert all(ring[0] == ring[-1] for ring in rings)
        k = feature["properties"]["label"]
        assert NAMES[k] == feature["properties"]["class"]
        mask = by_crossings([ring[:-1] for ring in rings], labels.shape)
        assert mask.sum() == feature["properties"]["area"] == sum(signed_area(ring[:-1]) for ring in rings)
        assert (again[mask] == 255).all()
        other = np.logical_xor.reduce([by_matplotlib(ring[:-1], labels.shape) for ring in rings])
        assert np.array_equal(mask, other)
        again[mask] = k
    assert np.array_equal(again, labels)


@pytest.mark.parametrize("labels", ALL, ids=[*PICTURES, "0", "1", "2", "3"])
def test_coco_rasterised_again(labels: Labels) -> None:
    coco = CocoFile(NAMES, skip=[0])
    coco.add("other.jpg", np.zeros((2, 2), np.uint8))
    coco.add("a.jpg", labels)
    found = json.loads(coco.text())
    assert [category["name"] for category in found["categories"]] == ["cat", "dog"]
    assert found["images"][1] == {"id": 2, "file_name": "a.jpg", "height": labels.shape[0], "width": labels.shape[1]}
    again = np.zeros_like(labels)
    for annotation in found["annotations"]:
        assert annotation["image_id"] == 2
        mask = np.zeros(labels.shape, bool)
        for polygon in annotation["segmentation"]:
            assert len(polygon) >= 8
            piece = by_matplotlib(np.reshape(polygon, (-1, 2)).tolist(), labels.shape)
            assert not (piece & mask).any()
            mask |= piece
        ys, xs = np.nonzero(mask)
        assert annotation["bbox"] == [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
        assert annotation["area"] == mask.sum()
        assert not again[mask].any()
        again[mask] = annotation["category_id"] - 1
    assert np.array_equal(again, labels)


def test_corners_only() -> None:
    """A rectangle has four corners however long its sides are, and a region keeps its class and area."""
    region = regions_of(np.ones((5, 9), np.uint8), [1])
    assert [(r.k, sorted(r.outer), r.holes, r.area) for r in region] == [
        (1, [(0, 0), (0, 5), (9, 0), (9, 5)], [], 45),
    ]
    assert json.loads(to_geojson(np.zeros((3, 3), np.uint8), NAMES, skip=[0]))["features"] == []
