"""Homes that cannot be written, machines without a compiler, clocks that are set back: runs go on."""

import re
import time
from pathlib import Path

import pytest

from ean_core.files import read_json_lines
from ean_testing.checkpoints import classification_config, save
from ean_testing.fresh import run_program

TOOLS = """
import multiprocessing, os, runpy, sys
multiprocessing.set_start_method("fork", force=True)  # a fork of a server of forks has another
def surround(home, path):
    os.environ.pop("HOME", None)
    if home:
        os.environ["HOME"] = home
    os.environ.pop("XDG_CACHE_HOME", None)
    os.environ.pop("MPLCONFIGDIR", None)
    os.environ.update(PATH=path, OMP_NUM_THREADS="1")
surround(*{surroundings!r})
for name, *arguments in {calls!r}:
    for stream in (sys.stdout, sys.stderr):
        print("==", name, file=stream)
    sys.argv = [name, *arguments]
    try:
        runpy.run_path("tools/" + name + ".py", run_name="__main__")
    except SystemExit as stopped:
        if stopped.code:
            raise
"""


def homes(tmp_path: Path) -> dict[str, str]:
    """Homes in which nothing can be written, whoever asks."""
    (tmp_path / "file").touch()
    return {"a file": str(tmp_path / "file"), "nowhere": "/proc/nowhere/home", "unset": ""}


def text_of_logs(work_dir: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(work_dir.glob("*/*.log")))


@pytest.fixture
def run(fresh, tmp_path):
    """``run(home, *calls)``: what each tool shows, and says of errors, in one process in such a home, no compiler."""
    (tmp_path / "bin").mkdir()

    def run(home: str, *calls: list[str]) -> list[tuple[str, list[str]]]:
        surroundings = (homes(tmp_path)[home], str(tmp_path / "bin"))
        done = fresh.apply(run_program, (TOOLS.format(surroundings=surroundings, calls=calls),))
        assert done.status == 0, done.err
        out, err = (re.split(r"^== \w+\n", text, flags=re.MULTILINE)[1:] for text in (done.out, done.err))
        return [(shown, said.splitlines()) for shown, said in zip(out, err, strict=True)]

    return run


@pytest.fixture(scope="module")
def bottlenecks(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The checkpoint of a network that has compiled loops when it is fused."""
    return str(save(tmp_path_factory.mktemp("cls") / "cls.pth", classification_config(), tuple("abcdefg")))


@pytest.mark.parametrize("home", ["a file", "nowhere", "unset"])
def test_no_home_and_no_compiler(run, bottlenecks, config, tiny, small_voc, tmp_path, home):
    """A prediction warns of its missing compiler and a training, by Matplotlib, of where its fonts are: no more."""
    out, image = tmp_path / "out", next((small_voc / "JPEGImages").glob("*.jpg"))
    calls = [["predict", bottlenecks, str(image), "--fuse", "--out", str(out)]]
    if home == "a file":  # the other two would not tell more
        calls.append(["train", config, *tiny, "train_cfg.max_epochs=1", "--work-dir", str(out)])
    (shown, said), *train = run(home, *calls)
    assert said == []
    assert shown.count("WARNING") == shown.count("fuse: without its C++ loops") == 1
    assert "no C++ compiler (install g++, or name one in CXX)" in shown
    assert (out / "predictions.csv").is_file()
    if home == "a file":
        ((_, said),) = train
        assert len(said) <= 2
        assert all("matplotlib" in line for line in said)
        assert (out / "best.pth").is_file()


def test_a_clock_that_is_set_back(train, tmp_path, monkeypatch):
    """By half an hour in every epoch, and before the run goes on to the second at which it began.

    No time left is negative, nothing is lost, and both runs' logs remain, in the one file that they share.
    """
    from ean_core.engine import ReseedHook

    began = 1.7e9
    clock = [began]

    def now() -> float:
        clock[0] += 1e-3
        return clock[0]

    def set_back(self, runner, *args, **kwargs):
        clock[0] -= 1800 * (runner.iter % 4 == 1)

    monkeypatch.setattr(time, "time", now)
    monkeypatch.setattr(ReseedHook, "before_train_iter", set_back)
    every = "default_hooks.logger.interval=1"
    train(tmp_path, every, "train_cfg.max_epochs=1")
    first = text_of_logs(tmp_path)
    clock[0] = began
    train(tmp_path, every, "train_cfg.max_epochs=2", "--resume")
    entries = read_json_lines(tmp_path / "history.jsonl")
    assert [entry["iter"] for entry in entries if entry["mode"] == "train"] == list(range(1, 9))
    assert text_of_logs(tmp_path).startswith(first)
    assert "resumed     after epoch 1" in text_of_logs(tmp_path)
    assert len(re.findall(r"eta: \d:", text_of_logs(tmp_path))) >= 8
    assert "eta: -" not in text_of_logs(tmp_path)
    assert "time: -" not in text_of_logs(tmp_path)
