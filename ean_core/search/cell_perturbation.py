"""The genotype of a trained supernet by perturbation: Wang et al., "Rethinking Architecture Selection", ICLR 2021.

A candidate is as strong as the loss on D_val suffers when it is taken away, whatever its probability. Decisions are
made one by one: the operation of every edge, then the two edges of every node, then the attention of every edge that
is left; each keeps what hurts most, and the supernet may be trained a little behind it. Within a cell their order is
drawn from the seed.

Different from the paper: what is left of an edge is renormalised (the authors' code sets a probability to 0 and leaves
the others), the loss decides and not the accuracy, and there are attentions. Like the authors' code it measures with
the statistics of each batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.registry import DATASETS, DefaultScope
from rich.progress import TextColumn
from torch.utils.data import Subset

from ean_core.application import Application
from ean_core.cells.genotype import Edge, Genotype
from ean_core.engine.reproduce import reseed
from ean_core.errors import UserError, building
from ean_core.files import append_json_line, read_json_lines, write_json_lines
from ean_core.search.bilevel import traceless
from ean_core.search.cell_selection import CELLS, NONE, Space
from ean_core.search.cell_training import CellTraining
from ean_core.stopping import steps
from ean_core.terminal import progress_bar

DECISIONS = "decisions.jsonl"
START_ANEW = "start without --resume, which moves it to previous/"
Entry = dict[str, Any]


class Question(NamedTuple):
    """What is to be decided: the ``operations`` or ``attentions`` of an edge, or the ``sources`` of a node."""

    kind: str
    cell: str
    place: int


class Judge:
    """The loss and the metric of the supernet as it stands, on D_val without augmentation.

    Args:
        training: The supernet.
        application: Its task, which knows how predictions are made and measured.

    Raises:
        UserError: The task cannot evaluate the model.
    """

    def __init__(self, training: CellTraining, application: Application) -> None:
        cfg, images = training.cfg, training.plan.perturbation.images
        self.training, self.how = training, application.evaluation(training.model, cfg)
        scope = DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine"))
        with building("val_dataloader.dataset"), scope:
            dataset = DATASETS.build(dict(cfg.val_dataloader.dataset))
        size = min(images or len(dataset), len(dataset))
        batches = list(self.how.read(Subset(dataset, [i * len(dataset) // size for i in range(size)])))
        # Some norms cannot take the statistics of a batch of one.
        self.batches = [batch for batch in batches if len(batch[0]) > 1] or batches

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        """``loss``, the mean over images, and the metrics of the task.

        Raises:
            UserError: The loss is not finite.
        """
        supernet, how = self.training.supernet, self.how
        device = next(supernet.parameters()).device
        self.training.model.train()
        losses, counts, images = [], [], 0
        with traceless(self.training.model):
            for inputs, targets in self.batches:
                targets = targets.to(device) if isinstance(targets, torch.Tensor) else targets
                with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.training.half):
                    predictions = how.head(supernet(how.preprocess(inputs)))
                    losses.append(how.loss(predictions, targets).double() * len(inputs))
                counts.append(how.metric.count(predictions, targets))
                images += len(inputs)
        loss = float(torch.stack(losses).sum()) / images
        if not math.isfinite(loss):
            raise UserError("the supernet's loss on D_val is not finite: nothing can be selected from it")
        return {"loss": loss, **how.metric.summarise(torch.stack(counts).sum(0))}


class Remains:
    """The candidates that are left on every edge of a supernet.

    Args:
        training: The supernet.
    """

    def __init__(self, training: CellTraining) -> None:
        self.supernet, self.space = training.supernet, training.space
        self.names: dict[tuple[str, str, int], list[str]] = {}
        for cell in CELLS:
            for edge in range(len(self.space.edges)):
                self.set("operations", cell, edge, list(self.space.operations))
                self.set("attentions", cell, edge, list(self.space.attentions))

    def set(self, kind: str, cell: str, edge: int, names: list[str]) -> None:
        """Leave these ``"operations"`` or ``"attentions"``; without operations there is no edge."""
        self.names[kind, cell, edge] = names
        self.supernet.restrict(cell, edge, **{kind: names})

    def gone(self, question: Question) -> bool:
        """Whether it is about an edge that is no more."""
        return question.kind == "attentions" and not self.names["operations", question.cell, question.place]

    def candidates(self, question: Question) -> list[Any]:
        """Among what to decide: the edges into a node, or what is left of an edge."""
        kind, cell, place = question
        if kind == "sources":
            return list(self.space.nodes[place])
        return [name for name in self.names[kind, cell, place] if (kind, name) != ("operations", NONE)]

    @contextmanager
    def without(self, question: Question, candidate: Any) -> Iterator[None]:
        """Take one candidate away for a while."""
        kind, cell, place = question
        if kind == "sources":
            kind, place = "operations", candidate
        before = self.names[kind, cell, place]
        self.set(kind, cell, place, [name for name in before if name != candidate and question.kind != "sources"])
        try:
            yield
        finally:
            self.set(kind, cell, place, before)

    def keep(self, question: Question, kept: list[Any]) -> None:
        """Leave nothing else."""
        kind, cell, place = question
        if kind != "sources":
            self.set(kind, cell, place, kept)
            return
        for edge in set(self.space.nodes[place]) - set(kept):
            self.set("operations", cell, edge, [])


def decide(question: Question, remains: Remains, measure: Callable[[], float]) -> Entry:
    """Take each candidate away in turn, and name those without which the loss is largest: one, or two sources.

    Returns:
        A line of ``decisions.jsonl``: the question, ``kept`` (what hurt most first), and ``losses`` without each
        candidate; where there is no choice none are measured.
    """
    candidates, number = remains.candidates(question), 2 if question.kind == "sources" else 1
    losses = []
    for candidate in candidates if len(candidates) > number else []:
        with remains.without(question, candidate):
            losses.append(measure())
    order = sorted(range(len(candidates)), key=lambda i: -losses[i]) if losses else range(len(candidates))
    named = {str(candidate): loss for candidate, loss in zip(candidates, losses, strict=False)}
    return {**question._asdict(), "kept": [candidates[i] for i in order][:number], "losses": named}


def questions(space: Space, seed: int) -> list[Question]:
    """All that is to be decided, in order; attentions of edges that are gone by then are left out when it comes."""
    draw = np.random.default_rng(seed)
    found = []
    indices = {
        "operations": range(len(space.edges)),
        "sources": list(space.nodes),
        "attentions": range(len(space.edges)),
    }
    for kind, of_kind in indices.items():
        for cell in CELLS:
            found += [Question(kind, cell, int(place)) for place in draw.permutation(of_kind)]
    return found


def perturb(training: CellTraining, measure: Callable[[], float], work_dir: Path, save: Callable[[], None]) -> Genotype:
    """Decide all, and write ``decisions.jsonl``; what it has of an interrupted search is not decided again.

    Args:
        training: The trained supernet, or what it was behind its last decision.
        measure: The loss of the supernet as it stands, e.g. ``lambda: judge()["loss"]``.
        work_dir: The folder of the file.
        save: Saves the supernet behind a decision.

    Raises:
        UserError: ``decisions.jsonl`` has fewer decisions than the supernet has behind it, or other ones.
    """
    path, options = work_dir / DECISIONS, training.plan.perturbation
    remains, asked = Remains(training), questions(training.space, training.seed)
    decisions = read_decisions(path, training.decisions, remains, asked)
    done = {Question(*(entry[name] for name in Question._fields)) for entry in decisions}
    write_json_lines(path, decisions)
    with progress_bar(TextColumn("{task.fields[text]}")) as bar, steps() as measured:

        def measure_and_look() -> float:
            loss = measure()
            measured()
            return loss

        task = bar.add_task("selecting", total=len(asked), text="")
        for number, question in enumerate(asked):
            bar.update(task, completed=number, text=f"{question.kind} of the {question.cell} cell")
            if question in done or remains.gone(question):
                continue
            reseed(training.seed, training.epoch, number)
            entry = decide(question, remains, measure_and_look)
            remains.keep(question, entry["kept"])
            if options.tune and entry["losses"]:
                training.iterate(training.epoch + 1 + number, options.tune, learn=True)
            append_json_line(path, entry)  # first: the state must never be ahead of the file
            decisions.append(entry)
            training.decisions = len(decisions)
            save()
            if entry["losses"]:
                text = f"{number + 1:>3}/{len(asked)}  {_in_words(question, entry['kept'], training.space)}"
                bar.console.print(text, highlight=False, soft_wrap=True)
        bar.update(task, completed=len(asked))
    return derive(decisions, training.space)


def read_decisions(path: Path, number: int, remains: Remains, asked: Sequence[Question]) -> list[Entry]:
    """The first lines of ``decisions.jsonl``, and leave in a supernet what they say.

    Raises:
        UserError: There are fewer, or one is damaged.
    """
    with reading_lines(path):
        decisions = read_json_lines(path)[:number]
    if len(decisions) < number:
        raise UserError(f"cannot resume: '{path}' lacks lines of the {number} decisions; {START_ANEW}")
    for line, entry in enumerate(decisions, 1):
        fields = entry if isinstance(entry, dict) else {}
        about = [question for question in asked if question._asdict().items() <= fields.items()]
        kept = fields.get("kept")
        if not about or not isinstance(kept, list) or not _can_keep(remains.candidates(about[0]), kept, about[0]):
            raise UserError(f"cannot resume: line {line} of '{path}' is not a decision of this search; {START_ANEW}")
        remains.keep(about[0], kept)
    return decisions


@contextmanager
def reading_lines(path: Path) -> Iterator[None]:
    """Say in one line what a file of JSON lines that is damaged is good for.

    Raises:
        UserError: It is damaged.
    """
    try:
        yield
    except UserError as error:
        raise UserError(f"cannot resume: {error}; {START_ANEW}") from error


def _can_keep(candidates: Sequence[Any], kept: Sequence[Any], question: Question) -> bool:
    number = min(2 if question.kind == "sources" else 1, len(candidates))
    return len(kept) == number and all(name in candidates for name in kept)


def derive(decisions: Sequence[Entry], space: Space) -> Genotype:
    """The genotype that all decisions leave."""
    kept = {(entry["kind"], entry["cell"], entry["place"]): entry["kept"] for entry in decisions}

    def edge(cell: str, index: int) -> Edge:
        (operation,), (attention,) = kept["operations", cell, index], kept["attentions", cell, index]
        return Edge(space.edges[index][1], operation, None if attention == NONE else attention)

    cells = []
    for cell in CELLS:
        pairs = (kept["sources", cell, node] for node in space.nodes)
        cells.append(tuple((edge(cell, first), edge(cell, second)) for first, second in pairs))
    return Genotype(*cells)


def _in_words(question: Question, kept: Sequence[Any], space: Space) -> str:
    """E.g. ``normal cell, 0 -> 2: sep_conv_3x3``."""
    if question.kind == "sources":
        first, second = (space.edges[edge][1] for edge in kept)
        return f"{question.cell} cell, node {question.place} takes {first} and {second}"
    node, source = space.edges[question.place]
    return f"{question.cell} cell, {source} -> {node}: {kept[0]}"
