"""Tasks on a cluster of Ray: two machines of one core each, which are processes here."""

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ean_core.errors import UserError
from ean_core.scale import Engine, Outcome, build_engine
from ean_core.stopping import SIGNALS

pytest.importorskip("ray", reason="needs the extra 'scale'")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Of the cluster that RAY_ADDRESS names."""
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        patch.setenv("RAY_ADDRESS", cluster.address)
        handlers = [signal.getsignal(number) for number in SIGNALS]
        with closing(build_engine("ray")) as built:
            assert [signal.getsignal(number) for number in SIGNALS] == handlers  # Ray would take SIGTERM
            yield built
        cluster.shutdown()
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


def in_order(engine: Engine, function: str, arguments: list[dict]) -> list[Outcome]:
    return sorted(engine.run(f"ean_testing.tasks:{function}", arguments), key=lambda outcome: outcome.index)


def test_a_task_whose_process_was_killed_resumes_as_on_this_machine(engine, tmp_path):
    """The same outcomes from both engines, errors among them."""
    assert engine.workers == 2
    found = {}
    with closing(build_engine(workers=2)) as local:
        for name, one in (("ray", engine), ("local", local)):
            folder = tmp_path / name
            folder.mkdir()
            arguments = [{"folder": str(folder), "name": str(i), "steps": 10 + i} for i in range(4)]
            arguments[2]["killed_at"] = 7
            found[name] = [
                *in_order(one, "total", arguments),
                *in_order(one, "fails", [{"kind": kind} for kind in ("missing", "exit", "bug")]),
            ]
    assert found["ray"][2] == Outcome(2, {"total": sum(range(13)), "resumed_at": 6})
    assert found["ray"] == found["local"]


def test_processes_live_on(engine):
    seen = [outcome.value for outcome in in_order(engine, "process", [{}] * 10)]
    assert 1 <= len({number for number, _ in seen}) <= 2
    assert len(set(seen)) == len({number for number, _ in seen})


def test_a_task_that_always_dies_does_not_stop_the_others(engine, tmp_path):
    (found,) = engine.run("ean_testing.tasks:dies", [{"folder": str(tmp_path)}])
    assert (found.index, found.value) == (0, None)
    assert found.error.startswith("its process died 3 times (")
    assert len(list(tmp_path.iterdir())) == 3
    assert in_order(engine, "square", [{"x": 3}, {"x": 4}]) == [Outcome(0, 9), Outcome(1, 16)]


def test_a_task_has_its_cores_and_no_gpu_and_begins_in_this_folder(engine):
    (found,) = in_order(engine, "threads_and_gpus", [{}])
    assert found.value == (1, "", str(Path.cwd()))


def test_what_is_left_before_its_end_is_ended(engine, tmp_path):
    arguments = [{"folder": str(tmp_path), "name": name, "seconds": s} for name, s in (("a", 0.0), ("b", 60.0))]
    run = engine.run("ean_testing.tasks:waits", arguments)
    assert next(run).index == 0
    run.close()
    assert in_order(engine, "square", [{"x": x} for x in range(4)]) == [Outcome(x, x * x) for x in range(4)]


@pytest.mark.parametrize(
    "options", [{"cpus": 2}, {"gpus": 1}, {"cpus": 2, "workers": 1}], ids=["cores", "gpus", "cores of one worker"]
)
def test_no_machine_has_that_much(engine, options):
    with pytest.raises(UserError, match=r"no machine of the Ray cluster has the .* cores and .* GPUs"):
        build_engine("ray", **options)


@pytest.mark.parametrize("silent", [False, True], ids=["nothing", "no Ray"])
@pytest.mark.parametrize("client", [False, True], ids=["its own", "client's"])
def test_no_cluster_at_the_address(client, silent, engine, monkeypatch):
    """Nothing listens there, or a program that takes connections and never speaks."""
    engine.close()  # otherwise this process is connected
    monkeypatch.setattr("ean_core.scale.on_ray.REACH", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if not silent:
            server.close()
        if not client:
            monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(UserError) as mistake:
            build_engine(f"ray://{address}" if client else "ray")
    reason = "what listens there is no Ray" if silent else "Connection refused"
    assert f"no Ray cluster at '{'ray://' if client else ''}{address}'" in str(mistake.value)
    assert reason in str(mistake.value)


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"--engine ray needs Ray: pip install 'ean\[scale\]'"):
        build_engine("ray")
