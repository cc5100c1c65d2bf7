"""Tasks in processes of this machine: what they return, and what is left where a process dies or is interrupted."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ean_core.errors import UserError
from ean_core.scale import Engine, Outcome, build_engine, engine_of, local
from ean_core.scale import build as building
from ean_testing.fresh import start_program


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with closing(build_engine(workers=2)) as built:
        yield built


def in_order(engine: Engine, function: str, arguments: list[dict]) -> list[Outcome]:
    return sorted(engine.run(f"ean_testing.tasks:{function}", arguments), key=lambda outcome: outcome.index)


def until(holds: Callable[[], bool]) -> None:
    """Wait at most half a minute."""
    for _ in range(1500):
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def has_ended(process: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True).stdout
    return not state.strip() or state.startswith("Z")


def test_values_are_those_of_a_plain_loop(engine):
    assert engine.workers == 2
    assert in_order(engine, "square", [{"x": x} for x in range(20)]) == [Outcome(x, x * x) for x in range(20)]
    assert in_order(engine, "square", []) == []


def test_outcomes_come_as_tasks_end(engine, tmp_path):
    arguments = [{"folder": str(tmp_path), "name": str(i), "seconds": seconds} for i, seconds in enumerate((1.0, 0.0))]
    assert [outcome.index for outcome in engine.run("ean_testing.tasks:waits", arguments)] == [1, 0]


def test_processes_live_on(engine):
    """From one call to the next, and from one run to the next."""
    seen = [outcome.value for _ in range(2) for outcome in in_order(engine, "process", [{}] * 10)]
    assert 1 <= len({number for number, _ in seen}) <= 2
    assert len(set(seen)) == len({number for number, _ in seen})


def test_a_task_whose_process_was_killed_resumes(engine, tmp_path):
    arguments = [{"folder": str(tmp_path), "name": str(i), "steps": 10 + i} for i in range(4)]
    arguments[2]["killed_at"] = 7
    expected = [Outcome(i, {"total": sum(range(11 + i)), "resumed_at": 0}) for i in range(4)]
    expected[2] = Outcome(2, {"total": sum(range(13)), "resumed_at": 6})
    assert in_order(engine, "total", arguments) == expected


def test_a_task_that_always_dies_does_not_stop_the_others(engine, tmp_path, monkeypatch):
    found = list(engine.run("ean_testing.tasks:dies", [{"folder": str(tmp_path)}]))
    assert [(outcome.index, outcome.value) for outcome in found] == [(0, None)]
    assert found[0].error == "its process died 3 times (SIGKILL, as when memory runs out)"
    assert len(list(tmp_path.iterdir())) == 3
    assert in_order(engine, "square", [{"x": 3}, {"x": 4}]) == [Outcome(0, 9), Outcome(1, 16)]


def test_an_idle_process_may_die_too(engine):
    numbers = {outcome.value[0] for outcome in in_order(engine, "process", [{}] * 10)}
    for number in numbers:
        subprocess.run(["kill", "-9", str(number)], check=True)
    assert in_order(engine, "square", [{"x": x} for x in range(4)]) == [Outcome(x, x * x) for x in range(4)]


@pytest.mark.parametrize(
    ("function", "arguments", "error"),
    [
        ("fails", {"kind": "mistake"}, "the file is wrong: mend it"),
        ("fails", {"kind": "missing"}, "No such file or directory: 'a.txt'"),
        ("fails", {"kind": "exit"}, "it ended with exit status 2"),
        ("fails", {"kind": "bug"}, "ZeroDivisionError: division (tasks.py:"),
        ("nothing", {}, "AttributeError: module 'ean_testing.tasks' has no attribute 'nothing'"),
        ("square", {"y": 1}, "TypeError: square() got an unexpected keyword argument 'y'"),
    ],
)
def test_an_error_is_one_line(engine, function, arguments, error):
    (found,) = in_order(engine, function, [arguments])
    assert (found.index, found.value) == (0, None)
    assert found.error.startswith(error)
    assert "\n" not in found.error


PROGRAM = """
import sys
from ean_core.scale import build_engine
from ean_core.stopping import Interrupted, handling_signals

with handling_signals():
    try:
        tasks = [{"folder": sys.argv[1], "name": name} for name in "abc"]
        list(build_engine(workers=2).run("ean_testing.tasks:waits", tasks))
    except Interrupted as stop:
        sys.exit(128 + stop.number)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_stays_behind(number, tmp_path):
    process, answer = start_program(PROGRAM, str(tmp_path))
    until(lambda: len([path for path in tmp_path.iterdir() if path.name in "ab"]) == 2)
    workers = [int((tmp_path / name).read_text()) for name in "ab"]
    subprocess.run(["kill", f"-{number.value}", str(process.pid)], check=True)
    process.join(30)
    if number != signal.SIGKILL:
        ran = answer.recv()
        assert (ran.status, ran.err) == (128 + number, "")
    until(lambda: all(map(has_ended, workers)))
    assert not (tmp_path / "c").exists()


def test_a_process_that_does_not_stop_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "PATIENCE", 0.1)
    engine = build_engine(workers=1)
    tasks_run = engine.run("ean_testing.tasks:waits", [{"folder": str(tmp_path), "name": "a", "stubborn": True}])
    monkeypatch.setattr(local, "stop_if_asked", lambda: until((tmp_path / "a").exists) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        next(tasks_run)
    assert has_ended(int((tmp_path / "a").read_text()))


@pytest.mark.parametrize(
    ("options", "workers", "threads"),
    [({}, 8, 1), ({"workers": 3}, 3, 2), ({"cpus": 3}, 2, 3), ({"cpus": 20}, 1, 20), ({"workers": 9}, 9, 1)],
)
def test_cores_are_divided(options, workers, threads, monkeypatch):
    monkeypatch.setattr(building, "cores", lambda: 8)
    engine = build_engine(**options)
    assert engine.workers == workers
    assert {each["OMP_NUM_THREADS"] for each in engine._free} == {str(threads)}


def test_a_process_has_its_cores_and_no_gpu(monkeypatch):
    monkeypatch.setattr(building, "cores", lambda: 4)
    with closing(build_engine(workers=2)) as engine:
        (found,) = in_order(engine, "threads_and_gpus", [{}])
    assert found.value == (2, "", str(Path.cwd()))


@pytest.mark.parametrize(
    ("visible", "gpus", "expected"),
    [
        (None, 1, ["0", "1", "2"]),
        ("4,7,GPU-a", 1, ["4", "7", "GPU-a"]),
        (None, 2, ["0,1"]),
        (None, 0.5, ["0", "0", "1", "1", "2", "2"]),
    ],
)
def test_gpus_are_divided(visible, gpus, expected, monkeypatch):
    monkeypatch.setattr(building, "cores", lambda: 8)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    engine = build_engine(gpus=gpus)
    assert [each["CUDA_VISIBLE_DEVICES"] for each in engine._free] == expected
    with pytest.raises(UserError, match="need more than this machine has"):
        build_engine(gpus=gpus, workers=7)
    assert engine_of("local", None).workers == 3  # a GPU each
    assert engine_of("local", {"gpus": 0}).workers == 8


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("slurm", {}, "--engine must be local, ray or ray://HOST:PORT, got 'slurm'"),
        ("local", {"workers": 0}, "engine.workers must be a whole number from 1 on"),
        ("local", {"cpus": 1.5}, "engine.cpus must be a whole number"),
        ("local", {"gpus": 1.5}, "engine.gpus must be a whole number, or a part"),
        ("local", {"gpus": "1"}, "engine.gpus must be a whole number, or a part"),
        ("local", {"gpu": 1}, "engine.gpu is unknown: an engine has workers, cpus and gpus"),
        ("local", {"gpus": 1}, "1 workers of 1 GPUs each need more than this machine has"),
    ],
)
def test_mistakes(name, options, message, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match=message):
        engine_of(name, options)
