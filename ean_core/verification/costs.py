"""What a verification knows without training: what the networks cost, and how the supernet has judged them."""

from __future__ import annotations

import copy
import json
import math
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config

from ean_core.analysis.complexity import count_parameters
from ean_core.application import find_application
from ean_core.checkpoint import epoch_of, read_checkpoint
from ean_core.engine.models import build_model
from ean_core.engine.saving import LAST
from ean_core.files import read_json, write_atomic
from ean_core.scheme import ConnectionScheme
from ean_core.search.log import metrics_of, read_log
from ean_core.search.loop import LOG
from ean_core.search.trained_supernet import SUPERNET, trained_supernet
from ean_core.timing import interleave, ratio, synchronizer
from ean_core.verification.plan import FOUND, PLAIN, Contestant
from ean_core.verification.runs import change_backbone
from ean_core.verification.setup import Search, build_dataset, metric_of

SMALL, REPEATS = 64, 20
"""Images up to this side are timed 8 at once, others one by one; so many rounds."""


def measure_costs(cfg: Config, who: Sequence[Contestant], path: Path) -> dict[str, dict[str, float]]:
    """Eq. 9 of every network over the one without attention, all timed in turn in this process; and parameters.

    Args:
        cfg: The config of the trainings.
        who: The networks.
        path: Where the numbers are kept; they are measured anew when a network is missing there.

    Returns:
        By name: ``increment`` with its quartiles ``low_increment`` and ``high_increment`` in %, ``milliseconds`` and
        ``parameters``.
    """
    known = read_json(path) if path.is_file() else {}
    if all(c.name in known for c in who):
        return {c.name: known[c.name] for c in who}
    application, models = find_application(cfg), {}
    for c in who:
        own = copy.deepcopy(cfg)
        change_backbone(own.model, c.backbone)
        torch.manual_seed(0)
        models[c.name] = build_model(own).eval()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = _images(cfg).to(device)
    calls = {name: partial(application.forward, model.to(device), images) for name, model in models.items()}
    with torch.inference_mode():
        times = interleave(calls, REPEATS, warmup=2, synchronize=synchronizer(device))
    reference = next((c.name for c in who if c.name in PLAIN), FOUND)
    found = {}
    for name, model in models.items():
        eq9 = ratio(times[name], times[reference])
        found[name] = {
            "increment": eq9.increment,
            "low_increment": 100 * (eq9.low - 1),
            "high_increment": 100 * (eq9.high - 1),
            "milliseconds": 1e3 * statistics.median(times[name]),
            "parameters": count_parameters(model),
        }
    write_atomic(path, json.dumps(found, indent=2) + "\n")
    return found


def _images(cfg: Config) -> torch.Tensor:
    """Random images like the first test image, the sides of large ones rounded up to multiples of 32."""
    shape = build_dataset(cfg, "test_dataloader")[0]["inputs"].shape
    sides = shape[:2] if shape[-1] == 3 else shape[-2:]
    height, width = (math.ceil(side / 32) * 32 if side > SMALL else side for side in sides)
    batch = 8 if max(height, width) <= SMALL else 1
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def supernet_scores(
    search: Search, who: Sequence[Contestant], logs: Sequence[str | Path], path: Path
) -> dict[str, float]:
    """The supernet's metric on D_val by scheme, turned so that more is better.

    Scores come from the search's log; schemes that it does not know are evaluated, where the supernet is still there.

    Args:
        search: The search; one for cells has no such scores.
        who: The networks.
        logs: Further logs of searches on this supernet.
        path: Where the scores are kept.
    """
    if search.cells:
        return {}
    _, more_is_better = metric_of(search.cfg)
    sign = 1 if more_is_better else -1
    known: dict[str, float] = read_json(path) if path.is_file() else {}
    for log in (search.folder / LOG, *map(Path, logs)):
        for entry in read_log(log):
            value = next(iter(metrics_of(entry).values()))
            if math.isfinite(value):
                known.setdefault(entry["scheme"], sign * value)
    missing = list(dict.fromkeys(c.scheme for c in who if c.scheme not in known))
    cfg = copy.deepcopy(search.cfg)
    cfg.work_dir = str(search.folder)
    checkpoint = Path(cfg.search.get("supernet") or search.folder / SUPERNET / LAST)
    if missing and checkpoint.is_file():
        own = not cfg.search.get("supernet")
        if not own or epoch_of(read_checkpoint(checkpoint), checkpoint) >= cfg.train_cfg.max_epochs:
            supernet = trained_supernet(cfg, ())
            found = supernet.evaluator([ConnectionScheme.parse(text, supernet.blocks) for text in missing])
            values = [next(iter(metrics.values())) for metrics in found]
            known |= {text: sign * value for text, value in zip(missing, values, strict=True) if math.isfinite(value)}
    scores = {c.scheme: known[c.scheme] for c in who if c.scheme in known}
    write_atomic(path, json.dumps(scores, indent=2) + "\n")
    return scores
