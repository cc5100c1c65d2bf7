"""Measure whether a supernet's ranking of schemes is that of networks trained on their own (docs/evidence.md).

Three parts. The last two append lines to a CSV file and skip what it holds, so they can be stopped and given again,
also with more seeds or schemes; benchmarks/evidence_report.py reads these files.

data      the first N training images of each class of CIFAR-10, and all test images, as another CIFAR-10
alone     trainings of schemes on their own, with several seeds: the accuracy of the last epoch on the test images
supernet  a supernet, and the accuracy of every scheme in it on D_val
"""

from __future__ import annotations

import argparse
import csv
import itertools
import pickle
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import HOOKS

from classification.sources import CIFAR, read_source
from ean_core.engine.cli import add_config_options, command, config_of, make_parser
from ean_core.engine.models import blueprint
from ean_core.engine.runner import registered
from ean_core.errors import UserError
from ean_core.files import write_atomic, write_csv
from ean_core.scale import build_engine
from ean_core.scheme import ConnectionScheme
from ean_core.search.supernet import SupernetHook
from ean_core.search.trained_supernet import trained_supernet
from ean_core.terminal import print_line

ALONE = ("attention", "epochs", "scheme", "seed", "top1", "seconds")
SUPERNET = ("attention", "p", "epochs", "seed", "calibration", "scheme", "accuracy")
KEEP_ORDER = 32  # schemes evaluated at once, which share their beginnings
Row = dict[str, str]


def read_rows(path: Path) -> list[Row]:
    """The lines of a CSV file, none if it is missing."""
    return list(csv.DictReader(path.read_text().splitlines())) if path.is_file() else []


def all_schemes(blocks: Sequence[int]) -> list[ConnectionScheme]:
    """Every scheme, in an order that was drawn once: however far one gets, those are a random sample."""
    schemes = [ConnectionScheme.parse("".join(b), tuple(blocks)) for b in itertools.product("01", repeat=sum(blocks))]
    random.Random(0).shuffle(schemes)
    return schemes


def make_data(root: str, images: int, out: Path) -> None:
    """Write a CIFAR-10 of the first images of each class (in the order of the files) and of all test images."""
    layout = CIFAR["cifar10"]
    folder = out / layout.folder
    train, test = (read_source(root, "cifar10" if (Path(root) / layout.folder).is_dir() else "folder", part)
                   for part in ("train", "test"))  # fmt: skip
    order = np.argsort(train.labels, kind="stable").reshape(len(train.classes), -1)[:, :images].T.ravel()
    for source, names in ((train, layout.train), (test, layout.test)):
        index = order if source is train else np.arange(len(test.labels))
        for name, part in zip(names, np.array_split(index, len(names)), strict=True):
            pixels = np.stack([_pixels(source.items[i]) for i in part]).transpose(0, 3, 1, 2).reshape(len(part), -1)
            content = {"data": pixels, layout.labels: source.labels[part].tolist()}
            write_atomic(folder / name, pickle.dumps(content))
    write_atomic(folder / layout.meta, pickle.dumps({layout.names: list(train.classes)}))
    print_line("written", f"{folder}: {len(order)} training and {len(test.labels)} test images")


def _pixels(item: Any) -> np.ndarray:
    from ean_core.images import read_image

    return read_image(item) if isinstance(item, Path) else item


def train_alone(args: argparse.Namespace) -> None:
    """Train what the file does not hold yet, two at a time on two cores."""
    cfg = config_of(args)
    backbone = cfg.model.backbone
    attention, epochs = backbone.attention["type"].rpartition(".")[2], str(cfg.train_cfg.max_epochs)
    blocks = blueprint(backbone).blocks
    cfg.pop("work_dir")
    cfg.train_cfg.val_interval = cfg.train_cfg.max_epochs  # the end is all that counts
    work = Path(args.work_dir or "work_dirs/evidence", "alone", f"{attention}-{epochs}")
    work.mkdir(parents=True, exist_ok=True)
    config = work / "config.py"
    cfg.dump(config)
    rows = read_rows(args.out)
    done = {
        (row["scheme"], int(row["seed"])) for row in rows if (row["attention"], row["epochs"]) == (attention, epochs)
    }
    chosen = (
        all_schemes(blocks) if args.schemes == ["all"] else [ConnectionScheme.parse(s, blocks) for s in args.schemes]
    )
    wanted = [(str(scheme), seed) for seed in range(args.seeds) for scheme in chosen]
    tasks = [(scheme, seed) for scheme, seed in wanted if (scheme, seed) not in done]
    arguments = [
        {
            "config": str(config),
            "folder": str(work / f"{scheme}-{seed}"),
            "seed": seed,
            "backbone": {"scheme": scheme},
            "reference": {"attention": None, "scheme": "none"},
        }
        for scheme, seed in tasks
    ]
    start = time.perf_counter()
    for number, outcome in enumerate(build_engine("local").run("ean_core.verification.runs:train_one", arguments), 1):
        scheme, seed = tasks[outcome.index]
        left = (time.perf_counter() - start) / number * (len(tasks) - number) / 60
        if outcome.error:
            print(f"{attention} {scheme} seed {seed} failed: {outcome.error}", flush=True)
            continue
        top1, seconds = outcome.value["metrics"]["top1"], outcome.value["seconds"]
        rows.append(dict(zip(ALONE, (attention, epochs, scheme, seed, f"{top1:.2f}", seconds), strict=True)))
        write_csv(args.out, ALONE, rows)
        print(f"{number}/{len(tasks)}  {attention} {scheme} seed {seed}: {top1:.2f} %, left {left:.0f} min", flush=True)


def score_supernet(args: argparse.Namespace) -> None:
    """Train a supernet for each seed where there is none, and evaluate every scheme in it."""
    rows = read_rows(args.out)
    for seed in range(args.seeds):
        for calibration in args.calibration:
            cfg = config_of(args)
            attention, epochs = cfg.model.backbone.attention["type"], cfg.train_cfg.max_epochs
            p = next(h for h in cfg.custom_hooks if registered(HOOKS, h) is SupernetHook).get("p", 0.5)
            key = (attention, str(p), str(epochs), str(seed), str(calibration))
            if any(tuple(row[name] for name in SUPERNET[:5]) == key for row in rows):
                continue
            cfg.randomness.seed = seed
            cfg.search.calibration = calibration
            cfg.work_dir = str(Path(args.work_dir or "work_dirs/evidence", f"supernet-{attention}-{p}-{epochs}-{seed}"))
            cfg.experiment_name = f"supernet_{time.time_ns()}"
            supernet = trained_supernet(cfg, [])
            schemes = all_schemes(supernet.blocks)
            for i in range(0, len(schemes), KEEP_ORDER):
                part = schemes[i : i + KEEP_ORDER]
                for scheme, found in zip(part, supernet.evaluator(part), strict=True):
                    rows.append(dict(zip(SUPERNET, (*key, str(scheme), f"{found['accuracy']:.3f}"), strict=True)))
            write_csv(args.out, SUPERNET, rows)
            print_line("scored", f"{attention}, p {p}, {epochs} epochs, seed {seed}, calibration {calibration}")


@command
def main(argv: Sequence[str] | None = None) -> None:
    """One part of the measurement."""
    parser = make_parser(__doc__ or "", "python benchmarks/evidence.py alone CONFIG --schemes full none --out a.csv")
    parser.add_argument("part", choices=("data", "alone", "supernet"))
    add_config_options(parser)
    parser.add_argument("--images", type=int, default=1000, help="data: training images a class")
    parser.add_argument("--schemes", nargs="+", default=["all"], help="alone: which, or all")
    parser.add_argument("--calibration", nargs="+", type=int, default=[0], help="supernet: batches; 0: norms as stored")
    parser.add_argument("--seeds", type=int, default=2, help="0, 1, ...")
    parser.add_argument("--out", type=Path, required=True, help="CSV file; of data the folder")
    args = parser.parse_args(argv)
    if args.seeds < 1 or args.images < 1:
        raise UserError("--seeds and --images must be at least 1")
    if args.part == "data":
        make_data(args.data_root or args.config, args.images, args.out)
    else:
        {"alone": train_alone, "supernet": score_supernet}[args.part](args)


if __name__ == "__main__":
    main()
