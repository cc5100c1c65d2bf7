"""The losses of crowd counting beside each other: the same network, data, schedule and seeds, another loss.

    python benchmarks/crowd_losses.py --data-root data

A plain ResNet-18 under ``head=conv1x1`` learns from random weights on small crops of both parts of ShanghaiTech, once
for each loss and seed, and is tested on whole images as it is after the last epoch, since five
validation images choose nothing; all images are reduced to 384 pixels a side at most. It prints a table:
errors of the test as the mean over the seeds, with each seed's in brackets, and the processor time of a training on one
thread. Small networks trained for a minute say little of large ones trained for days.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from mmengine.logging import MMLogger

from crowd_counting.shanghaitech import PARTS, find_part
from ean_core.engine import evaluate, load_config, train

LOSSES = ("mse", "bayesian", "dm_count")
CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "crowd"
ERRORS = ("MAE", "MSE (RMSE)", "MAE of mean")


def options(loss: str, seed: int, epochs: int, crop: int) -> dict[str, Any]:
    """What every run has in common, and its loss and seed."""
    own = {"model.loss.background_distance": 0.15 * 288} if loss == "bayesian" else {}
    return {
        **own,
        "loss": loss,
        "randomness.seed": seed,
        "longest": 384,
        "model.loss.label_scale": 10.0,  # reduced images have ten times the people in a cell
        "head": "conv1x1",
        "model.backbone.depth": 18,
        "train_dataloader.batch_size": 4,
        "train_dataloader.num_workers": 0,
        "val_dataloader.num_workers": 0,
        "test_dataloader.num_workers": 0,
        "train_dataloader.dataset.augment.crop": (crop, crop),
        "optim_wrapper.optimizer.lr": 1e-3,
        "schedules.c3f.param_scheduler.0.gamma": 0.1 ** (1 / epochs),
        "train_cfg.max_epochs": epochs,
        "train_cfg.val_interval": epochs,
        "visualizer": None,
    }


def run(part: str, loss: str, seed: int, args: argparse.Namespace) -> tuple[dict[str, float], float]:
    """Train and test once: the errors, and the seconds of the training."""
    folder = Path(args.work_dir, f"{part}-{loss}-{seed}")
    given = {**options(loss, seed, args.epochs, args.crop), "experiment_name": f"{part}-{loss}-{seed}-{time.time_ns()}"}
    cfg = load_config(CONFIGS / f"org_sh{part.lower()}.py", data_root=args.data_root, work_dir=folder, options=given)
    began = time.process_time()
    train(cfg)
    seconds = time.process_time() - began
    MMLogger.get_current_instance().setLevel("ERROR")
    return evaluate(cfg, folder / "last.pth"), seconds


def line(part: str, loss: str, results: Sequence[tuple[dict[str, float], float]]) -> str:
    """A row of the table."""
    cells = []
    for name in ERRORS[:2]:
        values = [metrics[name] for metrics, _ in results]
        cells.append(f"{statistics.mean(values):.1f} ({', '.join(f'{value:.1f}' for value in values)})")
    mean = results[0][0][ERRORS[2]]
    seconds = statistics.mean(seconds for _, seconds in results)
    return f"| {part} | `{loss}` | {' | '.join(cells)} | {mean:.1f} | {seconds:.0f} s |"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True, help="a folder with part_A_final and part_B_final")
    parser.add_argument("--work-dir", default="work_dirs/crowd_losses", help="the runs' folder")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--crop", type=int, default=96, help="side of the training crops in pixels")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    kinds = [(part, loss) for part in PARTS if find_part(args.data_root, part) is not None for loss in LOSSES]
    results: dict[tuple[str, str], list[tuple[dict[str, float], float]]] = {kind: [] for kind in kinds}
    for seed in range(args.seeds):
        for part, loss in kinds:
            results[part, loss].append(run(part, loss, seed, args))
    print("\n| part | loss | MAE | MSE (RMSE) | MAE of mean | training |\n|---|---|---|---|---|---|")
    print("\n".join(line(*kind, results[kind]) for kind in kinds))


if __name__ == "__main__":
    main()
