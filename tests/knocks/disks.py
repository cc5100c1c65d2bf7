"""Disks that fill up while a run writes to them: a small tmpfs, in a namespace of the process's own."""

import ctypes
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from random import Random

from ean_core.checkpoint import read_checkpoint
from ean_core.files import read_json_lines
from knocks.answers import Fault
from knocks.runs import PROGRAMS, answer, files, finish, require_no_parts, require_same, resume, start
from knocks.world import COMPARED, World

NEW_NAMESPACE, NEW_USER = 0x00020000, 0x10000000  # CLONE_NEWNS, CLONE_NEWUSER
WORDS = ("No space left on device", "make room", "full", "quota")
ROOM, FILLER = 64 << 20, "filler"


def knock(world: World, folder: Path, random: Random) -> None:
    """Run on a disk that is small, or that something else fills meanwhile; when there is room, resume."""
    name = random.choice(COMPARED)
    program, reference = PROGRAMS[name], world.references[name]
    small, free, moment = random.random() < 0.25, random.random(), random.random()
    disk = folder / "disk"
    disk.mkdir()
    own_mounts()
    mount(f"size={max(4096, int(free * 1.2 * used(reference.work_dir))) if small else ROOM}", disk)
    work_dir = disk / "work"
    child = start(program, program.argv(world.data, work_dir), work_dir, folder)
    if not small:
        time.sleep(moment * reference.seconds)
        fill(disk, int(free * random.choice((0, 1, 0.1)) * used(reference.work_dir)))
    said = answer(finish(child))
    if said.message is not None and not any(word in said.message for word in WORDS):
        raise Fault("wrong", f"the message does not say that the disk is full: {said.message[:300]}")
    require_no_parts(disk)
    require_whole(disk)
    mount("remount,size=1g", disk)
    (disk / FILLER).unlink(missing_ok=True)
    resume(name, world.data, work_dir, folder)
    require_same(work_dir, reference.work_dir)


def fill(disk: Path, free: int) -> None:
    """Leave about so many bytes of a disk."""
    with open(disk / FILLER, "wb", buffering=0) as file:
        while (left := shutil.disk_usage(disk).free - free) > 0:
            try:
                file.write(bytes(min(left, 1 << 20)))
            except OSError:  # the run took the rest
                return


def used(folder: Path) -> int:
    """Bytes in a folder, in whole pages as tmpfs counts."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())


def require_whole(folder: Path) -> None:
    """Every result can be read."""
    for path in (folder / name for name in files(folder)):
        if path.suffix == ".pth":
            read_checkpoint(path)
        elif path.suffix == ".jsonl":
            read_json_lines(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())


def own_mounts() -> None:
    """Move this process, alone, into a namespace of mounts, as root of its own where it is not root.

    Raises:
        OSError: The system does not permit it.
    """
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_NAMESPACE | (NEW_USER if user else 0)):
        raise OSError(ctypes.get_errno(), "no namespace of mounts")
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _run("mount", "--make-rprivate", "/")


def mount(options: str, folder: Path) -> None:
    """Mount a tmpfs, or change one."""
    _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder))


def _run(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, timeout=20)
    if ran.returncode:
        raise OSError(f"{' '.join(command)}: {ran.stderr.strip()}")


def why_not(folder: Path) -> str | None:
    """Why no disk can be made here, if so; changes this process, so ask in a child."""
    try:
        own_mounts()
        mount("size=4096", folder)
    except (OSError, AttributeError, subprocess.SubprocessError) as error:
        return str(error)
    return None
