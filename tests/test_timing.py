"""Ratios of times, on clocks that the tests wind."""

from collections.abc import Callable

import numpy as np
import pytest

from ean_core import timing
from ean_core.timing import Ratio, interleave, ratio


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """``clock(s)`` lets s seconds pass; the clock also slows down by 1 % with every second."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds * (1 + now[0] / 100)

    return advance


def test_calls_alternate_and_the_warm_up_does_not_count(clock: Callable[[float], None]) -> None:
    order: list[str] = []

    def call(name: str, first: float, later: float) -> Callable[[], None]:
        def run() -> None:
            clock(later if name in order else first)
            order.append(name)

        return run

    waits: list[int] = []
    calls = {"a": call("a", 50, 1), "b": call("b", 90, 2)}
    times = interleave(calls, 3, warmup=1, synchronize=lambda: waits.append(len(order)))
    assert order == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert [len(values) for values in times.values()] == [3, 3]
    assert len(waits) == 16  # before and after each call
    assert max(times["a"] + times["b"]) < 20
    assert ratio(times["b"], times["a"]).median == pytest.approx(2, rel=0.03)  # although the machine slows down


def test_ratios_are_paired() -> None:
    reference = [1.0, 10.0, 2.0, 5.0, 4.0]
    factors = [1.5, 1.1, 1.2, 1.3, 1.4]
    found = ratio([f * r for f, r in zip(factors, reference, strict=True)], reference)
    expected = np.quantile(factors, [0.5, 0.25, 0.75])
    assert (found.median, found.low, found.high) == pytest.approx(tuple(expected))
    assert found.increment == pytest.approx(30)
    assert ratio([3.0], [2.0]) == Ratio(1.5, 1.5, 1.5)
