"""The tab "Searches": what a log holds, while it grows, and searches side by side."""

import json
import os
import re
import shutil
import socket
from pathlib import Path

import pytest

from ean_core.demo.search_pictures import DRAW
from ean_core.demo.searches import Searches
from ean_core.errors import UserError
from ean_core.search.log import read_log
from ean_core.work_dir import running_in, working_in
from ean_testing.synthetic import BLOCKS
from ean_testing.web import Web, searched, serving


@pytest.fixture
def copies(work_dirs: Path, tmp_path: Path) -> Path:
    """The two searches, to be changed."""
    return shutil.copytree(work_dirs, tmp_path / "copies")


def test_the_best_so_far(web: Web, work_dirs: Path) -> None:
    entries = [e for e in read_log(work_dirs / "first" / "search.jsonl") if not e["failed"] and not e.get("final")]
    rewards = {entry["scheme"]: entry["reward"] for entry in entries}
    answer = web.get("/searches?name=first")
    line = r"<td>([\d.-]+)</td><td>[\d.]+</td><td>\d+ %</td><td>\d+</td>.*?>([01-]+)</a>"
    table = re.findall(line, answer.data.decode())
    expected = sorted(rewards.values(), reverse=True)[:10]
    assert [float(reward) for reward, _ in table] == [pytest.approx(value, abs=6e-4) for value in expected]
    assert all(rewards[scheme] == pytest.approx(float(reward), abs=6e-4) for reward, scheme in table)
    assert "search: step 6, 18 candidates" in answer.text
    assert "finished" in answer.text


def test_a_search_that_runs(copies: Path) -> None:
    path, log = copies / "first", copies / "first" / "search.jsonl"
    whole = log.read_text().splitlines(keepends=True)
    (path / "scheme.json").unlink()
    log.write_text("".join(whole[:4]))
    with serving({}, [copies]) as web:
        first = web.get("/searches?name=first")
        version = re.search(r"version=([^\"&]+&amp;drawn=[^\"&]+)\" hx-trigger", first.data.decode())
        assert version is not None
        query = version[1].replace("&amp;", "&")
        assert "not running" in first.text
        assert "4 candidates" in first.text
        assert web.get(f"/searches/live?name=first&version={query}").status == 204
        log.write_text("".join(whole[:9]) + whole[9][:20])  # the tenth line is being written
        with working_in(path):
            live = web.get(f"/searches/live?name=first&version={query}")
            assert live.status == 200
            assert "9 candidates" in live.text
            assert f"running: process {os.getpid()}" in live.text
        for kind in ("history", "schemes", "front"):
            answer = web.get(f"/searches/picture/{kind}?name=first")
            assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
        log.write_text("no line of a search\n")
        assert web.get("/searches/live?name=first").status == 400
        assert web.get("/searches?name=second").status == 200


def test_a_search_that_cannot_be_read_leaves_the_others(copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copies / "first" / "search.jsonl").write_text("no line of a search\n")
    with serving({}, [copies]) as web:
        for path in ("/searches", "/searches?name=first"):
            answer = web.get(path)
            assert answer.status == 400
            assert answer.data.count(b'role="alert"') == 1
            assert b"<option>second" in answer.data

        def refused(_: Searches) -> dict[str, Path]:
            raise PermissionError(13, "Permission denied", str(copies))

        monkeypatch.setattr(Searches, "find", refused)
        for path in ("/searches/live?name=first", "/searches"):
            answer = web.get(path)
            assert (answer.status, str(copies) in answer.text) == (400, False)  # the paths of this machine stay on it


def test_the_front_is_that_of_two_loops(work_dirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("ean_core.figures.pareto_front.pareto_front", lambda *args: seen.append(args))
    monkeypatch.setattr("ean_core.demo.searches.to_png", lambda figure, dpi: b"")
    Searches([work_dirs]).picture("first", "front")
    ((everything, points, aims, written),) = seen
    pairs = {tuple(pair) for pair in everything}
    best = {a for a in pairs if not any(b[0] >= a[0] and b[1] >= a[1] and b != a for b in pairs)}
    assert {(point["aims"]["accuracy"], point["aims"]["sparsity"]) for point in points} == best
    assert [aim["metric"] for aim in aims] == ["accuracy", "sparsity"]
    assert not written
    entries = [e for e in read_log(work_dirs / "first" / "search.jsonl") if not e["failed"] and not e.get("final")]
    top = max(entries, key=lambda entry: entry["reward"])
    assert [p["aims"]["accuracy"] for p in points if p["picked"]] in ([], [top["accuracy"]])


def test_the_curves_of_a_comparison(work_dirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("ean_core.figures.strategy_comparison.strategy_comparison", lambda *args: seen.append(args))
    monkeypatch.setattr("ean_core.demo.searches.to_png", lambda figure, dpi: b"")
    Searches([work_dirs]).comparison(["first", "second"])
    ((curves, picks, label, space),) = seen
    assert (label, space) == ("reward", 2 ** sum(BLOCKS))
    for name in ("first", "second"):
        rewards, best, known = [], float("-inf"), set()
        for entry in read_log(work_dirs / name / "search.jsonl"):
            if entry["failed"] or entry.get("final") or entry["scheme"] in known:
                continue
            known.add(entry["scheme"])
            best = max(best, entry["reward"])
            rewards.append(best)
        assert curves[name] == [rewards]
        assert picks[name] == [best]


def test_side_by_side_on_the_page(web: Web, copies: Path) -> None:
    assert web.get("/searches/comparison?name=first").text == "Choose two searches or more."
    assert b"comparison.png?name=first&amp;name=second" in web.get("/searches/comparison?name=first&name=second").data
    answer = web.get("/searches/comparison.png?name=first&name=second")
    assert answer.headers["content-type"] == "image/png"
    assert web.get("/searches/comparison?name=first&name=third").status == 400
    (copies / "second" / "search.jsonl").write_text("")
    with pytest.raises(UserError, match="'second' has no candidate yet"):
        Searches([copies]).comparison(["first", "second"])


def test_which_folders_are_searches(copies: Path) -> None:
    (copies / "notes").mkdir()
    assert list(Searches([copies]).find()) == ["first", "second"]
    assert list(Searches([copies / "first"]).find()) == ["first"]
    searched(copies / "other" / "first", steps=1)
    assert list(Searches([copies, copies / "other"]).find()) == ["first", "second", "first (2)"]
    assert Searches([copies / "missing"]).find() == {}


def test_who_runs_in_a_folder(tmp_path: Path) -> None:
    assert running_in(tmp_path) is None
    with working_in(tmp_path):
        assert running_in(tmp_path) is not None
        assert str(os.getpid()) in str(running_in(tmp_path))
    assert running_in(tmp_path) is None
    owner = tmp_path / ".run.json"
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    owner.write_text(json.dumps({"process": child, "host": socket.gethostname(), "since": "then"}))
    assert running_in(tmp_path) is None  # it was killed
    owner.write_text(json.dumps({"process": child, "host": "elsewhere", "since": "then"}))
    assert running_in(tmp_path) == f"process {child} on elsewhere, since then"
    owner.write_text("no json")
    assert running_in(tmp_path) is None


def test_pictures_are_not_drawn_at_every_line(copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = copies / "first" / "search.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    now, drawings = [100.0], []
    monkeypatch.setattr("ean_core.demo.searches.time.monotonic", lambda: now[0])
    monkeypatch.setitem(DRAW, "history", lambda path: drawings.append(len(log.read_text().splitlines())))
    monkeypatch.setattr("ean_core.demo.searches.to_png", lambda figure, dpi: b"")
    searches = Searches([copies])
    for count, seconds in ((3, 0), (4, 1), (5, 8), (6, 2), (6, 20), (7, 0), (7, 20)):
        now[0] += seconds
        log.write_text("".join(lines[:count]))
        os.utime(log, (count, count))
        searches.picture("first", "history")
        summary = searches.summary("first")
        assert (summary.version == summary.drawn) == (drawings[-1] == count)
    assert drawings == [3, 6, 7]
