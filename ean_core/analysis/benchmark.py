"""A table of what attention costs: Eq. 9, parameters, multiply-accumulates and memory of several configs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ean_core.analysis.complexity import count_macs, count_parameters, peak_bytes
from ean_core.application import find_application
from ean_core.deploy import fuse as fuse_model
from ean_core.engine.config import read_config
from ean_core.engine.environment import environment
from ean_core.engine.models import build_model
from ean_core.errors import UserError
from ean_core.files import write_atomic
from ean_core.inference.predictor import find_device
from ean_core.plug import find_staged
from ean_core.terminal import print_line, print_table
from ean_core.timing import interleave, ratio, synchronizer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def build(path: str, **options: Any) -> nn.Module:
    """The model of a config with random weights and lively batch norms, in evaluation mode. No data has to exist.

    Args:
        path: The config.
        options: Changes to it, by dotted name.

    Raises:
        FileNotFoundError, UserError: There is no such config, or it has no model.
    """
    cfg = read_config(Path(path))
    if "model" not in cfg:
        raise UserError(f"'{path}' has no model: name a config of configs/cls, configs/seg or configs/crowd")
    cfg.merge_from_dict(options)
    find_application(cfg).configure_prediction(cfg, None)  # also registers what its models are made of
    torch.manual_seed(0)
    return build_model(cfg).eval()


def benchmark(
    configs: Sequence[str],
    out: str | Path,
    batch: int = 50,
    size: int | None = None,
    repeats: int = 20,
    device: str = "cpu",
    dtype: str = "float32",
    channels_last: bool = False,
    compile: bool = False,
    fuse: bool = False,
    accuracies: Mapping[str, float] | None = None,
) -> tuple[list[dict[str, Any]], str]:
    """Measure networks side by side in one process, print the table, and write ``OUT.json``.

    The first config whose backbone has no attention is what increments refer to.

    Args:
        configs: Paths of configs with models of one kind.
        out: Path of the results, without suffix.
        batch: Images at once; 50 in the paper.
        size: Side of the images; by default what the first network is made for, 32 on CIFAR, else 224.
        repeats: Rounds, each of which runs every network once.
        device: Such as ``"cpu"`` or ``"cuda"``.
        dtype: Of weights and images.
        channels_last: Memory format of weights and images.
        compile: Run the networks through ``torch.compile``.
        fuse: Run fused copies.
        accuracies: In %, by the stems of the configs' names, for the picture.

    Returns:
        A row for each config, with the part of its name that the others do not have: milliseconds, increment with
        quartiles (%), parameters, MACs an image, peak bytes; and what was measured, in words.

    Raises:
        UserError: No network without attention, an unknown dtype, or no such device.
    """
    target = find_device(device)
    if dtype not in DTYPES:
        raise UserError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if batch < 1 or repeats < 1 or (size is not None and size < 1):
        raise UserError("batch, size and repeats must be positive")
    models = {Path(path).stem: build(path) for path in configs}
    plain = next((name for name, model in models.items() if find_staged(model).attention is None), None)
    if plain is None:
        raise UserError("Eq. 9 needs the network without attention: add a config such as configs/cls/..._org_....py")
    side = size or int(getattr(find_staged(models[plain]), "image_size", 224))
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    rows = {
        name: {"name": name, "parameters": count_parameters(model), "macs": count_macs(partial(model, image))}
        for name, model in models.items()
    }
    images = image.expand(batch, -1, -1, -1).to(target, DTYPES[dtype]).contiguous()
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    calls: dict[str, Callable[[], Any]] = {}
    for name, model in models.items():
        model = (fuse_model(model) if fuse else model).to(target, DTYPES[dtype])
        if channels_last and not fuse:  # which is channels-last already
            model.to(memory_format=torch.channels_last)
        rows[name]["peak_bytes"] = _peak(partial(model, images), target)
        calls[name] = partial(torch.compile(model) if compile else model, images)
    with torch.inference_mode():
        times = interleave(calls, repeats, warmup=3, synchronize=synchronizer(target))
    for name, row in rows.items():
        found = ratio(times[name], times[plain])
        row["milliseconds"] = 1e3 * sorted(times[name])[len(times[name]) // 2]
        row["increment"], row["low"], row["high"] = (100 * (r - 1) for r in (found.median, found.low, found.high))
        row["accuracy"] = (accuracies or {}).get(name)
    settings = {"batch": batch, "size": side, "repeats": repeats, "device": device, "dtype": dtype}
    settings |= {"channels_last": channels_last, "compile": compile, "fuse": fuse, "reference": plain}
    return _report(list(rows.values()), settings, Path(out))


def _report(
    rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], out: Path
) -> tuple[list[dict[str, Any]], str]:
    """Print the table and write the file; the rows with short names, and the table's title."""
    ways = [key for key in ("channels_last", "compile", "fuse") if settings[key]]
    title = f"batch {settings['batch']}, {settings['size']} px, {settings['dtype']}, {settings['device']}"
    title = ", ".join([title, *ways])
    names = short_names([row["name"] for row in rows])
    short = [{**row, "name": name} for row, name in zip(rows, names, strict=True)]
    table: dict[str, Any] = {
        row["name"]: {
            "ms": row["milliseconds"],
            "Eq. 9, %": row["increment"],
            "quartiles": f"{row['low']:.1f}..{row['high']:.1f}",
            "params, M": f"{row['parameters'] / 1e6:.3f}",
            "GMACs": f"{row['macs'] / 1e9:.4f}",
            "peak, MB": row["peak_bytes"] / 1e6,
        }
        for row in short
    }
    print_table(title, table)
    record = {"settings": settings, "rows": short, "environment": environment()}
    write_atomic(out.with_name(f"{out.name}.json"), json.dumps(record, indent=2) + "\n")
    print_line("results", f"{out}.json")
    return short, title


def short_names(names: Sequence[str]) -> list[str]:
    """Names without what all of them begin and end with, word by word."""
    words = [name.split("_") for name in names]
    if len(set(names)) == 1:
        return list(names)
    while all(len(w) > 1 and w[0] == words[0][0] for w in words):
        words = [w[1:] for w in words]
    while all(len(w) > 1 and w[-1] == words[0][-1] for w in words):
        words = [w[:-1] for w in words]
    return ["_".join(w) for w in words]


def _peak(function: Callable[[], Any], device: torch.device) -> int:
    if device.type != "cuda":
        return peak_bytes(function)
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    with torch.no_grad():
        function()
    return torch.cuda.max_memory_allocated(device) - before
