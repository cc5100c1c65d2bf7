"""A search as an Optuna study: names, values, states; again, while it grows; and what cannot be."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from ean_core.search.log import read_log
from ean_core.search.loop import search
from ean_core.search.study import export_study, parameters
from ean_core.strategies.base import build_strategy
from ean_testing.synthetic import BLOCKS, evaluate


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searches") / "mine"
    search(build_strategy("random", BLOCKS, seed=3), evaluate, 6, 3, folder, draw=False, show=False)
    return folder / "search.jsonl"


def address(folder: Path) -> str:
    return f"sqlite:///{folder / 'search.db'}"


def loaded(folder: Path, name: str = "mine") -> Any:
    return optuna.load_study(study_name=name, storage=address(folder))


def test_names_by_stage_and_block() -> None:
    assert parameters("01-1") == {"stage1.block1": 0, "stage1.block2": 1, "stage2.block1": 1}


def test_a_trial_is_a_candidate(log: Path, tmp_path: Path) -> None:
    assert export_study(log, address(tmp_path)) == ("mine", 18, 18)
    study, entries = loaded(tmp_path), [entry for entry in read_log(log) if not entry.get("final")]
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    failed = [entry["failed"] for entry in entries]
    assert any(failed)
    assert [trial.state.name for trial in study.trials] == ["FAIL" if f else "COMPLETE" for f in failed]
    for trial, entry in zip(study.trials, entries, strict=True):
        assert trial.value == entry["reward"]
        assert "".join(map(str, trial.params.values())) == entry["scheme"].replace("-", "")
        assert trial.params == parameters(entry["scheme"])
        expected = {name: entry[name] for name in ("step", "index", "scheme", "sparsity", "cached", "accuracy")}
        assert trial.user_attrs == expected
        assert set(trial.distributions.values()) == {optuna.distributions.CategoricalDistribution([0, 1])}
    starts = [trial.datetime_start for trial in study.trials]
    assert starts == sorted(starts)
    assert study.best_value == max(entry["reward"] for entry in entries if not entry["failed"])


def test_optuna_tells_which_blocks_matter(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")

    def only_two_blocks(schemes: Any) -> list[dict[str, float]]:
        return [
            {"accuracy": 60 + 5.0 * scheme.bits[4] + 1.5 * scheme.bits[0] - 2 * scheme.sparsity} for scheme in schemes
        ]

    search(build_strategy("random", BLOCKS, 0), only_two_blocks, 14, 3, tmp_path / "mine", draw=False, show=False)
    export_study(tmp_path / "mine" / "search.jsonl", address(tmp_path))
    found = optuna.importance.get_param_importances(loaded(tmp_path))
    assert list(found)[:2] == ["stage2.block2", "stage1.block1"]


def test_exported_again_it_adds_what_is_new(log: Path, tmp_path: Path) -> None:
    grows = tmp_path / "mine" / "search.jsonl"
    grows.parent.mkdir()
    lines = [text for text in log.read_text().splitlines(keepends=True) if not json.loads(text).get("final")]
    counts = []
    for text in ("".join(lines[:7]) + lines[7][:20], "".join(lines[:7]), "".join(lines), "".join(lines)):
        grows.write_text(text)  # at first it is written to: half of a line
        counts.append(export_study(grows, address(tmp_path))[1:])
    assert counts == [(7, 7), (0, 7), (11, 18), (0, 18)]
    assert [trial.user_attrs["step"] for trial in loaded(tmp_path).trials] == [1 + i // 3 for i in range(18)]


def test_another_search_is_refused(log: Path, tmp_path: Path) -> None:
    other = tmp_path / "mine" / "search.jsonl"
    search(build_strategy("random", BLOCKS, seed=4), evaluate, 2, 3, other.parent, draw=False, show=False)
    export_study(log, address(tmp_path))
    with pytest.raises(ValueError, match="holds another search: choose another --name"):
        export_study(other, address(tmp_path))
    assert export_study(other, address(tmp_path), "theirs") == ("theirs", 6, 6)
    optuna.create_study(storage=address(tmp_path), study_name="minimised", direction="minimize")
    with pytest.raises(ValueError, match=r"'minimised' in .* holds another search"):
        export_study(log, address(tmp_path), "minimised")


def test_the_tool(tool: Callable, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool("export_study")([str(log.parent), address(tmp_path)])
    printed = capsys.readouterr().out
    assert "mine: 18 trials, 18 of them new" in printed
    assert f"optuna-dashboard {address(tmp_path)}" in printed


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ("search.db", "the storage 'search.db': "),
        ("sqlite:////nowhere/of/all/search.db", "unable to open database file"),
    ],
)
def test_a_storage_that_cannot_be_used(tool: Callable, log: Path, storage: str, words: str, capsys: Any) -> None:
    with pytest.raises(SystemExit, match="2"):
        tool("export_study")([str(log.parent), storage])
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_no_log_no_candidate_and_no_optuna(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"search.jsonl' does not exist: name the work directory"):
        export_study(tmp_path / "search.jsonl", address(tmp_path))
    (tmp_path / "search.jsonl").touch()
    with pytest.raises(ValueError, match="has no candidate yet"):
        export_study(tmp_path / "search.jsonl", address(tmp_path))
    assert not (tmp_path / "search.db").exists()
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"pip install 'ean\[search\]'"):
        export_study(log, address(tmp_path))
