"""A signal ends a command behind a step, is never lost, and the second one ends it at once."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest

from ean_core.errors import UserError
from ean_core.files import replacing
from ean_core.stopping import Interrupted, asked, handling_signals, looking, running, steps, stop_if_asked

ROOT = Path(__file__).resolve().parents[1]
SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def no_nohup():
    """Signals are as in a terminal, also where the tests run in the background."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_outside_of_loops_a_signal_raises(number):
    with handling_signals():
        with pytest.raises(Interrupted) as stop:
            signal.raise_signal(number)
        assert stop.value.number == asked() == number
    assert asked() == 0
    assert signal.getsignal(number) is signal.default_int_handler


def test_in_a_loop_it_waits_for_the_end_of_the_step():
    seen = []

    def loop():
        for step in range(5):
            if step == 2:
                signal.raise_signal(signal.SIGINT)
            seen.append(step)
            stop_if_asked()

    with handling_signals(), looking(), pytest.raises(Interrupted):
        loop()
    assert seen == [0, 1, 2]


def test_the_first_step_can_be_interrupted():
    for which, expected in ((0, []), (1, [0, 1])):
        seen = []

        def loop(done, which=which, seen=seen):
            for step in range(3):
                if step == which:
                    signal.raise_signal(signal.SIGTERM)
                seen.append(step)
                done()

        with handling_signals(), steps() as done, pytest.raises(Interrupted):
            loop(done)
        assert seen == expected


def test_a_signal_that_python_forgets_is_not_lost(capsys):
    """What a callback of a weak reference raises is printed and forgotten; here not even printed."""

    class Thing:
        pass

    thing = Thing()
    called = []

    def callback(_):
        called.append(1)
        signal.raise_signal(signal.SIGINT)

    reference = weakref.ref(thing, callback)
    with handling_signals():
        del thing  # raises in the callback
        assert called
        assert asked() == signal.SIGINT
        with pytest.raises(Interrupted):
            stop_if_asked()
    assert reference() is None
    assert capsys.readouterr().err == ""


def test_one_signal_may_come_twice():
    """As `timeout` sends it, to a process and to its group."""
    with handling_signals(), looking():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert asked() == signal.SIGTERM


def test_other_threads_leave_signals_alone():
    found = []

    def run():
        with handling_signals():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]


def test_ignored_signals_stay_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with handling_signals():
        signal.raise_signal(signal.SIGINT)
        assert asked() == 0


def test_processes_that_were_forked_leave_it_to_their_parent():
    with handling_signals():
        child = os.fork()
        if not child:  # a worker: Ctrl-C reaches it too
            signal.raise_signal(signal.SIGINT)
            os._exit(7 if not asked() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize("rank", ["0", "1"])
def test_of_several_processes_only_the_first_waits(rank, monkeypatch):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("LOCAL_RANK", rank)
    with handling_signals():
        assert (signal.getsignal(signal.SIGTERM) == signal.SIG_DFL) is (rank == "1")


SECOND = """
import signal, sys, time
from pathlib import Path
from ean_core.files import replacing
from ean_core.stopping import handling_signals, looking

for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.default_int_handler)
with handling_signals(), looking(), replacing(Path(sys.argv[1])) as part:
    part.write_text("half")
    print("ready", flush=True)
    while True:
        time.sleep(0.01)
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_the_second_signal_ends_at_once(number, tmp_path):
    command = [sys.executable, "-c", SECOND, str(tmp_path / "file")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(number)
            time.sleep(0.5)
            assert process.poll() is None
            process.send_signal(number)
            assert process.wait(30) == 128 + number
        finally:
            process.kill()
    assert list(tmp_path.iterdir()) == []


def test_what_was_interrupted_is_noted():
    """The innermost block knows where, all must have saved, the outermost knows the option."""
    with (
        pytest.raises(KeyboardInterrupt) as stop,
        running(lambda: "the comparison", lambda: True, option=""),
        running(lambda: "epoch 3", lambda: True, instead="a.pth"),
    ):
        raise KeyboardInterrupt
    noted = stop.value
    assert (noted.where, noted.saved, noted.option, noted.instead) == ("epoch 3", True, "", "a.pth")
    for inner, outer in ((True, False), (False, True)):
        with (
            pytest.raises(KeyboardInterrupt) as stop,
            running(lambda: "", lambda outer=outer: outer),
            running(lambda: "", lambda inner=inner: inner),
        ):
            raise KeyboardInterrupt
        assert stop.value.saved is False


def test_what_follows_from_an_interruption_counts_as_one():
    for error, expected in (
        (RuntimeError("[enforce fail at pair.cc] Connection closed by peer"), Interrupted),
        (UserError("wrong"), UserError),
        (FileNotFoundError(2, "No such file", "a.txt"), FileNotFoundError),
    ):
        with handling_signals():
            with contextlib.suppress(Interrupted):
                signal.raise_signal(signal.SIGTERM)
            with pytest.raises(expected), running(lambda: "epoch 1", lambda: False):
                raise error


def test_a_process_that_has_ended(monkeypatch):
    """Nobody sends a signal: the other process was killed, and nobody cares for this one."""
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("ean_core.stopping.PATIENCE", 0.05)
    with (
        pytest.raises(ConnectionError, match=r"another process of this run has ended.*go on with --resume.*by peer"),
        running(lambda: "epoch 1", lambda: False),
    ):
        raise RuntimeError("Connection closed by peer\nException raised from ...")
    with pytest.raises(RuntimeError, match="shape"), running(lambda: "epoch 1", lambda: False):
        raise RuntimeError("shape '[2]' is invalid")


def test_temporary_files_do_not_stay(tmp_path):
    def write():
        with replacing(tmp_path / "file") as part:
            part.write_text("half")
            signal.raise_signal(signal.SIGINT)

    with handling_signals(), pytest.raises(Interrupted):
        write()
    assert list(tmp_path.iterdir()) == []
