"""The front of a search with several aims: against plain loops, and as files that every tool takes."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from ean_core.figures.pareto_front import pareto_front
from ean_core.files import read_json_lines
from ean_core.scheme import ConnectionScheme
from ean_core.search.front import non_dominated
from ean_core.search.loop import search
from ean_core.search.reward import build_reward
from ean_core.strategies.base import build_strategy
from ean_testing.synthetic import BLOCKS, evaluate

AIMS = [{"metric": "accuracy"}, {"metric": "connections", "direction": "down", "weight": 0.1}]


def surpasses(a: Sequence[float], b: Sequence[float]) -> bool:
    as_good, better = True, False
    for x, y in zip(a, b, strict=True):
        as_good &= x >= y
        better |= x > y
    return as_good and better


@pytest.mark.parametrize("aims", [1, 2, 3])
def test_non_dominated_as_two_loops_find_them(aims: int) -> None:
    draw = random.Random(aims)
    for size in (1, 2, 7, 40):
        rows = [[draw.randrange(6) for _ in range(aims)] for _ in range(size)]  # many ties and repetitions
        expected = [i for i in range(size) if not any(surpasses(other, rows[i]) for other in rows)]
        assert non_dominated(rows) == expected
        assert expected


def run(work_dir: Path, steps: int = 20, name: str = "genetic", **options: Any) -> dict[str, Any]:
    options = {"reward": build_reward(aims=AIMS), "draw": False, "attention": {"type": "SE"}} | options
    return search(build_strategy(name, BLOCKS, seed=3), evaluate, steps, 3, work_dir, **options)


def check(work_dir: Path) -> list[dict[str, Any]]:
    """That ``front.json`` is the front of the log; its points."""
    entries = [e for e in read_json_lines(work_dir / "search.jsonl") if not e["failed"]]
    table = {e["scheme"]: (e["accuracy"], -e["scheme"].count("1")) for e in entries}
    expected = {s for s, own in table.items() if not any(surpasses(other, own) for other in table.values())}
    front = json.loads((work_dir / "front.json").read_text())
    assert [aim["metric"] for aim in front["aims"]] == ["accuracy", "connections"]
    points = front["front"]
    assert {point["scheme"] for point in points} == expected
    assert len(points) == len(expected)
    for point in points:
        accuracy, connections = table[point["scheme"]]
        assert point["aims"] == {"accuracy": accuracy, "connections": -connections}
    accuracies = [point["aims"]["accuracy"] for point in points]
    assert accuracies == sorted(accuracies, reverse=True)
    files = [work_dir / point["file"] for point in points]
    assert sorted(files) == sorted((work_dir / "front").iterdir())
    for point, file in zip(points, files, strict=True):
        assert str(ConnectionScheme.parse(str(file), BLOCKS)) == point["scheme"]
        assert json.loads(file.read_text())["aims"] == point["aims"]
    return points


@pytest.mark.parametrize("name", ["genetic", "policy_gradient", "random"])
def test_any_strategy_has_a_front(tmp_path: Path, name: str) -> None:
    result = run(tmp_path, name=name)
    points = check(tmp_path)
    assert result == json.loads((tmp_path / "scheme.json").read_text())
    assert [p["scheme"] for p in points if p["picked"]] == [result["scheme"]]
    assert result["front"] == len(points) > 1
    assert result["reward"] == max(point["reward"] for point in points)
    one = json.loads((tmp_path / points[0]["file"]).read_text())
    assert set(one) - {"aims"} <= set(result)
    assert one["attention"] == {"type": "SE"}


def test_the_aims_and_not_the_reward_teach_the_genetic_strategy(tmp_path: Path) -> None:
    both = run(tmp_path / "aims", 40), run(tmp_path / "terms", 40, reward=build_reward(AIMS))
    logs = [read_json_lines(tmp_path / name / "search.jsonl") for name in ("aims", "terms")]
    assert [e["reward"] for e in logs[0][:18]] == [e["reward"] for e in logs[1][:18]]  # the first generation
    widths = [len({e["scheme"].count("1") for e in log[-30:]}) for log in logs]
    assert widths[0] > widths[1]  # a front against one optimum
    assert "front" not in both[1]
    assert not (tmp_path / "terms" / "front").exists()


def test_only_schemes_of_the_front_are_picked(tmp_path: Path) -> None:
    """By a reward that is not made of the aims: the one with the most connections is no point of the front."""
    reward = build_reward([{"metric": "connections"}], aims=AIMS)
    result = run(tmp_path, name="random", reward=reward)
    points = check(tmp_path)
    log = [e for e in read_json_lines(tmp_path / "search.jsonl") if not e["failed"]]
    assert result["reward"] == max(p["reward"] for p in points) < max(e["reward"] for e in log)
    assert result["scheme"] in {point["scheme"] for point in points}
    assert "is not" in result["because"]


def test_a_resumed_search_ends_with_the_same_front(tmp_path: Path) -> None:
    run(tmp_path / "whole", 20)
    run(tmp_path / "parts", 9)
    run(tmp_path / "parts", 20, resume=True)
    for path in sorted((tmp_path / "whole").rglob("*.json*")):
        assert path.read_bytes() == (tmp_path / "parts" / path.relative_to(tmp_path / "whole")).read_bytes()
    check(tmp_path / "parts")


def test_a_new_search_keeps_the_old_front_aside(tmp_path: Path) -> None:
    run(tmp_path, 4)
    names = ("front.json", *(f"front/{p.name}" for p in (tmp_path / "front").iterdir()))
    before = {name: (tmp_path / name).read_bytes() for name in names}
    run(tmp_path, 4, "random", reward=None)
    assert all((tmp_path / "previous" / name).read_bytes() == text for name, text in before.items())
    assert not (tmp_path / "front").exists()
    assert not (tmp_path / "front.json").exists()


def test_aims_changed(tmp_path: Path) -> None:
    run(tmp_path, 2)
    with pytest.raises(ValueError, match="reward changed"):
        run(tmp_path, 3, resume=True, reward=build_reward(AIMS))


def drawn(figure: Figure, panel: int = 0) -> dict[str, list[tuple[float, float]]]:
    lines = figure.axes[panel].get_lines()
    return {str(line.get_label()): list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in lines}


def test_the_picture_shows_all_schemes_the_front_and_the_pick() -> None:
    aims = [{"metric": "accuracy", "direction": "up"}, {"metric": "latency", "direction": "down"}]
    seen = [[50.0, 3.0], [52.0, 8.0], [49.0, 9.0]]
    points = [{"aims": {"accuracy": a, "latency": t}, "picked": t == 3} for a, t in (seen[1], seen[0])]
    figure = pareto_front(seen, points, aims)
    assert drawn(figure) == {
        "all schemes": [(3.0, 50.0), (8.0, 52.0), (9.0, 49.0)],
        "front": [(3.0, 50.0), (8.0, 52.0)],
        "scheme.json": [(3.0, 50.0)],
    }
    axes = figure.axes[0]
    assert (axes.get_ylabel(), "less is better" in axes.get_xlabel()) == ("accuracy, % (more is better)", True)
    assert [(text.get_text(), text.xy) for text in axes.texts] == [("1", (8, 52)), ("2", (3, 50))]  # type: ignore[attr-defined]


def test_three_aims_are_three_panels(tmp_path: Path) -> None:
    aims = [*AIMS, {"metric": "sparsity"}]
    run(tmp_path, 6, reward=build_reward(aims=aims), draw=True)
    assert (tmp_path / "front.png").stat().st_size > 1000
    names = [{"metric": aim["metric"], "direction": str(aim.get("direction", "up"))} for aim in aims]
    points = json.loads((tmp_path / "front.json").read_text())["front"]
    figure = pareto_front([[1.0, 2.0, 3.0]], points, [{str(k): str(v) for k, v in n.items()} for n in names])
    assert [len(drawn(figure, i)["front"]) for i in range(3)] == [len(points)] * 3
