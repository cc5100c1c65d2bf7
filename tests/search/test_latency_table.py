"""The additive model: exact where latencies are sums, a least-squares fit where they are not, measured once."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ean_core.errors import UserError
from ean_core.scheme import ConnectionScheme
from ean_core.search.latency_table import LatencyTable, find_table, measure

BLOCKS = (2, 3)
OWN = [3.0, 1.0, 0.5, 2.0, 0.0]  # percent of a pass without attention, which takes 40 ms


def additive(schemes: Sequence[ConnectionScheme]) -> list[float]:
    return [0.04 * (1 + sum(v for v, bit in zip(OWN, s, strict=True) if bit) / 100) for s in schemes]


def test_sums_are_found_again() -> None:
    found = measure(additive, BLOCKS)
    assert [v for stage in found["increments"] for v in stage] == pytest.approx(OWN)
    assert [len(stage) for stage in found["increments"]] == [2, 3]
    assert found["none_ms"] == pytest.approx(40)
    assert found["agreement"]["mean_absolute_difference"] == pytest.approx(0, abs=1e-9)
    assert found["agreement"]["pearson"] == pytest.approx(1)


def test_other_latencies_are_fitted_by_least_squares_and_the_difference_is_told() -> None:
    def seconds(schemes: Sequence[ConnectionScheme]) -> list[float]:
        """A stage's second connection costs half, as do all others behind it."""
        return [0.04 + sum(0.001 * (1 + 0.5 * (sum(stage) - 1)) for stage in s.stages if any(stage)) for s in schemes]

    found = measure(seconds, BLOCKS)
    rows = np.vstack([np.eye(5), np.ones(5)])
    cases = [ConnectionScheme.parse("".join(str(int(v)) for v in row), BLOCKS) for row in rows]
    measured = [100 * (t - 0.04) / 0.04 for t in seconds(cases)]
    expected = np.linalg.lstsq(rows, np.array(measured), rcond=None)[0]
    values = [v for stage in found["increments"] for v in stage]
    assert values == pytest.approx(expected.tolist())
    checks = found["agreement"]["schemes"]
    assert len(checks) > 3
    for check in checks:
        scheme = ConnectionScheme.parse(check["scheme"], BLOCKS)
        assert check["measured"] == pytest.approx(100 * (seconds([scheme])[0] / 0.04 - 1))
        assert check["predicted"] == pytest.approx(sum(v for v, bit in zip(values, scheme, strict=True) if bit))
    gaps = [abs(check["measured"] - check["predicted"]) for check in checks]
    assert found["agreement"]["mean_absolute_difference"] == pytest.approx(sum(gaps) / len(gaps))
    columns = np.array([[check["measured"], check["predicted"]] for check in checks]).T
    assert found["agreement"]["pearson"] == pytest.approx(np.corrcoef(columns)[0, 1])


def test_all_the_same() -> None:
    assert measure(lambda schemes: [0.01] * len(schemes), BLOCKS)["agreement"]["pearson"] is None
    assert measure(additive, (1,) * 5)["agreement"]["mean_absolute_difference"] < 1e-9
    assert len(measure(lambda schemes: [0.01 + 0.01 * sum(s) for s in schemes], (1,))["agreement"]["schemes"]) == 1


class Fake:
    """An evaluator, as far as a table asks."""

    def __init__(self, repeats: int = 3, data: str = "a") -> None:
        self.latency_repeats, self.data, self.calls = repeats, data, 0

    def seconds(self, schemes: Sequence[ConnectionScheme]) -> list[float]:
        self.calls += 1
        return additive(schemes)

    def settings(self) -> dict[str, Any]:
        return {"data": self.data, "latency_repeats": self.latency_repeats}


def test_a_table_is_measured_once_for_what_it_belongs_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "latency_table.json"
    first, again, other = Fake(), Fake(), Fake(data="b")
    table = find_table(first, BLOCKS, path, "abc")
    assert "points off the sums of their blocks on average, Pearson's r 1.000" in capsys.readouterr().out
    written = path.read_bytes()
    assert find_table(again, BLOCKS, path, "abc") == table
    assert (first.calls, again.calls, path.read_bytes()) == (2, 0, written)
    find_table(other, BLOCKS, path, "abc")
    find_table(other, BLOCKS, path, "abd")
    assert other.calls == 4
    assert len(json.loads(path.read_text())) == 3
    assert find_table(again, BLOCKS, path, "abc") == table  # what another search has added leaves it
    assert again.calls == 0
    assert table(ConnectionScheme.parse("10-010", BLOCKS)) == pytest.approx(5)
    assert LatencyTable(table.increments) == table


def test_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "latency_table.json"
    with pytest.raises(UserError, match=r"needs search\.latency_repeats"):
        find_table(Fake(0), BLOCKS, path, "abc")
    find_table(Fake(), BLOCKS, path, "abc")
    key = next(iter(json.loads(path.read_text())))
    for text in ("[]", json.dumps({key: {}}), json.dumps({key: {"increments": [[1.0]]}})):
        path.write_text(text)
        with pytest.raises(UserError, match="remove it"):
            find_table(Fake(), BLOCKS, path, "abc")
