"""Density maps from points: time a person against a filter over the whole image for each, and time for ShanghaiTech.

The baseline is what the Matlab and Python scripts of the field do: for every head a ``scipy.ndimage.gaussian_filter``
over an image of zeros with a one; here divided by its sum, so that it loses nobody at the border either, and summed
into blocks of the stride. Both run on one core, alternately; a figure is the median over the rounds, beside the lowest
and the highest.

The whole of ShanghaiTech is simulated, with its numbers of images and people and its sizes: 482 images of part A with
241,677 people and adaptive kernels (neighbour search included), 716 of part B with 88,488 and a sigma of 15.
``--root`` measures a real copy too. Reading files is not counted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy is imported

import numpy as np
import scipy
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter

from crowd_counting.annotations import keep_inside
from crowd_counting.dataset import image_size
from crowd_counting.density import adaptive_sigma, density_map
from crowd_counting.points import read_points
from crowd_counting.shanghaitech import PARTS, find_part, list_images

Floats = NDArray[np.floating]
Scene = tuple[Floats, tuple[int, int]]  # points (N, 2), and the height and width of their image
PEOPLE = {"A": 241_677, "B": 88_488}


def filter_each(points: Floats, shape: tuple[int, int], stride: int, sigmas: Floats) -> Floats:
    """The baseline: a filter over the whole image for every point."""
    height, width = shape
    density = np.zeros(shape)
    for (x, y), sigma in zip(points, sigmas, strict=True):
        one = np.zeros(shape)
        one[min(int(y), height - 1), min(int(x), width - 1)] = 1
        blurred = gaussian_filter(one, sigma, mode="constant", truncate=4)
        density += blurred / blurred.sum()
    return np.add.reduceat(np.add.reduceat(density, range(0, height, stride), 0), range(0, width, stride), 1)


def simulate(part: str, rng: np.random.Generator) -> list[Scene]:
    """Points in clusters, in images with the sizes and the number of people of a part of ShanghaiTech."""
    images, fewest, most = (482, 33, 3138) if part == "A" else (716, 9, 576)
    counts = np.clip(rng.lognormal(0, 0.8, images), 0.05, 6)
    counts = np.clip(counts / counts.sum() * PEOPLE[part], fewest, most)
    counts = np.round(counts * PEOPLE[part] / counts.sum()).astype(int)
    counts[-1] += PEOPLE[part] - counts.sum()
    scenes: list[Scene] = []
    for count in counts:
        shape = (768, 1024) if part == "B" else (int(rng.integers(182, 1025)), int(rng.integers(293, 1025)))
        centres = rng.uniform(0, 1, (8, 2))[rng.integers(8, size=count)]
        scenes.append((np.clip(rng.normal(centres, 0.15), 0, 1) * (shape[1], shape[0]), shape))
    return scenes


def read(root: str, part: str) -> list[Scene]:
    """All images of a part on disk; none where the part is not there."""
    folder = find_part(root, part)
    scenes: list[Scene] = []
    for sample in [s for split in ("train", "test") for s in list_images(folder, split)] if folder else []:
        width, height = image_size(sample.image)
        scenes.append((keep_inside(read_points(sample.annotation), width, height)[0], (height, width)))
    return scenes


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def all_maps(scenes: Sequence[Scene], part: str) -> None:
    """The maps of a part at stride 8, as training makes them."""
    for points, shape in scenes:
        total = density_map(points, shape, 8, adaptive_sigma(points) if part == "A" else 15.0).sum(dtype=np.float64)
        if abs(total - len(points)) > 1e-6 * len(points):
            raise RuntimeError(f"a map of {len(points)} people sums to {total}")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="folder with part_A_final or part_B_final")
    parser.add_argument("--people", type=int, default=400, help="in the image that is compared")
    parser.add_argument("--filtered", type=int, default=20, help="people of it that the baseline does in a round")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args(argv)
    console, rng, shape = Console(width=110), np.random.default_rng(0), (768, 1024)
    console.print(f"one core, {args.rounds} rounds, NumPy {np.__version__}, SciPy {scipy.__version__}")

    points = rng.uniform(0, 1, (args.people, 2)) * (shape[1], shape[0])
    kernels = {"sigma 15": np.full(args.people, 15.0), "adaptive": adaptive_sigma(points)}
    few = slice(args.filtered)
    table = Table("kernels, stride", "ms a person: filter", "map", "lowest", "highest", "times faster", "difference")
    for name, sigmas in kernels.items():
        for stride in (8, 1):
            slow: list[float] = []
            fast: list[float] = []
            for number in range(args.rounds + 1):
                a = seconds(lambda k=stride, s=sigmas: filter_each(points[few], shape, k, s[few])) / args.filtered
                b = seconds(lambda k=stride, s=sigmas: density_map(points, shape, k, s)) / args.people
                if number:  # the first round warms up
                    slow.append(1000 * a)
                    fast.append(1000 * b)
            expected = filter_each(points[few], shape, stride, sigmas[few])
            error = np.abs(density_map(points[few], shape, stride, sigmas[few]) - expected).max()
            ratio = statistics.median(slow) / statistics.median(fast)
            figures = (f"{f(values):.4f}" for f, values in ((statistics.median, fast), (min, fast), (max, fast)))
            row = (f"{name}, {stride}", f"{statistics.median(slow):.2f}", *figures, f"{ratio:,.0f}")
            table.add_row(*row, f"{error / expected.max():.0e} of the peak")
    console.print(f"one image of {shape[1]}x{shape[0]} with {args.people} people")
    console.print(table)

    table = Table("ShanghaiTech", "images", "people", "seconds", "lowest", "highest")
    sets = {"simulated": {part: simulate(part, rng) for part in PARTS}}
    if args.root:
        sets[args.root] = {part: scenes for part in PARTS if (scenes := read(args.root, part))}
    for name, parts in sets.items():
        rounds = []
        for number in range(args.rounds + 1):
            spent = sum(seconds(lambda s=scenes, p=part: all_maps(s, p)) for part, scenes in parts.items())
            if number:
                rounds.append(spent)
        scenes = [scene for part in parts.values() for scene in part]
        people = sum(len(points) for points, _ in scenes)
        figures = (f"{f(rounds):.2f}" for f in (statistics.median, min, max))
        table.add_row(name, f"{len(scenes):,}", f"{people:,}", *figures)
    console.print(table)


if __name__ == "__main__":
    main()
