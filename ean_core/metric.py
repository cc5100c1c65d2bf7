"""Measures of predictions: maths that add up over a data set, and their place in MMEngine's evaluators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.evaluator import BaseMetric


@dataclass(frozen=True)
class Metric:
    """A measure that adds up over batches.

    Attributes:
        count: Predictions and targets of a batch -> a tensor to be summed, e.g. pixels by class.
        summarise: The sum over all batches -> values by name, e.g. ``{"mIoU": 71.3}``.
    """

    count: Callable[[Any, Any], torch.Tensor]
    summarise: Callable[[torch.Tensor], dict[str, float]]


ACCURACY = Metric(
    count=lambda logits, targets: torch.stack(
        [(logits.argmax(1) == targets).sum(), torch.as_tensor(targets.numel(), device=targets.device)]
    ),
    summarise=lambda total: {"accuracy": 100 * int(total[0]) / int(total[1])},
)
"""Top-1 accuracy in percent of logits (N, K, ...) and targets (N, ...)."""


class SampleMetric(BaseMetric):
    """Base of the applications' metrics for MMEngine's evaluators: its results are notes on single samples.

    MMEngine gathers them from all ranks and drops those of samples that a distributed sampler has repeated. The maths
    are those of a :class:`Metric`, so that a search and a validation report the same values.

    Attributes:
        tables: After an evaluation, what belongs into the record of a test besides the metrics: rows by title.
    """

    default_prefix = ""

    def __init__(self) -> None:
        super().__init__(prefix="")
        self.tables: dict[str, Mapping[str, Mapping[str, Any]]] = {}
