"""Images of crowds with their points and density maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.registry import DATASETS, FUNCTIONS
from numpy.typing import NDArray
from torch.utils.data import Dataset

from crowd_counting.annotations import Sample, clamp, find_samples, read_people
from crowd_counting.density import adaptive_sigma, density_map, limit_sigma, neighbour_distance
from crowd_counting.layouts import LAYOUTS, layout_notice, layout_samples
from crowd_counting.shanghaitech import find_shanghaitech, partial_notice
from crowd_counting.transforms import Augmentation, resize
from ean_core.errors import UserError
from ean_core.images import read_image

SPLITS = ("train", "val", "test")
Item = dict[str, Any]


@DATASETS.register_module()
class CrowdDataset(Dataset[Item]):
    """One split of ShanghaiTech or of one's own data.

    All annotations are read, and checked against the sizes of the images, when the data set is built; a line in the log
    says how many people there are and how many points lay outside their image.

    An item is a dict: ``inputs`` (uint8 RGB, (3, H, W)), ``points`` (float32 (N, 2), x and y in pixels of ``inputs``),
    ``img_path``, and, if ``density`` is given, the map ``density`` (float32 (1, ceil(H / stride), ceil(W / stride))),
    whose sum is N.

    Args:
        root: The data folder.
        part: ``"A"`` or ``"B"`` of ShanghaiTech, or a name of :data:`crowd_counting.layouts.LAYOUTS`; None: one's own
            data (`crowd_counting.annotations`).
        split: ``"train"``, ``"val"`` or ``"test"``.
        out_of_frame: What happens to points outside their image: ``"drop"`` or ``"clip"`` to the border.
        orientation: In which view the points were made, where an image's EXIF tag turns it: ``"upright"`` or
            ``"stored"``. Images are read upright either way.
        augment: Options of :class:`crowd_counting.transforms.Augmentation`; None: images as they are.
        density: ``dict(type="fixed", sigma=15)``, or ``dict(type="adaptive", k=3, beta=0.3, floor=1, cap=15)`` (see
            :func:`crowd_counting.density.adaptive_sigma`; distances are those of the whole image, so they do not change
            at the border of a crop, and they grow with the picture). None: items have no density map.
        longest: Images with a longer side than this, in pixels, are reduced to it before anything else, with their
            points; kernels and crops are then in pixels of the reduced image. None: none is.
        stride: Side of a block of the density map in pixels: the network's output stride.

    Raises:
        UserError: An option is wrong, or an annotation or image cannot be read.
        FileNotFoundError: There is no such data.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        part: str | None = None,
        split: str = "train",
        out_of_frame: str = "drop",
        orientation: str = "upright",
        augment: dict[str, Any] | None = None,
        density: dict[str, Any] | None = None,
        longest: int | None = None,
        stride: int = 8,
    ) -> None:
        if longest is not None and longest < 1:
            raise UserError(f"longest, the limit of a side, must be at least 1 pixel, got {longest}")
        self.samples = find_split(root, part, split)
        self.stride, self.longest = stride, longest
        self.density = _kernel(density, stride)
        self.augment = None if augment is None else _augmentation(augment)
        self.points, outside = [], 0
        for sample in self.samples:
            points, count = read_people(sample, orientation, out_of_frame)
            self.points.append(points)
            outside += count
        self.metainfo: dict[str, Any] = {"part": part, "split": split}
        self._log(root, outside, {"drop": "dropped", "clip": "moved to the border"}[out_of_frame])

    @property
    def counts(self) -> NDArray[np.int64]:
        """The number of people in each image, shape (len,)."""
        return np.array([len(points) for points in self.points], np.int64)

    def _log(self, root: str | Path, outside: int, done: str) -> None:
        part, split = self.metainfo["part"], self.metainfo["split"]
        line = LAYOUTS[part].title if part in LAYOUTS else f"ShanghaiTech part {part}" if part else str(root)
        line += f", {split}: {len(self):,} images, {self.counts.sum():,} people"
        if outside:
            line += f", {outside:,} points outside their image {done}"
        if part in LAYOUTS:
            line += f"; {layout_notice(root, part)}"
        elif part and (notice := partial_notice(root, part, split)):
            line += f"; a partial copy, {notice}"
        if not part and split == "test" and self.samples == find_samples(root, "val"):
            line += "; these are the images of val, for want of a test list or folder"
        print_log(line, logger="current")

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Item:
        image, points = limit_size(read_image(self.samples[index].image), self.points[index], self.longest)
        kept, factor = np.arange(len(points)), 1.0
        distance = None
        if self.density is not None and self.density["type"] == "adaptive":
            distance = neighbour_distance(points, self.density["k"])
        if self.augment is not None:
            image, points, kept, factor = self.augment(image, points)
        item: Item = {
            "inputs": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "points": torch.from_numpy(points.copy()),
            "img_path": str(self.samples[index].image),
        }
        if self.density is not None:
            kernel = self.density
            sigma = kernel.get("sigma", 0.0)
            if distance is not None:
                sigma = limit_sigma(kernel["beta"] * factor * distance[kept], kernel["floor"], kernel["cap"])
            item["density"] = torch.from_numpy(density_map(points, image.shape[:2], self.stride, sigma))[None]
        return item


@FUNCTIONS.register_module(name="crowd_counting.collate")
def collate(items: Sequence[Item]) -> dict[str, Any]:
    """A batch: images (and density maps) stacked, points and paths as lists.

    Raises:
        UserError: The images are not of one size.
    """
    shapes = {tuple(item["inputs"].shape[1:]) for item in items}
    if len(shapes) > 1:
        sizes = ", ".join(f"{width}x{height}" for height, width in sorted(shapes))
        raise UserError(f"a batch of images of several sizes ({sizes}): set augment.crop, or use batches of one image")
    batch = {key: [item[key] for item in items] for key in items[0]}
    return {key: torch.stack(values) if key in ("inputs", "density") else values for key, values in batch.items()}


def find_split(root: str | Path, part: str | None, split: str) -> list[Sample]:
    """The images of one split of ShanghaiTech (``part`` "A" or "B"), a data set of ``LAYOUTS``, or one's own (None).

    Raises:
        UserError: There is no such split.
        FileNotFoundError: There is no such data.
    """
    if split not in SPLITS:
        raise UserError(f"split must be {', '.join(SPLITS[:-1])} or {SPLITS[-1]}, got {split!r}")
    if part in LAYOUTS:
        return layout_samples(root, part, split)
    return find_samples(root, split) if part is None else find_shanghaitech(root, part, split)


def limit_size(
    image: NDArray[np.uint8], points: NDArray[np.float32], longest: int | None
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """An image (H, W, 3) and its points with no side longer than ``longest`` pixels; in proportion, never enlarged."""
    height, width = image.shape[:2]
    factor = 1.0 if longest is None else min(1.0, longest / max(height, width))
    if factor == 1:
        return image, points
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    scaled = points * np.array([size[1] / width, size[0] / height], np.float32)
    return resize(image, size), clamp(scaled, size[1], size[0])


def _augmentation(options: dict[str, Any]) -> Augmentation:
    try:
        return Augmentation(**options)
    except TypeError as error:
        raise UserError(f"augment has an option that does not exist: {error}") from None


def _kernel(options: dict[str, Any] | None, stride: int) -> dict[str, Any] | None:
    """The options of the density map with all defaults, tried out on one point."""
    if options is None:
        return None
    defaults: dict[str, dict[str, Any]] = {
        "fixed": {"sigma": 15.0},
        "adaptive": {"k": 3, "beta": 0.3, "floor": 1.0, "cap": 15.0},
    }
    kind = options.get("type")
    if kind not in defaults:
        raise UserError(f"density.type must be 'fixed' or 'adaptive', got {kind!r}")
    known = defaults[kind]
    unknown = set(options) - {"type", *known}
    if unknown:
        raise UserError(f"density has no option '{min(unknown)}' for {kind!r}: {', '.join(known)}")
    values = {key: options.get(key, value) for key, value in known.items()}
    trial = np.zeros((1, 2))
    density_map(trial, (1, 1), stride, values["sigma"] if kind == "fixed" else adaptive_sigma(trial, **values))
    return {"type": kind, **values}
