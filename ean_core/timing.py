"""Eq. 9, the relative inference time increment, measured so that a busy or throttling machine does not decide it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Ratio:
    """The distribution of a time's ratio to another, over the rounds in which both were measured.

    Attributes:
        median: The median.
        low: The first quartile.
        high: The third quartile.
    """

    median: float
    low: float
    high: float

    @property
    def increment(self) -> float:
        """Eq. 9, ``(t - t0) / t0``, in percent."""
        return 100 * (self.median - 1)


def interleave(
    functions: Mapping[str, Callable[[], Any]],
    repeats: int,
    warmup: int = 2,
    synchronize: Callable[[], Any] | None = None,
) -> dict[str, list[float]]:
    """Seconds of every call, the functions called in turn, so that what slows the machine down slows all of them.

    Every second round goes through the functions backwards: none always follows the same other one.

    Args:
        functions: What to time, by name.
        repeats: Rounds that count.
        warmup: Rounds before them.
        synchronize: Waits for the device, e.g. ``torch.cuda.synchronize``.
    """
    wait = synchronize or (lambda: None)
    times: dict[str, list[float]] = {name: [] for name in functions}
    for i in range(warmup + repeats):
        for name in list(functions) if i % 2 == 0 else reversed(list(functions)):
            wait()
            start = time.perf_counter()
            functions[name]()
            wait()
            seconds = time.perf_counter() - start
            if i >= warmup:
                times[name].append(seconds)
    return times


def ratio(times: Sequence[float], reference: Sequence[float]) -> Ratio:
    """Median and quartiles of the ratios of two functions' times, paired by rounds."""
    ratios = [a / b for a, b in zip(times, reference, strict=True)]
    if len(ratios) < 2:
        return Ratio(*3 * ratios)
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Ratio(median, low, high)


def synchronizer(device: torch.device) -> Callable[[], Any]:
    """What waits for a device's work; nothing to wait for on a CPU."""
    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)
