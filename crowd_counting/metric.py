"""Errors of counts: the maths as functions of arrays, then their state over a data set."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.registry import METRICS
from numpy.typing import NDArray

from crowd_counting.annotations import read_people
from crowd_counting.dataset import find_split
from crowd_counting.localisation import localisation, matches
from ean_core.metric import Metric, SampleMetric

Floats = NDArray[np.float64]
LEVELS = (0, 1, 2, 3)
QUARTERS = ("fewest people", "second quarter", "third quarter", "most people")


class Truth(NamedTuple):
    """The target of a batch in a search.

    Attributes:
        people: In each image, (N,).
        cells: Rows and columns of the images' density maps; what a map has beyond lies in the padding.
    """

    people: torch.Tensor
    cells: tuple[int, int]


class Row(NamedTuple):
    """What is known of one image.

    Attributes:
        image: Its path.
        people: Its number of points.
        predicted: Their predicted number.
        game: The summed absolute errors of its 4^L regions, L = 0..3.
        located: :func:`crowd_counting.localisation.matches` of it: points found, and right ones by distance.
    """

    image: str
    people: int
    predicted: float
    game: tuple[float, ...]
    located: tuple[int, ...]


def error_sums(people: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Sums over images that add up over batches: ``|c - p|``, its square, 1, ``|c - p| / p`` where ``p > 0``, 1 there.

    Args:
        people: True counts ``p``, (N,).
        counts: Predicted ones ``c``, (N,).

    Returns:
        float64 (5,).
    """
    truth = people.double()
    error, some = (counts.double() - truth).abs(), truth > 0
    relative = error[some] / truth[some]
    terms = (error, error.square(), torch.ones_like(error), relative, torch.ones_like(relative))
    return torch.stack([term.sum() for term in terms])


def errors(total: torch.Tensor) -> dict[str, float]:
    """MAE, MSE and NAE from the sums of :func:`error_sums`.

    ``MAE = mean |c - p|``. "MSE", as the field calls it, is the root ``sqrt(mean (c - p)^2)``. ``NAE = mean(|c - p| /
    p)``, over the images with anybody in them. NaN where there is no image, and where a prediction is NaN.
    """
    absolute, squared, images, relative, populated = total.tolist()
    return {
        "MAE": absolute / images if images else math.nan,
        "MSE (RMSE)": math.sqrt(squared / images) if images else math.nan,
        "NAE": relative / populated if populated else math.nan,
    }


def count_errors(people: Sequence[float], counts: Sequence[float]) -> dict[str, float]:
    """:func:`errors` of predicted counts against true ones."""
    return errors(error_sums(torch.tensor(people, dtype=torch.float64), torch.tensor(counts, dtype=torch.float64)))


def counts_of(density: torch.Tensor, truth: Truth) -> torch.Tensor:
    """The people in density maps (N, 1, h, w) without their padding, (N,)."""
    rows, columns = truth.cells
    return density[..., :rows, :columns].flatten(1).sum(1)


def count_loss(density: torch.Tensor, truth: Truth) -> torch.Tensor:
    """The mean absolute error of the counts, for strategies that differentiate (DARTS)."""
    return (counts_of(density, truth) - truth.people).abs().mean()


SEARCH_METRIC = Metric(
    count=lambda density, truth: error_sums(truth.people, counts_of(density.double(), truth)), summarise=errors
)


def grid_errors(density: Floats, points: Floats, size: tuple[int, int], stride: int, level: int) -> float:
    """The summed absolute errors of the counts of 4^L regions (Guerrero-Gomez-Olmedo et al., IbPRIA 2015).

    The image is cut into 2^L equal parts each way. A point belongs to the part that it lies in; the people of a cell of
    the density map that several parts meet are shared by area. Level 0 is the absolute error of the whole count.

    Args:
        density: People in each cell, (ceil(H / stride), ceil(W / stride)).
        points: (N, 2), x and y in pixels.
        size: H and W of the image in pixels.
        stride: Pixels a cell, each way.
        level: L.
    """
    parts = 2**level
    shares = [_shares(cells, length, stride, parts) for cells, length in zip(density.shape, size, strict=True)]
    predicted = shares[0] @ density @ shares[1].T  # (parts, parts)
    true = np.zeros((parts, parts))
    if len(points):
        place = (np.asarray(points)[:, ::-1] * parts / np.asarray(size)).astype(np.int64).clip(0, parts - 1)
        np.add.at(true, (place[:, 0], place[:, 1]), 1)
    return float(np.abs(predicted - true).sum())


def _shares(cells: int, length: int, stride: int, parts: int) -> Floats:
    """Which fraction of each cell's pixels lies in each of ``parts`` equal parts of a side, (parts, cells)."""
    edges = np.minimum(np.arange(cells + 1) * stride, length).astype(np.float64)
    cuts = np.arange(parts + 1) * length / parts
    overlap = np.minimum(cuts[1:, None], edges[None, 1:]) - np.maximum(cuts[:-1, None], edges[None, :-1])
    return overlap.clip(0) / (edges[1:] - edges[:-1])


def by_crowd_size(rows: Sequence[Row]) -> dict[str, dict[str, float | int | str | None]]:
    """MAE and MSE of four equally large groups of images, from the fewest people to the most."""
    ordered = sorted(rows, key=lambda row: (row.people, row.image))
    groups = np.array_split(np.arange(len(ordered)), 4)
    table: dict[str, dict[str, float | int | str | None]] = {}
    for name, group in zip(QUARTERS, groups, strict=True):
        people, counts = [ordered[i].people for i in group], [ordered[i].predicted for i in group]
        errors = count_errors(people, counts) if people else {"MAE": None, "MSE (RMSE)": None}
        span = f"{people[0]}-{people[-1]}" if people else "-"
        table[name] = {"images": len(people), "people": span, **{k: errors[k] for k in ("MAE", "MSE (RMSE)")}}
    return table


def to_csv(rows: Sequence[Row]) -> str:
    """One line an image: name, true and predicted count, error, GAME of each level; the worst first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "people", "count", "error", *(f"GAME{level}" for level in LEVELS)])
    for row in worst(rows):
        numbers = (row.predicted, row.predicted - row.people, *row.game)
        writer.writerow([row.image, row.people, *(f"{number:.2f}" for number in numbers)])
    return text.getvalue()


def worst(rows: Sequence[Row]) -> list[Row]:
    """The images in the order of their absolute errors, a NaN before the largest."""

    def error(row: Row) -> float:
        return math.inf if math.isnan(row.predicted) else abs(row.predicted - row.people)

    return sorted(rows, key=lambda row: (-error(row), row.image))


@METRICS.register_module()
class CrowdMetric(SampleMetric):
    """MAE, MSE (RMSE), NAE and GAME of a data set, beside MAE and MSE of always predicting the training images' mean.

    The ground truth is the number of points. A NaN in one prediction makes the errors NaN. Its tables are the means of
    GAME(0..3), ``by region``, :func:`by_crowd_size`, and :func:`crowd_counting.localisation.localisation`.

    Args:
        stride: Pixels a cell of the density maps, each way.
        baseline: ``dict(root=..., part=..., out_of_frame=..., orientation=...)``: the training images whose mean count
            is the constant prediction that "MAE of mean" and "RMSE of mean" are the errors of; ``None``, or where
            there are no training images: left out.

    Attributes:
        rows: After an evaluation, the :class:`Row` of every image.
    """

    def __init__(self, stride: int = 8, baseline: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.stride = stride
        self.baseline = dict(baseline) if baseline else None
        self.rows: list[Row] = []
        self._mean: float | None = None

    def process(self, data_batch: Mapping[str, Any], data_samples: Sequence[torch.Tensor]) -> None:
        """Note the errors of every image of a batch: ``data_samples`` are density maps (1, h, w)."""
        size = tuple(data_batch["inputs"].shape[-2:])
        for path, points, density in zip(data_batch["img_path"], data_batch["points"], data_samples, strict=True):
            cells, heads = density[0].double().cpu().numpy(), points.double().cpu().numpy()
            game = tuple(grid_errors(cells, heads, size, self.stride, level) for level in LEVELS)
            located = matches(cells, heads, self.stride)
            self.results.append(Row(path, len(heads), float(cells.sum()), game, located))

    def compute_metrics(self, results: list[Row]) -> dict[str, float]:
        """The errors over all images."""
        self.rows = [Row(*result) for result in results]
        people = [row.people for row in self.rows]
        metrics = count_errors(people, [row.predicted for row in self.rows])
        game = np.array([row.game for row in self.rows]).reshape(-1, len(LEVELS))
        means = {f"GAME{level}": float(game[:, level].mean()) if len(game) else math.nan for level in LEVELS}
        self.tables = {
            "by region": {"all": means},
            "by crowd size": by_crowd_size(self.rows),
            "localisation": localisation([row.located for row in self.rows], people),
        }
        mean = self.training_mean()
        if mean is not None:
            constant = count_errors(people, [mean] * len(people))
            metrics |= {"MAE of mean": constant["MAE"], "RMSE of mean": constant["MSE (RMSE)"]}
        return metrics

    def training_mean(self) -> float | None:
        """The mean number of people in a training image; ``None`` if it is not known."""
        if self._mean is None and self.baseline is not None:
            try:
                samples = find_split(self.baseline["root"], self.baseline["part"], "train")
            except FileNotFoundError:
                self.baseline = None
                return None
            words = self.baseline.get("orientation", "upright"), self.baseline["out_of_frame"]
            counts = [len(read_people(sample, *words)[0]) for sample in samples]
            self._mean = float(np.mean(counts))
        return self._mean
