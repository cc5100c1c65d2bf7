"""Train networks of several genotypes from scratch, alike and with the same seeds, and compare their accuracies.

Each training is tools/train.py's own on the config of a network of cells; its accuracy is that of the last epoch on
the test images. One line a training is appended to --out; trainings that the file holds already are skipped, so the
command can be stopped and repeated, also with more genotypes or seeds. It ends with a table.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from ean_core.cells import Genotype
from ean_core.engine import train
from ean_core.engine.cli import add_config_options, command, config_of, make_parser
from ean_core.engine.models import build_model
from ean_core.errors import UserError
from ean_core.files import append_json_line, read_json_lines
from ean_core.memory import keep_freed_memory
from ean_core.terminal import print_table

LIKE = 0.1  # random genotypes have as many parameters as the first one, give or take this fraction


def chosen(args: argparse.Namespace, cfg: Config) -> dict[str, Genotype]:
    """The genotypes by their names."""
    found: dict[str, Genotype] = {}
    for word in args.genotypes:
        name, equals, spec = word.partition("=")
        if not equals:
            raise UserError(f"--genotypes takes NAME=GENOTYPE, got '{word}'")
        found[name] = Genotype.load(spec)
    for name in args.plain:
        if name not in found:
            raise UserError(f"--plain {name}: no such name among --genotypes")
        found[f"{name} without attention"] = found[name].with_attention(None)
    size = parameters(cfg, next(iter(found.values())))
    generator = torch.Generator().manual_seed(args.draw)
    for number in range(1, args.random + 1):
        while True:
            genotype = Genotype.random(generator)
            if abs(parameters(cfg, genotype) / size - 1) <= LIKE:
                break
        found[f"random {number}"] = genotype
    return found


def parameters(cfg: Config, genotype: Genotype) -> int:
    """Of the backbone."""
    cfg.model.backbone.genotype = str(genotype)
    with torch.device("meta"):
        model: Any = build_model(cfg)
    return sum(p.numel() for p in model.backbone.parameters())


def train_one(cfg: Config, name: str, genotype: Genotype, seed: int) -> dict[str, Any]:
    """Train one network in a folder that is then thrown away; a line of the file."""
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        cfg.model.backbone.genotype, cfg.work_dir = str(genotype), folder
        cfg.randomness = {"seed": seed}
        cfg.train_cfg.val_interval = cfg.train_cfg.max_epochs  # the accuracy of the end is all that counts
        cfg.experiment_name = f"genotype_{name.replace(' ', '_')}_{seed}"
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            train(cfg)
        last = json.loads(Path(folder, "metrics.json").read_text())["last"]
    seconds = round(time.perf_counter() - start, 1)
    return {"name": name, "seed": seed, "accuracy": last["top1"], "seconds": seconds, "genotype": genotype.as_dict()}


def settings_of(cfg: Config) -> str:
    """A hash of what all trainings have in common."""
    keys = ("model", "optim_wrapper", "param_scheduler", "train_cfg", "train_dataloader", "val_dataloader")
    settings = json.loads(json.dumps([cfg[key] for key in keys], default=str))
    settings[0]["backbone"].pop("genotype")
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def report(lines: Sequence[dict[str, Any]], genotypes: dict[str, Genotype], cfg: Config) -> None:
    """The table: mean, and the range over the seeds."""
    rows = {}
    for name, genotype in genotypes.items():
        accuracies = [line["accuracy"] for line in lines if line["name"] == name]
        rows[name] = {
            "params, M": f"{parameters(cfg, genotype) / 1e6:.3f}",
            "top1, %": statistics.mean(accuracies),
            "seeds": " ".join(f"{accuracy:.2f}" for accuracy in accuracies),
        }
    print_table("test accuracy after training from scratch", rows)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Train what is missing, then print the table."""
    parser = make_parser(__doc__ or "", "python benchmarks/compare_genotypes.py CONFIG --genotypes published=att-darts")
    add_config_options(parser)
    parser.add_argument("--genotypes", nargs="+", required=True, metavar="NAME=GENOTYPE")
    parser.add_argument("--plain", nargs="*", default=[], metavar="NAME", help="these also without their attentions")
    parser.add_argument("--random", type=int, default=0, help="random genotypes of the first one's size")
    parser.add_argument("--draw", type=int, default=0, help="seed of the random genotypes")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each")
    parser.add_argument("--processes", type=int, default=2, help="trainings at once, each on one core")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one a training")
    args = parser.parse_args(argv)
    cfg = config_of(args)
    key = settings_of(cfg)
    genotypes = chosen(args, cfg)
    done = read_json_lines(args.out)
    if any(line["key"] != key for line in done):
        raise UserError(f"'{args.out}' was made with another config or other options: choose another --out")
    there = {(line["name"], line["seed"]) for line in done}
    jobs = [(name, seed) for seed in range(args.seeds) for name in genotypes if (name, seed) not in there]
    with ProcessPoolExecutor(args.processes, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(train_one, cfg, name, genotypes[name], seed) for name, seed in jobs]
        for number, future in enumerate(as_completed(running), 1):
            line = {**future.result(), "key": key}
            done.append(line)
            append_json_line(args.out, line)
            text = f"{line['name']}, seed {line['seed']}: {line['accuracy']:.2f} %, {line['seconds']:.0f} s"
            print(f"{number}/{len(jobs)}  {text}", flush=True)
    report([line for line in done if line["name"] in genotypes], genotypes, cfg)


if __name__ == "__main__":
    main()
