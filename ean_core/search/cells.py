"""The search of cells from a config: a supernet learns its weights on D_train and its architecture on D_val.

One epoch after the other (:class:`~ean_core.search.cell_training.CellTraining`), until the last one or an early stop;
then what is left of the supernet is a genotype.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from ean_core.application import find_application
from ean_core.cells.genotype import Genotype
from ean_core.checkpoint import write_checkpoint
from ean_core.engine.environment import environment
from ean_core.engine.shipped import short_name
from ean_core.engine.space import checkpoint_size
from ean_core.errors import UserError
from ean_core.figures import save_figure
from ean_core.files import append_json_line, read_json_lines, write_atomic, write_json_lines, written
from ean_core.search.cell_perturbation import DECISIONS, Judge, perturb
from ean_core.search.cell_plan import Plan, Stop, read_plan
from ean_core.search.cell_resume import FREE, GENOTYPE, HISTORY, STATE, Entry, check_nothing_is_lost, restore
from ean_core.search.cell_selection import count_skips, entropies, read_probabilities, select
from ean_core.search.cell_training import CellTraining
from ean_core.search.found import Found
from ean_core.search.loop import LOG, SCHEME
from ean_core.search.made_with import note_config
from ean_core.search.status import CellProgress
from ean_core.stopping import running, steps
from ean_core.terminal import print_line, print_next, tool
from ean_core.work_dir import begin, require_space, set_aside, working_in

PLOT = "search.png"
FILES = (HISTORY, STATE, DECISIONS, GENOTYPE, PLOT)


def run_cell_search(cfg: Config, resume: bool = False, options: Sequence[str] | None = None) -> Found:
    """Search cells, and write ``cells.jsonl``, ``cells_state.pth``, ``genotype.json`` and ``search.png``.

    Killed at any moment and resumed, a search on a CPU ends with the same files as one that ran through.

    Args:
        cfg: A complete config with ``search = dict(type="cells", ...)``. It is not changed.
        resume: Continue the search in the work directory. Otherwise the files of an earlier search are moved to
            ``previous/``.
        options: What the command to train the network needs besides, e.g. ``["--toy"]``, for the proposal of the next
            command; ``None``: propose none.

    Returns:
        The content of ``genotype.json``.

    Raises:
        UserError, OSError: What the user can mend: data, config, paths, a search made with other settings, nothing to
            resume, another run in the work directory, a full disk.
    """
    cfg, work_dir = copy.deepcopy(cfg), Path(cfg.work_dir)
    plan = read_plan(cfg)
    if cfg.get("launcher", "none") != "none":
        raise UserError("a search of cells runs in one process: leave out --launcher")
    for name in (LOG, SCHEME):
        if (work_dir / name).is_file():
            raise UserError(f"'{work_dir}' holds a search for schemes ({name}): choose another --work-dir")
    application = find_application(cfg)
    if resume and not (work_dir / STATE).is_file():
        check_nothing_is_lost(work_dir)
        raise FileNotFoundError(f"nothing to resume: '{work_dir / STATE}' does not exist (start without --resume)")
    before = written(work_dir / STATE)
    with (
        running(lambda: "the search", lambda: resume or written(work_dir / STATE) not in (None, before)),
        working_in(work_dir, (*FILES, Path(cfg.filename).name, "environment.json")),
    ):
        application.check(cfg, train=True)
        torch.backends.cudnn.benchmark = bool(cfg.get("env_cfg", {}).get("cudnn_benchmark"))
        training = CellTraining(cfg, plan)
        weights, moments = checkpoint_size(cfg, training.model)
        require_space(work_dir, (weights + moments) * (1 if resume else 2))
        judge = Judge(training, application) if plan.selection == "perturbation" else None
        settings = _settings(cfg)
        _begin(training, work_dir, settings, resume)
        if not resume:
            _save(training, work_dir, settings)  # from here on a killed search can be resumed
        write_atomic(work_dir / Path(cfg.filename).name, cfg.pretty_text)
        write_atomic(work_dir / "environment.json", json.dumps(environment(), indent=2) + "\n")
        note_config(cfg, work_dir, options or ())
        print(header(training), flush=True)

        with running(lambda: f"epoch {training.epoch + 1}", lambda: True):
            history = search_cells(training, work_dir, settings)
        chosen = good_epoch(history, plan.stop)
        if judge is None:
            genotype = select(chosen, training.space, plan.max_skips)
        else:
            genotype = perturb(training, lambda: judge()["loss"], work_dir, lambda: _save(training, work_dir, settings))
        result = _result(training, genotype, history, chosen)
        if judge is not None:
            result["perturbation"] = {**asdict(plan.perturbation), **judge()}
        write_atomic(work_dir / GENOTYPE, json.dumps(result, indent=2) + "\n")
        _draw(genotype, history, training, work_dir / PLOT)
    _report(result, work_dir)
    if options is not None:
        print_next(tool("train"), plan.retrain, "--genotype", work_dir / GENOTYPE, *options)
    return Found(result, work_dir / PLOT)


def search_cells(training: CellTraining, work_dir: Path, settings: Mapping[str, Any]) -> list[Entry]:
    """Train until the last epoch or an early stop.

    Returns:
        The lines of ``cells.jsonl``: one an epoch.
    """
    history = read_json_lines(work_dir / HISTORY)
    epochs, plan = training.cfg.train_cfg.max_epochs, training.plan
    with CellProgress(epochs, len(training.train_loader), history) as progress, steps() as done:

        def seen(values: Mapping[str, torch.Tensor]) -> None:
            progress.step(values)
            done()

        while training.epoch < epochs and not (history and history[-1].get("stopped")):
            lr = training.optimizer.param_groups[0]["lr"]
            means = training.run_epoch(seen)
            history.append(describe(training, means, lr))
            reason = stop_reason(history, plan)
            if reason is not None:
                history[-1]["stopped"] = reason
            append_json_line(work_dir / HISTORY, history[-1])  # first: the state must never be ahead of the log
            _save(training, work_dir, settings)
            progress.epoch(history[-1])
    return history


def describe(training: CellTraining, means: Mapping[str, float], lr: float) -> Entry:
    """An epoch as a line of ``cells.jsonl``.

    ``genotype`` is what the search would find if it ended here; ``skips`` counts the skip connections of its normal
    cell without ``search.max_skips``.
    """
    space, probabilities = training.space, read_probabilities(training.supernet)
    return {
        "epoch": training.epoch,
        "learning_architecture": training.epoch > training.plan.warmup,
        **means,
        "lr": lr,
        **entropies(probabilities),
        "skips": count_skips(select(probabilities, space))["normal"],
        "genotype": select(probabilities, space, training.plan.max_skips).as_dict(),
        **probabilities,
    }


def stop_reason(history: Sequence[Entry], plan: Plan) -> str | None:
    """Why to stop behind the last epoch of a history, in words; ``None``: there is no reason."""
    stop, last = plan.stop, history[-1]
    counted = [entry for entry in history if entry["epoch"] > max(stop.after, plan.warmup)]
    if not counted:
        return None
    if stop.skips is not None and last["skips"] > stop.skips and _good(history, stop) is not None:
        return f"the normal cell has {last['skips']} skip connections, more than {stop.skips}"
    same = [entry["genotype"] == last["genotype"] for entry in counted[-(stop.patience or 0) - 1 :]]
    if stop.patience is not None and len(same) > stop.patience and all(same):
        return f"the genotype has not changed for {stop.patience} epochs"
    return None


def good_epoch(history: Sequence[Entry], stop: Stop) -> Entry:
    """The epoch that the genotype is of: the last, or where skip connections stopped the search the last without."""
    last = history[-1]
    if last.get("stopped") and stop.skips is not None and last["skips"] > stop.skips:
        return _good(history, stop) or last
    return last


def _good(history: Sequence[Entry], stop: Stop) -> Entry | None:
    """The last epoch without too many skip connections, from ``stop.after`` on and behind the warm-up."""
    learned = [entry for entry in history if entry["learning_architecture"] and entry["epoch"] >= stop.after]
    good = [entry for entry in learned if stop.skips is None or entry["skips"] <= stop.skips]
    return good[-1] if good else None


def _begin(training: CellTraining, work_dir: Path, settings: Mapping[str, Any], resume: bool) -> None:
    """Go on from what lies in the work directory, or make room there."""
    lines = restore(training, work_dir, settings) if resume else []
    begin()
    if not resume:
        set_aside(work_dir, FILES)
    write_json_lines(work_dir / HISTORY, lines)


def _save(training: CellTraining, work_dir: Path, settings: Mapping[str, Any]) -> None:
    write_checkpoint({"settings": settings, **training.state_dict()}, work_dir / STATE)


def _settings(cfg: Config) -> dict[str, Any]:
    """What a search depends on."""
    keys = ("model", "optim_wrapper", "param_scheduler", "train_dataloader", "search", "randomness")
    settings = {"epochs": cfg.train_cfg.max_epochs, **{key: cfg[key] for key in keys if key in cfg}}
    settings["search"] = {name: value for name, value in cfg.search.items() if name not in (*FREE, "retrain")}
    settings |= {name: cfg.search.get(name) for name in FREE}
    settings["d_val"] = cfg.val_dataloader.dataset
    plain: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return plain


def _result(training: CellTraining, genotype: Genotype, history: Sequence[Entry], chosen: Entry) -> dict[str, Any]:
    """The content of ``genotype.json``."""
    plan, backbone = training.plan, training.cfg.model.backbone
    stopped = history[-1].get("stopped")
    return {
        "genotype": genotype.as_dict(),
        "selection": plan.selection,
        "seed": training.seed,
        "epoch": chosen["epoch"],
        "epochs": training.epoch,
        "stopped": stopped,
        "order": plan.order,
        "partial": backbone.get("partial", 1),
        "channels": backbone.get("channels"),
        "layers": backbone.get("layers"),
        "operations": list(training.space.operations),
        "attentions": list(training.space.attentions),
        "skips": count_skips(genotype),
        **{name: value for name, value in chosen.items() if name.startswith(("entropy_", "val_", "train_"))},
        "weights": training.digest(),
    }


def _draw(genotype: Genotype, history: Sequence[Entry], training: CellTraining, path: Path) -> None:
    from ean_core.figures.cell_search import draw_search  # Matplotlib: not before there is a result

    save_figure(draw_search(genotype, history, training.space.operations, training.space.attentions), path)


def header(training: CellTraining) -> str:
    """What is searched, on what, in a few lines."""
    cfg, space = training.cfg, training.space
    backbone = cfg.model.backbone
    size = sum(p.numel() for p in training.model.parameters()) / 1e6
    partial = backbone.get("partial", 1)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    lines = {
        "config": short_name(cfg.filename or "-"),
        "task": cfg.get("task", "-"),
        "supernet": f"{backbone.get('layers')} cells of {backbone.get('channels')} channels, {size:.3f} M parameters"
        + (f", 1/{partial} of the channels through the candidates" if partial > 1 else ""),
        "operations": ", ".join(space.operations),
        "attentions": ", ".join(space.attentions),
        "data": f"D_train {training.images[0]}, D_val {training.images[1]} images",
        "device": device,
        "work dir": cfg.work_dir,
    }
    if training.epoch:
        lines["resumed"] = f"after epoch {training.epoch}"
    return "\n".join(f"{name:<11} {text}" for name, text in lines.items())


def _report(result: Mapping[str, Any], work_dir: Path) -> None:
    """The cells, where they come from, and the files."""
    if result["stopped"]:
        print_line("stopped", f"after epoch {result['epochs']}: {result['stopped']}")
    if result["epoch"] != result["epochs"]:
        print_line("cells of", f"epoch {result['epoch']}, the last one before")
    for cell, text in result["genotype"].items():
        print_line(cell, text)
    for label, name in {"history": HISTORY, "picture": PLOT, "genotype": GENOTYPE}.items():
        print_line(label, work_dir / name)
