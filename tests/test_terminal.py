"""Progress where output is no terminal: lines, not too many of them, and through a pipe at once."""

import subprocess
import sys

import pytest

from ean_core import data_check
from ean_core.terminal import ProgressLines, hearing_parts, report_part


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_come_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = ProgressLines("predicted", total=40, clock=clock)
    for done in range(1, 13):
        clock.now += 1
        lines.update(done, "x" if done == 9 else "")
    assert capsys.readouterr().out.splitlines() == [
        "predicted 3 of 40, 3 s, about 37 s left",
        "predicted 6 of 40, 6 s, about 34 s left",
        "predicted 9 of 40, 9 s, about 31 s left, x",
        "predicted 12 of 40, 12 s, about 28 s left",
    ]


def test_lines_of_a_long_task_become_rare(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = ProgressLines("iteration", slower=1.5, clock=clock)
    times = []
    for second in range(1, 1000):
        clock.now = float(second)
        lines.update(second)
        if capsys.readouterr().out:
            times.append(second)
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]  # noqa: RUF007
    assert times[0] == 3
    assert gaps == sorted(gaps)
    assert gaps[0] == 5
    assert gaps[-1] == 60


def test_a_resumed_task_is_timed_by_what_it_does_itself(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = ProgressLines("iteration", total=100, begun=90, clock=clock)
    clock.now = 5.0
    lines.update(95)
    assert capsys.readouterr().out == "iteration 95 of 100, 5 s, about 5 s left\n"


def test_parts_go_to_who_listens() -> None:
    heard: list[str] = []
    report_part("nobody")
    with hearing_parts(heard.append):
        report_part("tile 1 of 2")
    report_part("nobody")
    assert heard == ["tile 1 of 2"]


def test_a_long_data_check_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    monkeypatch.setitem(ProgressLines.__init__.__kwdefaults__, "clock", clock)

    def look(item: int) -> list[str]:
        clock.now = max(clock.now, 4.0)
        return [f"item {item}"] if item % 2 else []

    assert data_check.find_problems(range(4), look) == ["item 1", "item 3"]
    said = capsys.readouterr().out
    assert said.startswith("files looked at: ")
    assert " of 4, 4 s" in said


def test_a_pipe_gets_a_line_when_it_is_printed() -> None:
    """And not when some thousand characters have come together, or the process ends."""
    code = (
        "from ean_core.engine.cli import command\n"
        "@command\n"
        "def main(argv=None):\n"
        "    print('first words')\n"
        "    input()\n"
        "main([])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "first words\n"  # it waits for us, so it has not ended
    assert process.poll() is None
    process.communicate("\n", timeout=60)
    assert process.returncode == 0
