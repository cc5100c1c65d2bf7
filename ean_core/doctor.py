"""What a bug report asks for: versions, conflicts, the device, data sets found, and a self-test of ten seconds.

Nothing here is imported but the standard library, and what may be broken is tried in a process of its own: a package
that is missing, or that ends the interpreter, is reported like any other finding. ``tools/doctor.py`` therefore loads
this file by its path; importing ``ean_core`` would import torch and MMEngine first.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 180  # seconds that an import or the self-test may take on a slow machine
IMPORTS = ("torch", "torchvision", "mmengine", "mmcv", "mmseg", "cv2", "PIL", "ean_core")
FAMILIES = (  # one import name, several distributions: at most one of each
    ("mmengine", ("onedl-mmengine", "mmengine")),
    ("mmcv", ("onedl-mmcv", "mmcv", "mmcv-lite")),
    ("mmseg", ("onedl-mmsegmentation", "mmsegmentation")),
    ("mmpretrain", ("onedl-mmpretrain", "mmpretrain")),
)

PROBE = """
import contextlib, importlib, io, json, sys, warnings
def probe(name):
    module = importlib.import_module(name)
    if name == "mmcv":
        return {"ops": importlib.util.find_spec("mmcv._ext") is not None}
    if name != "torch":
        return {}
    found = {"cuda": module.version.cuda, "hip": getattr(module.version, "hip", None),
             "usable": module.cuda.is_available(), "threads": module.get_num_threads()}
    if found["usable"]:
        found["gpus"] = [module.cuda.get_device_name(i) for i in range(module.cuda.device_count())]
        found["capability"] = "sm_%d%d" % module.cuda.get_device_capability()
        found["built"] = module.cuda.get_arch_list()
    return found
answers = {}
with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    warnings.simplefilter("ignore")
    for name in sys.argv[1:]:
        try:
            answers[name] = probe(name)
        except Exception as error:
            answers[name] = {"error": "%s: %s" % (type(error).__name__, " ".join(str(error).split()))}
print(json.dumps(answers))
"""

FOUND_DATA = """
import json, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from ean_core.application import TASKS, load_application
found = [line for task in TASKS for line in load_application(task).found_data(Path(sys.argv[1]))]
toys = Path(sys.argv[1], "toy")
names = sorted(path.name for path in toys.iterdir() if path.is_dir()) if toys.is_dir() else []
print(json.dumps({"found": found + ([f"toy ({', '.join(names)})"] if names else [])}))
"""

SELF_TEST = """
import json, time, warnings
start = time.perf_counter()
warnings.simplefilter("ignore")
import torch
from ean_core import EANResNet
from ean_core.deploy import fuse
from ean_core.deploy.cpu.library import library
torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
net = EANResNet(18, attention=dict(type="SE", reduction=16), scheme="10-01-11-01").to(device)
images, labels = torch.randn(4, 3, 64, 64, device=device), torch.tensor([0, 1, 0, 1], device=device)
sgd, losses = torch.optim.SGD(net.parameters(), 0.05), []
for _ in range(3):
    loss = torch.nn.functional.cross_entropy(net(images)[-1].mean((2, 3))[:, :2], labels)
    sgd.zero_grad(); loss.backward(); sgd.step(); losses.append(float(loss))
net.eval()
with torch.no_grad():
    difference = float((net(images)[-1] - fuse(net)(images)[-1]).abs().max() / net(images)[-1].abs().max())
print(json.dumps({"device": device, "losses": losses, "fused": difference, "loops": library() is not None,
                  "seconds": time.perf_counter() - start}))
"""


@dataclass
class Report:
    """Findings: lines for a bug report, and what is wrong."""

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, name: str, text: str) -> None:
        """A line."""
        self.lines.append(f"{name:<11} {text}")

    def text(self) -> str:
        """The whole report."""
        end = [f"problem     {problem}" for problem in self.problems] or ["result      no problem found"]
        return "\n".join([*self.lines, *end])


def examine(data: Path = Path("data"), work_dir: Path = Path("work_dirs"), self_test: bool = True) -> Report:
    """Look at everything.

    Args:
        data: The folder of data sets.
        work_dir: Where trainings write.
        self_test: Also train a tiny network for three steps.
    """
    report = Report()
    installed = installed_versions()
    report.add("platform", f"{platform.platform()}, {os.cpu_count()} CPU cores")
    report.add("python", f"{platform.python_version()} in {sys.prefix}")
    check_packages(installed, report)
    probes = probe(IMPORTS)
    check_imports(probes, report)
    check_device(probes["torch"], nvidia_gpu(), report)
    check_data(run_python(FOUND_DATA, str(data)), data, report)
    check_work_dir(work_dir, report)
    if self_test:
        check_self_test(run_python(SELF_TEST), report)
    return report


def requirements() -> list[tuple[str, tuple[int, ...], str]]:
    """Name, least version and extra (``""`` for none) of what this package needs; nothing if it is not installed."""
    try:
        stated = requires("ean") or []
    except PackageNotFoundError:
        return []
    found = []
    for text in stated:
        name = re.match(r"[\w.-]+", text)
        least, extra = re.search(r">=\s*([\d.]+)", text), re.search(r"extra\s*==\s*[\"'](\w+)", text)
        if name and not (extra and extra[1] == "test"):
            found.append((name[0], numbers(least[1]) if least else (), extra[1] if extra else ""))
    return found


def installed_versions() -> dict[str, str]:
    """The version of this package, of what it needs, and of what else provides the same modules, where installed."""
    providers = packages_distributions()
    names = ["ean", *(name for name, *_ in requirements()), *(name for _, names in FAMILIES for name in names)]
    names += [name for module in IMPORTS for name in providers.get(module, ())]
    found = {}
    for name in dict.fromkeys(names):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def check_packages(installed: dict[str, str], report: Report) -> None:
    """Versions, packages that exclude each other, missing extras."""
    needed = requirements()
    extras: dict[str, list[str]] = {}
    for name, _, extra in needed:
        if extra:
            extras.setdefault(extra, []).append(name)
    optional = {name for names in extras.values() for name in names}
    report.add("packages", ", ".join(f"{name} {installed[name]}" for name in installed if name not in optional))
    for extra, wanted in extras.items():
        missing = [name for name in wanted if name not in installed]
        have = ", ".join(f"{name} {installed[name]}" for name in wanted if name in installed)
        report.add(f"[{extra}]", have + (f" (not installed: {', '.join(missing)})" if missing else ""))
    for module, names in FAMILIES:
        both = [name for name in names if name in installed]
        if len(both) > 1:
            report.problems.append(
                f"{' and '.join(both)} are installed together and overwrite each other's '{module}': uninstall both, "
                f"then install one"
            )
    for name, least, _ in needed:
        if name in installed and numbers(installed[name]) < least:
            report.problems.append(
                f"{name} {installed[name]} is too old: at least {'.'.join(map(str, least))} is needed"
            )
    if numbers(installed.get("mmengine", "9")) < (0, 10, 8) and numbers(installed.get("torch", "0")) >= (2, 6):
        report.problems.append(
            f"mmengine {installed['mmengine']} cannot load checkpoints under torch {installed['torch']}: replace it "
            "with onedl-mmengine"
        )
    opencv = {name: installed[name] for name in installed if name.startswith("opencv")}
    if len(set(opencv.values())) > 1:
        both = [f"{name} {v}" for name, v in opencv.items()]
        report.problems.append(
            f"{' and '.join(both)} write the same files of 'cv2' in different versions: uninstall all of them, then "
            f"pip install {' '.join(f'{name}=={max(opencv.values(), key=numbers)}' for name in opencv)}"
        )


def probe(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What every import gives: all in one process; if that dies, one by one."""
    together = run_python(PROBE, *names)
    if "error" not in together:
        return together
    return {name: alone.get(name, alone) for name in names for alone in [run_python(PROBE, name)]}


def check_imports(probes: dict[str, dict[str, Any]], report: Report) -> None:
    """What cannot be imported. ``mmseg`` is needed for segmentation alone."""
    for name, probe in probes.items():
        if "error" in probe:
            report.problems.append(f"'import {name}' fails: {probe['error']}")
    if probes["mmcv"].get("ops") is False:
        report.add("mmcv ops", "not compiled (nothing here needs them)")


def check_device(torch: dict[str, Any], gpu: str | None, report: Report) -> None:
    """Whether torch and the machine agree about a GPU."""
    if "error" in torch:
        report.add("device", f"unknown, torch cannot be imported; GPU: {gpu or 'none'}")
        return
    built = f"CUDA {torch['cuda']}" if torch["cuda"] else f"ROCm {torch['hip']}" if torch["hip"] else "CPU only"
    if torch["usable"]:
        report.add("device", f"{', '.join(torch['gpus'])} ({torch['capability']}); torch built for {built}")
        same = [a for a in torch["built"] if a[:-1] == torch["capability"][:-1] or a.startswith("compute_")]
        if torch["built"] and not same:
            report.problems.append(
                f"torch is built for {', '.join(torch['built'])} and not for this GPU's {torch['capability']}: install "
                "the build for it from pytorch.org"
            )
        return
    report.add("device", f"CPU, {torch['threads']} threads; torch built for {built}; GPU: {gpu or 'none'}")
    if gpu is not None and torch["cuda"]:
        report.problems.append(
            f"torch (built for {built}) cannot use the GPU ({gpu}): the driver is too old for it, or the GPU is hidden "
            "(CUDA_VISIBLE_DEVICES); update the driver, or install torch for an older CUDA"
        )
    elif gpu is not None and not torch["hip"]:
        report.problems.append(f"there is a GPU ({gpu}) but torch is built for CPU only: install a CUDA build of torch")


def check_data(result: dict[str, Any], data: Path, report: Report) -> None:
    """The data sets that the applications find in a folder."""
    if "error" in result:
        report.add("data", f"unknown, the applications cannot be imported: {result['error']}")
    else:
        report.add("data", "; ".join(result["found"]) or f"none in '{data}' (ean prepare_data --help)")


def check_work_dir(work_dir: Path, report: Report) -> None:
    """Whether trainings can write, and how much space is left."""
    folder = work_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
        report.add("work dir", f"{work_dir} is writable, {shutil.disk_usage(folder).free / 2**30:.0f} GiB free")
    except OSError as error:
        report.add("work dir", f"{work_dir} is not writable")
        report.problems.append(f"nothing can be written to '{folder}': {error.strerror}; choose --work-dir")


def check_self_test(result: dict[str, Any], report: Report) -> None:
    """Three training steps of a tiny network lower its loss; folded batch norms change nothing."""
    if "error" in result:
        report.add("self-test", "failed")
        report.problems.append(f"the self-test fails: {result['error']}")
        return
    first, *_, last = result["losses"]
    report.add(
        "self-test",
        f"{result['seconds']:.1f} s on {result['device']}: loss {first:.3f} -> {last:.3f} in 3 steps, folded batch "
        f"norms differ by {result['fused']:.0e}; C++ loops of fuse: {'compiled' if result.get('loops') else 'none'}",
    )
    if not last < first:
        report.problems.append(f"the self-test's loss does not fall: {first:.3f}, then {last:.3f}")
    if not result["fused"] < 1e-2:
        report.problems.append(f"the self-test's folded network differs by {result['fused']:.1e}")


def nvidia_gpu() -> str | None:
    """Name and driver of the first NVIDIA GPU, whatever torch thinks of it."""
    tool = shutil.which("nvidia-smi")
    if tool:
        query = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
        try:
            shown = subprocess.run(query, capture_output=True, text=True, timeout=20)
            if shown.returncode == 0 and shown.stdout.strip():
                return shown.stdout.strip().splitlines()[0].replace(", ", ", driver ")
        except (OSError, subprocess.TimeoutExpired):
            pass
    return "NVIDIA" if Path("/proc/driver/nvidia/version").is_file() else None


def run_python(code: str, *arguments: str) -> dict[str, Any]:
    """What a piece of Python prints as JSON from a process of its own; ``{"error": reason}`` if it fails."""
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True, text=True, timeout=LIMIT, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {LIMIT} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"error": f"killed by signal {-done.returncode}" if done.returncode < 0 else last}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def numbers(text: str) -> tuple[int, ...]:
    """``"2.7.1+cu128"`` -> (2, 7, 1)."""
    return tuple(int(part) for part in re.findall(r"\d+", text.split("+")[0])[:4])
