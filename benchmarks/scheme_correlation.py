"""Train connection schemes from scratch, one after the other, and compare them with their accuracies in a supernet.

Each training is tools/train.py's own, on a config that names the network, with one scheme; its accuracy is that of the
last epoch on the test images. One line a scheme is appended to --out; schemes that the file holds already are skipped,
so the command can be stopped and repeated, also with more schemes. With --log, the lines of a search on the supernet
(best an exhaustive one), it ends with the correlation of the two accuracies (the paper's section 5 has Pearson's) and
a picture; with schemes given by --schemes beside --random ones, also with Welch's t-test between the two groups.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ean_core.analysis.correlation import compare_groups, correlate
from ean_core.engine import load_config, train
from ean_core.engine.cli import add_config_options, command, config_of, make_parser
from ean_core.engine.models import blueprint
from ean_core.errors import UserError
from ean_core.figures import save_figure
from ean_core.figures.supernet_correlation import supernet_correlation
from ean_core.files import read_json_lines, write_atomic
from ean_core.scheme import ConnectionScheme


def settings_of(args: argparse.Namespace) -> tuple[str, tuple[int, ...]]:
    """A hash of what all trainings have in common, and the blocks of the network."""
    cfg = config_of(args)
    keys = ("model", "optim_wrapper", "param_scheduler", "train_cfg", "train_dataloader", "test_dataloader")
    text = json.dumps([cfg[key] for key in (*keys, "randomness")], default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12], blueprint(cfg.model.backbone).blocks


def train_scheme(args: argparse.Namespace, scheme: ConnectionScheme) -> dict[str, float]:
    """Train one scheme in a folder that is then thrown away: its last top-1 accuracy in % and the seconds it took."""
    with tempfile.TemporaryDirectory() as folder:
        cfg = load_config(
            args.config,
            toy=args.toy,
            scheme=str(scheme),
            data_root=args.data_root,
            classes=args.classes,
            work_dir=folder,
            launcher=args.launcher,
            options=args.cfg_options,
        )
        cfg.train_cfg.val_interval = cfg.train_cfg.max_epochs  # the accuracy of the end is all that counts
        cfg.experiment_name = f"scheme_{scheme}"
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            train(cfg)
        seconds = time.perf_counter() - start
        last = json.loads(Path(folder, "metrics.json").read_text())["last"]
    return {"accuracy": last["top1"], "seconds": round(seconds, 1)}


def train_all(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Train what the file does not hold yet, a line each; the lines of the schemes asked for."""
    key, blocks = settings_of(args)
    done = read_json_lines(args.out)
    if any(line["key"] != key for line in done):
        raise UserError(f"'{args.out}' was made with another config or other options: choose another --out")
    generator = torch.Generator().manual_seed(args.seed)
    drawn: dict[str, str] = {}
    while len(drawn) < min(args.random, 2 ** sum(blocks)):
        drawn[str(ConnectionScheme.random(blocks, 0.5, generator))] = "random"
    chosen = {str(ConnectionScheme.parse(text, blocks)): "chosen" for text in args.schemes}
    wanted = [*drawn.items(), *chosen.items()]
    for number, (name, group) in enumerate(wanted, 1):
        if any((line["scheme"], line["group"]) == (name, group) for line in done):
            continue
        twin = next((line for line in done if line["scheme"] == name), None)  # trained again it would be the same
        result = twin or train_scheme(args, ConnectionScheme.parse(name, blocks))
        line = {**result, "scheme": name, "group": group, "key": key}
        done.append(line)
        write_atomic(args.out, "".join(json.dumps(entry) + "\n" for entry in done))
        print(f"{number}/{len(wanted)}  {name}  {line['accuracy']:.2f} %  {line['seconds']:.0f} s", flush=True)
    return [line for line in done if (line["scheme"], line["group"]) in wanted]


def report(lines: Sequence[dict[str, Any]], log: Path, picture: Path) -> None:
    """Correlate with the supernet's accuracies in a search log, test the groups, draw."""
    accuracies = {entry["scheme"]: entry["accuracy"] for entry in read_json_lines(log) if not entry["failed"]}
    missing = [line["scheme"] for line in lines if line["scheme"] not in accuracies]
    if missing:
        raise UserError(f"'{log}' has no accuracy of {missing[0]} (and {len(missing) - 1} more schemes)")
    supernet: dict[str, list[float]] = {}
    alone: dict[str, list[float]] = {}
    for line in lines:
        supernet.setdefault(line["group"], []).append(accuracies[line["scheme"]])
        alone.setdefault(line["group"], []).append(line["accuracy"])
    unique = {line["scheme"]: line["accuracy"] for line in lines}  # a scheme in both groups counts once
    found = correlate([accuracies[scheme] for scheme in unique], list(unique.values()))
    title = f"{found.n} schemes: Pearson {found.pearson:.3f} (p = {found.pearson_p:.2g}), "
    title += f"Kendall {found.kendall:.3f} (p = {found.kendall_p:.2g})"
    print(title)
    groups = ""
    if len(alone) == 2:
        test = compare_groups(*alone.values())
        for group, mean, sd in zip(alone, test.means, test.sds, strict=True):
            print(f"{group:<8} {len(alone[group])} schemes: {mean:.2f} ± {sd:.2f} %")
        print(f"Welch's t-test: t = {test.t:.2f}, {test.df:.1f} degrees of freedom, p = {test.p:.2g}")
        groups = f"Welch's t-test: t = {test.t:.2f}, p = {test.p:.2g}"
    save_figure(supernet_correlation(supernet, alone, title, groups), picture)
    print(f"picture  {picture}")


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Train, correlate, draw."""
    parser = make_parser(__doc__ or "", "python benchmarks/scheme_correlation.py CONFIG --out stand_alone.jsonl")
    add_config_options(parser)
    parser.add_argument("--random", type=int, default=16, help="schemes drawn by fair coins")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--schemes", nargs="*", default=[], help="more schemes, e.g. those that searches found")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one per scheme")
    parser.add_argument("--log", type=Path, help="a search.jsonl of the supernet, for the correlation")
    args = parser.parse_args(argv)
    lines = train_all(args)
    if args.log:
        report(lines, args.log, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
