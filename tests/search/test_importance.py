"""What each connection adds to the reward: against SciPy, a closed formula, and a reward whose effects are known."""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_ind

from ean_core.search.importance import block_effects


def line(scheme: str, reward: float | None, **more: Any) -> dict[str, Any]:
    return {"scheme": scheme, "reward": reward, "failed": reward is None, **more}


def test_difference_and_interval_are_those_of_welch() -> None:
    draw = np.random.default_rng(0)
    schemes = sorted({"".join(map(str, draw.integers(0, 2, 5))) for _ in range(20)})
    entries = [line(f"{s[:2]}-{s[2:]}", float(draw.normal(s.count("1")))) for s in schemes]
    for confidence in (0.95, 0.5):
        effects = block_effects(entries, confidence)
        assert len(effects) == 5
        for i, effect in enumerate(effects):
            a = [e["reward"] for e, s in zip(entries, schemes, strict=True) if s[i] == "1"]
            b = [e["reward"] for e, s in zip(entries, schemes, strict=True) if s[i] == "0"]
            interval = ttest_ind(a, b, equal_var=False).confidence_interval(confidence)
            assert effect.effect == pytest.approx(sum(a) / len(a) - sum(b) / len(b))
            assert effect[1:3] == pytest.approx((interval.low, interval.high))
            assert effect[3:] == (len(a), len(b))


def test_of_all_schemes_an_additive_reward_gives_its_weights() -> None:
    weights = (2.0, 0.0, -1.0, 0.5)
    entries = [
        line(f"{a}{b}-{c}{d}", sum(w * x for w, x in zip(weights, (a, b, c, d), strict=True)))
        for a, b, c, d in product((0, 1), repeat=4)
    ]
    effects = block_effects(entries)
    assert [effect.effect for effect in effects] == pytest.approx(weights)
    assert all(effect.low < weight < effect.high for effect, weight in zip(effects, weights, strict=True))


def test_a_scheme_counts_once_and_a_failed_one_not_at_all() -> None:
    entries = [line("1-1", 5.0), line("0-1", 1.0), line("0-0", 3.0), line("1-0", 6.0)]
    more = [*entries, *entries[:1] * 7, line("0-1", 1.0, final=True), line("1-0", None)]
    assert block_effects(more) == block_effects(entries)


def test_groups_without_an_interval() -> None:
    always, single = block_effects([line("1-1", 1.0), line("1-0", 2.0), line("1-0", 2.0)])
    assert math.isnan(always.effect)
    assert math.isnan(always.low)
    assert (always.connected, always.left_out) == (2, 0)
    assert single.effect == -1
    assert math.isnan(single.high)
    assert block_effects([line("1-1", None)]) == []
    equal = block_effects([line("11", 2.0), line("10", 2.0), line("01", 1.0), line("00", 1.0)])[0]
    assert equal[:3] == (1, 1, 1)  # no variance on either side: an interval of no width
