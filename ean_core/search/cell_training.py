"""A supernet of cells in training: model, optimizers, data, and an epoch of the search."""

from __future__ import annotations

import copy
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.model import BaseModel
from mmengine.registry import OPTIMIZERS, PARAM_SCHEDULERS, DefaultScope
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ean_core.cells.supernet import CellSupernet
from ean_core.checkpoint import weights_digest
from ean_core.engine.models import build_model
from ean_core.engine.reproduce import reseed
from ean_core.errors import UserError, building
from ean_core.search.bilevel import Loss, check_second_order, search_step
from ean_core.search.cell_plan import Plan
from ean_core.search.cell_selection import Space

Batch = Any
Seen = Callable[[dict[str, Tensor]], None]


class CellTraining:
    """What learns in a search of cells. All that it does is a function of the config, its seed and the epoch.

    Args:
        cfg: A complete config.
        plan: Its entry ``search``.

    Attributes:
        model: On the device; its supernet is ``supernet``.
        architecture: alpha, beta and the weights of edges, by name.
        space: What the search chooses from.
        epoch: Epochs done.
        images: Number of images in D_train and D_val.
        decisions: Decisions done behind the last one (:mod:`ean_core.search.cell_perturbation`).

    Raises:
        UserError: A model without a supernet, a wrong option, or fewer images than a batch takes.
    """

    def __init__(self, cfg: Config, plan: Plan) -> None:
        self.cfg, self.plan = cfg, plan
        self.seed = int(cfg.get("randomness", {}).get("seed") or 0)
        self.epoch = self.decisions = 0
        reseed(self.seed, 0)
        self.model = build_searched_model(cfg, plan).to(get_device())
        self.supernet = find_supernet(self.model)
        self.architecture = dict(self.supernet.architecture.items())
        self.space = space_of(self.supernet)

        own = {id(parameter) for parameter in self.supernet.architecture_parameters()}
        weights = [p for p in self.model.parameters() if id(p) not in own and p.requires_grad]
        with building("optim_wrapper.optimizer"):
            self.optimizer = OPTIMIZERS.build(dict(cfg.optim_wrapper.optimizer, params=weights))
        with building("search.architecture_optimizer"):
            options = dict(plan.architecture_optimizer, params=self.supernet.architecture_parameters())
            self.architecture_optimizer = OPTIMIZERS.build(options)
        with building("param_scheduler"):
            self.schedulers = [
                PARAM_SCHEDULERS.build(dict(options, optimizer=self.optimizer))
                for options in cfg.get("param_scheduler") or []
            ]
        if plan.order == 2:
            check_second_order(self.optimizer)
        clip = cfg.optim_wrapper.get("clip_grad") or {}
        if set(clip) - {"max_norm"}:
            raise UserError(f"optim_wrapper.clip_grad of a search of cells has max_norm only, got {dict(clip)}")
        self.clip: float | None = clip.get("max_norm")
        self.half = cfg.optim_wrapper.get("type", "OptimWrapper") != "OptimWrapper"
        self.train_loader, self.val_loader = build_loaders(cfg, plan, self.seed)
        loaders: list[Any] = [self.train_loader, self.val_loader]
        self.images = [len(loader.dataset) for loader in loaders]

    def run_epoch(self, seen: Seen) -> dict[str, float]:
        """One epoch: every batch of D_train once.

        Args:
            seen: Told the values of every iteration, as they lie on the device.

        Returns:
            The means over all iterations of what the model reports, as ``train_loss``, ``val_loss`` and so on; without
            those of D_val where the architecture does not learn.

        Raises:
            UserError: The loss is no longer finite.
        """
        reseed(self.seed, self.epoch + 1)
        learn = self.epoch >= self.plan.warmup
        iterations = self.iterate(self.epoch + 1, len(self.train_loader), learn, seen)
        means = {name: float(torch.stack(values).double().mean()) for name, values in _columns(iterations).items()}
        if not all(map(math.isfinite, means.values())):
            raise UserError(
                f"the search diverged in epoch {self.epoch + 1}: a loss is not finite; lower optim_wrapper.optimizer.lr"
            )
        for scheduler in self.schedulers:
            for _ in range(1 if scheduler.by_epoch else len(self.train_loader)):
                scheduler.step()
        self.epoch += 1
        return means

    def iterate(self, number: int, steps: int, learn: bool, seen: Seen = lambda _: None) -> list[dict[str, Tensor]]:
        """Steps of the search.

        Args:
            number: Which shuffling of the data to take, e.g. the epoch.
            steps: How many; more than D_train has batches begin with it anew.
            learn: Whether the architecture learns.
            seen: See :meth:`run_epoch`.

        Returns:
            The values of every step.
        """
        self.model.train()
        found = []
        val = _endless(self.val_loader, number)
        for batch in itertools.islice(_endless(self.train_loader, number), steps):
            train_values: dict[str, Tensor] = {}
            val_values: dict[str, Tensor] = {}
            search_step(
                self.model,
                self.supernet.architecture_parameters(),
                self.optimizer,
                self.architecture_optimizer,
                self.loss_on(batch, train_values),
                self.loss_on(next(val), val_values) if learn else _no_loss,
                clip=self.clip,
                order=self.plan.order,
                learn_architecture=learn,
            )
            values = {f"train_{name}": value for name, value in train_values.items()}
            values |= {f"val_{name}": value for name, value in val_values.items()}
            found.append(values)
            seen(values)
        return found

    def loss_on(self, batch: Batch, values: dict[str, Tensor]) -> Loss:
        """The model's loss on a batch, augmented here; each call notes in ``values`` what the model reports."""
        data = self.model.data_preprocessor(batch, True)
        device = next(self.model.parameters()).device.type

        def loss() -> Tensor:
            with torch.autocast(device, dtype=torch.bfloat16, enabled=self.half):
                total, reported = self.model.parse_losses(self.model._run_forward(data, mode="loss"))
            values.update({name: value.detach() for name, value in reported.items()})
            return total

        return loss

    def state_dict(self) -> dict[str, Any]:
        """All that the next epoch depends on; random numbers are a function of the seed and the epoch."""
        return {
            "epoch": self.epoch,
            "decisions": self.decisions,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "architecture_optimizer": self.architecture_optimizer.state_dict(),
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.epoch, self.decisions = state["epoch"], state["decisions"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.architecture_optimizer.load_state_dict(state["architecture_optimizer"])
        for scheduler, values in zip(self.schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(values)

    def digest(self) -> str:
        """The first 16 hexadecimal digits of a SHA-256 over all weights, buffers and the architecture."""
        return weights_digest(self.model.state_dict())


def build_searched_model(cfg: Config, plan: Plan) -> BaseModel:
    """The model of a config with the candidates of its plan.

    Raises:
        UserError: An unknown candidate, or a wrong option.
    """
    cfg = copy.deepcopy(cfg)
    cfg.model.backbone = searched_backbone(cfg, plan)
    model: BaseModel = build_model(cfg)
    disabled = logging.root.manager.disable
    logging.disable(logging.INFO)  # MMEngine prints every parameter
    try:
        model.init_weights()
    finally:
        logging.disable(disabled)
    return model


def searched_backbone(cfg: Config, plan: Plan) -> dict[str, Any]:
    """The backbone of a config with the candidates of its plan."""
    chosen = {"operations": plan.operations, "attentions": plan.attentions}
    return {**cfg.model.backbone, **{name: value for name, value in chosen.items() if value is not None}}


def find_supernet(model: nn.Module) -> CellSupernet:
    """The supernet in a model.

    Raises:
        UserError: There is none.
    """
    for part in model.modules():
        if isinstance(part, CellSupernet):
            return part
    raise UserError(
        f"a search of cells needs model.backbone=dict(type='ean_core.CellSupernet'), and {type(model).__name__} has "
        "no such part"
    )


def space_of(supernet: CellSupernet) -> Space:
    """What a supernet chooses from."""
    return Space(tuple(supernet.edges), operations=tuple(supernet.operations), attentions=tuple(supernet.attentions))


def build_loaders(cfg: Config, plan: Plan, seed: int) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Batches of D_train, and batches of the same kind of D_val, shuffled differently.

    Raises:
        UserError: One of them has fewer images than a batch takes, or the data cannot be used as asked.
    """
    loaders = []
    parts = {"D_train": cfg.train_dataloader.dataset, "D_val": {**cfg.val_dataloader.dataset, **plan.val_dataset}}
    for offset, (name, dataset) in enumerate(parts.items()):
        options = {**copy.deepcopy(dict(cfg.train_dataloader)), "dataset": dict(dataset)}
        scope = DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine"))
        with building("train_dataloader" if name == "D_train" else "val_dataloader"), scope:
            loader = Runner.build_dataloader(options, seed=seed + offset)
        if len(loader) == 0:  # drop_last
            raise UserError(
                f"{name} has {len(loader.dataset)} images, fewer than one batch takes: lower "
                f"train_dataloader.batch_size ({cfg.train_dataloader.batch_size})"
            )
        loaders.append(loader)
    return loaders[0], loaders[1]


def _endless(loader: DataLoader[Any], number: int) -> Iterator[Batch]:
    """Batches without end: passes over the data, each shuffled anew; all a function of ``number``."""
    for again in itertools.count():
        set_epoch = getattr(loader.sampler, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(number + 1_000_000 * again)
        yield from loader


def _columns(rows: Sequence[dict[str, Tensor]]) -> dict[str, list[Tensor]]:
    columns: dict[str, list[Tensor]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return columns


def _no_loss() -> Tensor:
    raise AssertionError("the architecture does not learn")
