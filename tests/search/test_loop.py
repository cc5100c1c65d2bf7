"""The loop on a synthetic reward: log, cache, refusal, kills."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from ean_core.checkpoint import read_checkpoint
from ean_core.files import read_json_lines
from ean_core.scheme import ConnectionScheme
from ean_core.search.log import SearchLog
from ean_core.search.loop import search
from ean_core.search.reward import Reward, build_reward
from ean_core.strategies.base import build_strategy
from ean_testing.fresh import CONTEXT
from ean_testing.synthetic import BLOCKS, OPTIMUM, accuracy, begin_or_resume, evaluate


class Counting:
    """An evaluator that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[ConnectionScheme] = []

    def __call__(self, schemes: list[ConnectionScheme]) -> list[dict[str, float]]:
        self.asked += schemes
        return evaluate(schemes)


def run(work_dir: Path, steps: int = 10, name: str = "policy_gradient", **options: Any) -> dict[str, Any]:
    options = {"evaluate": evaluate, "per_step": 3, "draw": False} | options
    return search(build_strategy(name, BLOCKS, seed=3), steps=steps, work_dir=work_dir, **options)


def test_log_state_and_scheme_file(tmp_path: Path) -> None:
    counting = Counting()
    attention = {"type": "SE", "reduction": 16}
    result = run(tmp_path, 40, evaluate=counting, attention=attention, checkpoint="abc", settings={"images": 10})
    entries = read_json_lines(tmp_path / "search.jsonl")
    sampled = [e for e in entries if "final" not in e]
    assert [(e["step"], e["index"]) for e in sampled] == [(s, i) for s in range(1, 41) for i in range(3)]
    assert len(counting.asked) == len(set(counting.asked)) == len({e["scheme"] for e in entries})  # never twice
    assert sum(e["cached"] for e in entries) == len(entries) - len(counting.asked) == result["cache_hits"] > 0
    for entry in entries:
        scheme = ConnectionScheme.parse(entry["scheme"], BLOCKS)
        if not entry["failed"]:
            assert entry["accuracy"] == accuracy(scheme)
            assert entry["reward"] == Reward()(scheme, {"accuracy": accuracy(scheme)})
            assert entry["sparsity"] == scheme.sparsity
    assert set(sampled[0]["strategy"]) == {"p", "curiosity"}

    assert read_checkpoint(tmp_path / "search_state.pth")["step"] == 40
    written = json.loads((tmp_path / "scheme.json").read_text())
    assert written == result
    assert ConnectionScheme.parse(str(tmp_path / "scheme.json"), BLOCKS) == OPTIMUM
    assert written["blocks"] == list(BLOCKS)
    assert written["attention"] == attention
    assert written["strategy"] == {"type": "policy_gradient", "seed": 3}
    assert (written["seed"], written["checkpoint"]) == (3, "abc")
    assert written["accuracy"] == accuracy(OPTIMUM)
    assert written["density"] == OPTIMUM.density
    assert {"most_probable", "best_seen"} <= set(written)
    assert written["reward"] == max(written[k]["reward"] for k in ("most_probable", "best_seen"))


@pytest.mark.parametrize("name", ["random", "hsp", "enas", "darts"])
def test_any_strategy(tmp_path: Path, name: str) -> None:
    result = run(tmp_path, 8, name)
    best = max(e["reward"] for e in read_json_lines(tmp_path / "search.jsonl") if not e["failed"])
    assert result["reward"] == best
    assert (name in ("random", "hsp")) <= (result["picked"] == "best seen")


def test_failed_candidates_are_logged_and_the_search_goes_on(tmp_path: Path) -> None:
    run(tmp_path)
    failed = [e for e in read_json_lines(tmp_path / "search.jsonl") if e["failed"]]
    assert failed
    assert all(e["reward"] is None and e["accuracy"] is None for e in failed)


def test_all_failed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no candidate had a finite reward"):
        run(tmp_path, 3, evaluate=lambda schemes: [{"accuracy": float("inf")} for _ in schemes])


def test_resume_with_more_steps_is_a_longer_search(tmp_path: Path) -> None:
    run(tmp_path / "whole", 16)
    run(tmp_path / "parts", 7)
    counting = Counting()
    run(tmp_path / "parts", 16, resume=True, evaluate=counting)
    for name in ("search.jsonl", "scheme.json"):
        assert (tmp_path / "parts" / name).read_text() == (tmp_path / "whole" / name).read_text()
    first = {e["scheme"] for e in read_json_lines(tmp_path / "parts" / "search.jsonl") if e["step"] <= 7}
    assert not first & set(map(str, counting.asked))


def test_resuming_a_finished_search_changes_nothing(tmp_path: Path) -> None:
    result, before = run(tmp_path, 10), (tmp_path / "search.jsonl").read_text()
    counting = Counting()
    assert run(tmp_path, 10, resume=True, evaluate=counting) == result
    assert (tmp_path / "search.jsonl").read_text() == before
    assert counting.asked == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"checkpoint": "other"}, r'checkpoint changed \(checkpoint was "abc", is "other"\)'),
        ({"settings": {"images": 11}}, "settings changed"),
        ({"reward": build_reward([{"metric": "accuracy"}])}, "reward changed"),
        ({"per_step": 4}, "per_step changed"),
        ({"name": "random"}, "strategy changed"),
        ({"checkpoint": "x", "settings": {}}, "checkpoint and settings changed"),
    ],
)
def test_refuses_to_resume_another_search(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    same = {"checkpoint": "abc", "settings": {"images": 10}}
    run(tmp_path, 2, **same)
    with pytest.raises(ValueError, match=words):
        run(tmp_path, 4, resume=True, **(same | changed))


def test_a_new_search_keeps_the_old_one_aside(tmp_path: Path) -> None:
    run(tmp_path, 2)
    old = (tmp_path / "search.jsonl").read_text()
    run(tmp_path, 3, "random")
    assert (tmp_path / "previous" / "search.jsonl").read_text() == old
    assert len(read_json_lines(tmp_path / "search.jsonl")) == 9


def test_scores_of_another_search_are_used_only_under_the_same_key(tmp_path: Path) -> None:
    log = tmp_path / "all" / "search.jsonl"
    run(tmp_path / "all", 10, "hsp", checkpoint="abc")
    known = {e["scheme"] for e in read_json_lines(log)}
    for checkpoint, expected in (("abc", 0), ("abd", len(known))):
        counting = Counting()
        run(tmp_path / checkpoint, 10, "hsp", evaluate=counting, checkpoint=checkpoint, caches=[log])
        assert len(counting.asked) == expected
    assert read_json_lines(tmp_path / "abc" / "search.jsonl") == read_json_lines(log)


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    run(tmp_path, 2, "random")
    path = tmp_path / "search.jsonl"
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    for cut in (1, 2, 30):
        path.write_text(whole[:-cut])
        assert len(read_json_lines(path)) == len(lines) - 1
    SearchLog(path, key=read_json_lines(path)[0]["key"], step=2)
    assert path.read_text() == "".join(lines[: len(lines) - 1])


def test_nonsense(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one step"):
        run(tmp_path, 0)


def test_an_unfinished_step_is_taken_up_wherever_its_lines_end(tmp_path: Path) -> None:
    run(tmp_path, 6)
    state = (tmp_path / "search_state.pth").read_bytes()
    run(tmp_path, 8, resume=True)
    whole = (tmp_path / "search.jsonl").read_bytes()
    told = whole.index(b'{"step": 7')
    for size in (told, told + 1, told + 400, told + 800, len(whole) - 1, len(whole)):
        (tmp_path / "search_state.pth").write_bytes(state)
        (tmp_path / "search.jsonl").write_bytes(whole[:size])
        counting = Counting()
        run(tmp_path, 8, resume=True, evaluate=counting)
        assert (tmp_path / "search.jsonl").read_bytes() == whole
        assert not set(map(str, counting.asked)) & {
            json.loads(line)["scheme"] for line in whole[:size].splitlines()[:-1]
        }


def test_a_log_that_lacks_what_the_strategy_knows(tmp_path: Path) -> None:
    run(tmp_path, 3)
    (tmp_path / "search.jsonl").unlink()
    with pytest.raises(ValueError, match=r"has \d lines of the 3 steps that are done, instead of"):
        run(tmp_path, 4, resume=True)


def test_killed_at_several_points_a_search_ends_with_the_same_log(tmp_path: Path) -> None:
    run(tmp_path / "whole", 25)
    whole = (tmp_path / "whole" / "search.jsonl").read_bytes()
    log = tmp_path / "killed" / "search.jsonl"
    for part in (0.01, 0.35, 0.7):  # of the log
        process = CONTEXT.Process(target=begin_or_resume, args=(log.parent, 25))
        process.start()
        while process.is_alive() and (not log.is_file() or log.stat().st_size < part * len(whole)):
            time.sleep(0.001)
        process.kill()
        process.join()
        assert process.exitcode in (-signal.SIGKILL, 0)
        assert whole.startswith(log.read_bytes())
    run(log.parent, 25, resume=True)
    for file in ("search.jsonl", "scheme.json"):
        assert (log.parent / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
