"""What users wait for before anything happens: imports, and tools/train.py up to its first iteration on toy data.

Every command runs in a fresh interpreter, in turn; figures are medians over the rounds. The first iteration is that of
the history that training writes, so a work directory is made and removed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mmengine.config import Config

from ean_core.engine.run import print_table

ROOT = Path(__file__).resolve().parents[1]
IMPORTS = ("torch", "ean_core", "ean_core.engine", "ean_core.search", "classification.task", "segmentation.task")


def seconds(*code: str) -> float:
    """Of a fresh interpreter."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *code], check=True, cwd=ROOT, capture_output=True, env=environment())
    return time.perf_counter() - start


def environment() -> dict[str, str]:
    """This one, and the packages of this folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def first_iteration(config: str) -> float:
    """Seconds from the start of a training on toy data to the end of its first iteration."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "history.jsonl")
        command = [sys.executable, "tools/train.py", config, "--toy", "--work-dir", folder]
        hooks = [hook["type"] for hook in Config.fromfile(ROOT / config).custom_hooks]
        command += ["--cfg-options", f"custom_hooks.{hooks.index('ean_core.engine.HistoryHook')}.interval=1"]
        start = time.perf_counter()
        with subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            while not (log.is_file() and log.stat().st_size) and process.poll() is None:
                time.sleep(0.02)
            spent = time.perf_counter() - start
            process.terminate()
    return spent


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--train", nargs="*", default=["configs/seg/ean_se_voc.py"], metavar="CONFIG")
    args = parser.parse_args()
    times = {name: [seconds("-W", "ignore", "-c", f"import {name}") for _ in range(args.repeats)] for name in IMPORTS}
    medians = {name: statistics.median(values) for name, values in times.items()}
    print_table("import", {n: {"seconds": s, "over torch": s - medians["torch"]} for n, s in medians.items()})
    rows = {
        "tools/train.py --help": {"seconds": statistics.median(seconds("tools/train.py", "--help") for _ in range(3))}
    }
    for config in args.train:
        spent = statistics.median(first_iteration(config) for _ in range(3))
        rows[f"{config} --toy, to its first iteration"] = {"seconds": spent}
    print_table("tools", rows)


if __name__ == "__main__":
    main()
