"""What users wait for before anything happens: imports, tools/train.py up to its first iteration, the data checks.

Every command runs in a fresh interpreter; figures are medians over the rounds, with quartiles. With ``--against
FOLDER`` each command runs from that checkout too, in turn, and the ratio is this one's figure by the other's, round by
round.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from PIL import Image

from crowd_counting.toy_crowds import encode_mat
from ean_core.terminal import print_table
from segmentation.voc import encode_mask

ROOT = Path(__file__).resolve().parents[1]
IMPORTS = ("ean_core", "ean_core.engine", "ean_core.search", "classification.application", "segmentation.application")
CHECKS = {  # task -> (imports, the check)
    "segmentation": ("import segmentation.check as c", "c.check_voc('voc', {'train': 'SegmentationClass'}, 21)"),
    "crowd counting": ("import crowd_counting.check as c", "c.check_crowd('crowd', 'B')"),
    "classification": (
        "from classification import datasets, sources",
        "datasets.check_files(sources.read_source('classes', 'folder', 'train'))",
    ),
}
Measure = Callable[[Path], float]  # of a checkout


def environment(checkout: Path) -> dict[str, str]:
    """This one, and the packages of a checkout."""
    return {**os.environ, "PYTHONPATH": str(checkout)}


def timed(before: str, code: str, checkout: Path, folder: Path | None = None) -> float:
    """Seconds that code takes in a fresh interpreter after other code."""
    code = f"import time\n{before}\nstart = time.perf_counter()\n{code}\nprint(time.perf_counter() - start)"
    command = [sys.executable, "-W", "ignore", "-c", code]
    env = environment(checkout)
    return float(subprocess.run(command, check=True, cwd=folder or checkout, capture_output=True, env=env).stdout)


def showing_help(tool: str, checkout: Path) -> float:
    """Seconds until a tool has shown its help and ended."""
    command = [sys.executable, tool, "--help"]
    start = time.perf_counter()
    subprocess.run(command, check=True, cwd=checkout, capture_output=True, env=environment(checkout))
    return time.perf_counter() - start


def first_iteration(config: str, checkout: Path) -> float:
    """Seconds from the start of a training on toy data to the end of its first iteration."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "history.jsonl")  # gets a line per iteration
        command = [sys.executable, "tools/train.py", config, "--toy", "--work-dir", folder]
        hooks = [hook["type"] for hook in Config.fromfile(ROOT / config).custom_hooks]
        command += ["--cfg-options", f"custom_hooks.{hooks.index('ean_core.engine.HistoryHook')}.interval=1"]
        quiet, start = subprocess.DEVNULL, time.perf_counter()
        with subprocess.Popen(command, cwd=checkout, env=environment(checkout), stdout=quiet, stderr=quiet) as process:
            while not (log.is_file() and log.stat().st_size) and process.poll() is None:
                time.sleep(0.02)
            spent = time.perf_counter() - start
            process.terminate()
    return spent


def checking(task: str, data: Path, number: int, checkout: Path) -> float:
    """Images a second of a data check that looks for the second time: the first also reads from the disk."""
    imports, check = CHECKS[task]
    return number / timed(f"{imports}\n{check}", check, checkout, data)


def make_images(root: Path, number: int) -> None:
    """JPEGs of 500x375, as large as photographs: a VOC with masks, a ShanghaiTech with 120 points, and two classes."""
    rng = np.random.default_rng(0)
    voc, crowd, classes = root / "voc", root / "crowd/part_B/train_data", root / "classes/train"
    folders = (voc / "JPEGImages", voc / "SegmentationClass", voc / "ImageSets/Segmentation")
    for folder in (*folders, crowd / "images", crowd / "ground_truth", classes / "0", classes / "1"):
        folder.mkdir(parents=True)
    for i in range(number):
        coarse = Image.fromarray(rng.integers(0, 256, (25, 32, 3), np.uint8))
        pixels = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC)) + rng.normal(0, 8, (375, 500, 3))
        image = voc / f"JPEGImages/{i}.jpg"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(image, quality=92)
        for copy in (crowd / f"images/IMG_{i}.jpg", classes / f"{i % 2}/{i}.jpg"):
            copy.write_bytes(image.read_bytes())
        labels = np.kron(rng.integers(0, 21, (15, 20), np.uint8), np.ones((25, 25), np.uint8))
        (voc / f"SegmentationClass/{i}.png").write_bytes(encode_mask(labels))
        (crowd / f"ground_truth/GT_IMG_{i}.mat").write_bytes(encode_mat(rng.uniform(0, 375, (120, 2))))
    (voc / "ImageSets/Segmentation/train.txt").write_text("\n".join(map(str, range(number))))


def show(title: str, measures: Mapping[str, Measure], repeats: int, checkouts: list[Path]) -> None:
    """Measure in turn, and print."""
    rows: dict[str, Any] = {}
    for name, measure in measures.items():
        values = np.empty((repeats, len(checkouts)))
        for turn in range(repeats):
            for i in sorted(range(len(checkouts)), reverse=turn % 2 == 1):  # neither is always the first
                values[turn, i] = measure(checkouts[i])
        rows[name] = {"here": spread(values[:, 0])}
        if len(checkouts) > 1:
            rows[name] |= {"against": spread(values[:, 1]), "ratio": spread(values[:, 0] / values[:, 1])}
    print_table(title, rows)


def spread(values: np.ndarray) -> str:
    """The median, and the lower and the upper quartile."""
    low, middle, high = (f"{v:.0f}" if v >= 100 else f"{v:.2f}" for v in np.quantile(values, (0.25, 0.5, 0.75)))
    return f"{middle} ({low}..{high})"


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: %(default)s)")
    parser.add_argument("--train", nargs="*", default=["configs/seg/ean_se_voc.py"], metavar="CONFIG")
    parser.add_argument("--images", type=int, default=400, help="of the data checks (default: %(default)s)")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout of this repository")
    args = parser.parse_args()
    rounds = args.repeats, [ROOT, *([args.against.resolve()] if args.against else [])]
    show("import, seconds", {"torch": partial(timed, "", "import torch")}, *rounds)
    imports = {name: partial(timed, "import torch", f"import {name}") for name in IMPORTS}
    show("import over torch, seconds", imports, *rounds)
    tools = {f"{tool} --help": partial(showing_help, tool) for tool in ("tools/train.py", "tools/prepare_data.py")}
    starts = {f"{config} --toy, first iteration": partial(first_iteration, config) for config in args.train}
    show("tools, seconds", {**tools, **starts}, *rounds)
    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder), args.images)
        checks = {task: partial(checking, task, Path(folder), args.images) for task in CHECKS}
        show("data checks, images a second", checks, *rounds)


if __name__ == "__main__":
    main()
