"""The smallest trainings and searches, run by the tools in child processes, and what two of them have to share."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch

from ean_core.checkpoint import read_checkpoint
from ean_testing.runs import tool
from knocks.answers import Answer, Fault, judged
from knocks.forked import Child, Ended

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 90  # seconds that a tiny run may take on a busy machine
STAMPED = re.compile(r"\d{8}_\d{6}")  # MMEngine's folder of a start
OWN_PLACE = {"previous", ".lock", "run.lock"}  # what an earlier start may leave, by intention
EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "shutil.rmtree")
NETWORK = ["model.backbone.depth=11", "image_size=16"]


class Program(NamedTuple):
    """A tool on a config with the options that make it tiny."""

    tool: str
    config: str
    data: str
    options: list[str]
    more: tuple[str, ...] = ()

    def argv(self, data: Path, work_dir: Path, *more: str, changes: tuple[str, ...] = ()) -> list[str]:
        """Its command line."""
        where = ["--data-root", str(data / self.data), "--work-dir", str(work_dir)]
        return [str(ROOT / self.config), *where, *self.more, *more, "--cfg-options", *self.options, *changes]


PROGRAMS = {
    "train": Program(
        "train",
        "configs/cls/resnet164_share_se_cifar100.py",
        "shapes",
        [*NETWORK, "train_dataloader.batch_size=12", "val_dataloader.batch_size=18", "test_dataloader.batch_size=18",
         "train_cfg.max_epochs=4", "custom_hooks.2.interval=1", "optim_wrapper.optimizer.lr=0.05"],
    ),
    "segment": Program(
        "train",
        "configs/seg/ean_se_voc.py",
        "voc",
        ["model.backbone.depth=18", "head=fcn", "crop_size=32", "train_cfg.max_epochs=3",
         "train_dataloader.batch_size=2", "train_dataloader.num_workers=0", "val_dataloader.num_workers=0",
         "test_dataloader.num_workers=0", "optim_wrapper.optimizer.lr=0.1"],
        ("--scheme", "full"),
    ),
    "search": Program(
        "search",
        "configs/search/se_cifar100.py",
        "shapes",
        [*NETWORK, "held_out=4", "train_dataloader.batch_size=12", "val_dataloader.batch_size=10",
         "train_cfg.max_epochs=2", "optim_wrapper.optimizer.lr=0.05"],
        ("--steps", "6"),
    ),
    "cells": Program(
        "search",
        "configs/search/att_darts_cifar10.py",
        "shapes",
        ["search.operations=[none,max_pool_3x3,skip_connect,sep_conv_3x3]", "search.attentions=[none,SE,CBAM]",
         "held_out=4", "model.backbone.nodes=2", "train_dataloader.batch_size=12", "val_dataloader.batch_size=16",
         "train_cfg.max_epochs=4"],
        ("--toy",),
    ),
}  # fmt: skip


def make_data(root: Path) -> Path:
    """The small data sets that the programs take."""
    from classification.toy_shapes import make_toy
    from segmentation.toy_scenes import make_toy_voc

    made = make_toy(root / "made", "cifar100", train=8, test=3)
    made.rename(root / "shapes")
    make_toy_voc(root / "made", train=8, val=3, size=48).rename(root / "voc")
    return root


def be_quick() -> None:
    """Leave out, here and in child processes, what takes long in tiny runs and is the same in each.

    MMEngine formats the config's text at every save, and describes the machine at every start; so do we.
    """
    import mmengine.runner.runner
    import yapf.yapflib.yapf_api

    import ean_core.engine.environment

    machine, versions = mmengine.runner.runner.collect_env(), ean_core.engine.environment.installed_versions()
    yapf.yapflib.yapf_api.FormatCode = lambda text, **_: (text, True)
    mmengine.runner.runner.collect_env = lambda: dict(machine)
    ean_core.engine.environment.installed_versions = lambda: dict(versions)
    torch.set_num_threads(1)


class FileEvents:
    """Counts what a process does to files under a folder, and calls ``then`` before so many have happened."""

    def __init__(self, folder: Path, at: int = -1, then: Callable[[], None] = lambda: None) -> None:
        self.folder, self.count, self.at, self.then = str(folder), 0, at, then
        sys.addaudithook(self)  # there is no way to remove one: for child processes only

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event in EVENTS and any(isinstance(arg, str | os.PathLike) and self._inside(arg) for arg in args):
            self.count += 1
            if self.count == self.at:
                self.then()

    def _inside(self, path: Any) -> bool:
        return os.path.abspath(os.fspath(path)).startswith(self.folder)


Kill = tuple[int, int]  # a signal, and before which file event the process sends it to itself


def start(program: Program, argv: list[str], work_dir: Path, folder: Path, kill: Kill | None = None) -> Child:
    """Begin a run in a child process, whose result is the number of its file events.

    Args:
        program: What to run.
        argv: Its command line.
        work_dir: Its work directory.
        folder: For what it prints.
        kill: What ends it.
    """

    def work() -> int:
        number, at = kill or (0, -1)
        events = FileEvents(work_dir, at, lambda: os.kill(os.getpid(), number))
        tool(program.tool)(argv)
        return events.count

    return Child(work, folder)


def finish(child: Child, limit: float = LIMIT) -> Ended:
    """Wait for a run."""
    if not child.wait(limit):
        child.kill()
        raise Fault("wrong", f"hang: a run still went on after {limit:.0f} s")
    return child.ended()


def answer(ended: Ended) -> Answer:
    """How the tool answered (see :func:`knocks.answers.judged`)."""
    if ended.status < 0:
        raise Fault("wrong", f"it died of signal {-ended.status}: {ended.err[-200:]!r}")
    return judged(ended.status, ended.out, ended.err)


class Reference(NamedTuple):
    """An uninterrupted run."""

    work_dir: Path
    seconds: float
    events: int


def make_reference(name: str, data: Path, folder: Path) -> Reference:
    """Run a program from beginning to end."""
    program, work_dir = PROGRAMS[name], folder / name
    work_dir.mkdir(parents=True)
    child = start(program, program.argv(data, work_dir), work_dir, folder)
    ended = finish(child)
    if answer(ended).message is not None:
        raise RuntimeError(f"the reference run of '{name}' did not end well: {ended.err}")
    return Reference(work_dir, child.seconds(), ended.result)


def resume(name: str, data: Path, work_dir: Path, folder: Path) -> None:
    """Resume a run until its end; a training that has saved nothing yet begins again.

    Raises:
        Fault: It was refused, or failed.
    """
    program = PROGRAMS[name]
    again = answer(finish(start(program, program.argv(data, work_dir, "--resume"), work_dir, folder)))
    if again.message is not None and "nothing to resume" in again.message:
        again = answer(finish(start(program, program.argv(data, work_dir), work_dir, folder)))
    if again.message is not None:
        raise Fault("wrong", f"not resumed: {again.message[:300]}")


def require_same(work_dir: Path, reference: Path) -> None:
    """Compare a work directory with that of an uninterrupted run.

    Raises:
        Fault: A result differs, is missing, or a file is left over.
    """
    ours, theirs = set(files(work_dir)), set(files(reference))
    if ours - theirs:
        raise Fault("wrong", f"left over: {sorted(ours - theirs)}")
    if theirs - ours:
        raise Fault("wrong", f"lost: {sorted(theirs - ours)}")
    for name in sorted(name for name in theirs if not name.endswith(".py")):  # a config as run says how it was resumed
        one, other = work_dir / name, reference / name
        if one.suffix == ".pth":
            difference = first_difference(content(one), content(other))
        else:
            difference = "" if comparable(one) == comparable(other) else "its bytes"
        if difference:
            raise Fault("wrong", f"{name} differs from the uninterrupted run's: {difference}")


def files(folder: Path) -> Iterator[str]:
    """The files in a work directory that belong to the run, without earlier starts' logs and results set aside."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_file() and not any(STAMPED.search(part) or part in OWN_PLACE for part in name.parts):
            yield str(name)


def comparable(path: Path) -> bytes:
    """A file's bytes, without the path of the work directory."""
    return path.read_bytes().replace(str(path.parent).encode(), b"").replace(str(path.parent.parent).encode(), b"")


def content(path: Path) -> dict[str, Any]:
    """What two checkpoints of one run share: all but times, losses smoothed for the log, and the config's text."""
    loaded = read_checkpoint(path)
    hub = loaded.pop("message_hub", {}).get("runtime_info", {})
    meta = loaded.pop("meta", {})
    loaded.update({key: hub.get(key) for key in ("best_score", "best_epoch")})
    loaded.update({key: meta.get(key) for key in ("epoch", "iter")})
    return loaded


def first_difference(one: Any, other: Any, where: str = "") -> str:
    """Where two nested values differ, to the last bit; empty if nowhere. NaN equals NaN."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape
        return "" if same and bytes_of(one) == bytes_of(other) else where or "a tensor"
    if type(one) is not type(other):
        return where or f"{type(one).__name__} instead of {type(other).__name__}"
    if isinstance(one, dict):
        if list(one) != list(other):
            return f"{where} keys"
        return next((d for key in one if (d := first_difference(one[key], other[key], f"{where}.{key}"))), "")
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return f"{where} length {len(one)} instead of {len(other)}"
        pairs = enumerate(zip(one, other, strict=True))
        return next((d for i, pair in pairs if (d := first_difference(*pair, f"{where}[{i}]"))), "")
    if hasattr(one, "dtype"):  # NumPy's
        same = one.dtype == other.dtype and one.shape == other.shape
        return "" if same and one.tobytes() == other.tobytes() else where or "an array"
    return "" if one == other or (one != one and other != other) else where or f"{one!r} instead of {other!r}"


def bytes_of(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def require_no_parts(folder: Path) -> None:
    """No file that was being written may lie in a folder."""
    parts = [str(path.relative_to(folder)) for path in folder.rglob("*") if ".part" in path.name]
    if parts:
        raise Fault("wrong", f"left over: {parts}")


def random_signal(random: Random) -> int:
    """SIGKILL half of the time, else SIGTERM or SIGINT."""
    import signal

    return random.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
