"""The supernet: one network whose connection scheme is drawn anew in every training iteration (Algorithm 1, part 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS

from ean_core.engine.runner import unwrap
from ean_core.errors import UserError
from ean_core.plug import find_pluggable
from ean_core.scheme import ConnectionScheme


def sample_scheme(
    blocks: Sequence[int], seed: int, iteration: int, p: float = 0.5, full_iters: int = 1
) -> ConnectionScheme:
    """The scheme of one iteration: a pure function of its arguments, so every rank and every resumed run agrees.

    Algorithm 1 of the EAN paper starts from ``a = (1, ..., 1)`` and then draws ``a ~ Bernoulli(0.5)^m``.

    Args:
        blocks: Number of blocks of each stage.
        seed: The run's seed.
        iteration: Number of iterations before this one.
        p: Probability of a connection; 0.5 in the paper.
        full_iters: The number of first iterations that use the all-ones scheme; 1 in the paper.
    """
    if iteration < full_iters:
        return ConnectionScheme.full(blocks)
    state = int(np.random.SeedSequence([seed, iteration]).generate_state(1, np.uint64)[0])
    return ConnectionScheme.random(blocks, p, torch.Generator().manual_seed(state >> 1))


@HOOKS.register_module()
class SupernetHook(Hook):
    """Turn any MMEngine training of one of our backbones into the pre-training of a supernet.

    One line does it: ``custom_hooks = [dict(type="ean_core.search.SupernetHook")]``, on a model whose backbone has an
    ``attention`` and ``scheme="full"``. The weights see a new Bernoulli scheme every iteration, the same on all
    ranks; a resumed run continues the same sequence. The running statistics of batch norms average over schemes.

    A stage may have no connection for an iteration, so its attention gets no gradient: distributed training needs
    ``find_unused_parameters = True`` in the config. :func:`ean_core.engine.build_runner` sets it when it finds this
    hook; under another runner the hook asks for it.

    Args:
        p: Probability of a connection; 0.5 in the paper.
        full_iters: First iterations with the all-ones scheme; 1 in the paper.
        validate: The scheme for validation and test: ``"full"``, any text of
            :meth:`~ean_core.scheme.ConnectionScheme.parse`, or ``None`` for that of the last iteration.

    Raises:
        UserError: ``p`` lies outside [0, 1], or (when training starts) the model is no supernet.
    """

    priority = "HIGH"
    leaves_parameters_unused = True  # what ean_core.engine.build_runner tells distributed training

    def __init__(self, p: float = 0.5, full_iters: int = 1, validate: str | None = "full") -> None:
        if not 0 <= p <= 1:
            raise UserError(f"SupernetHook: p must lie in [0, 1], got {p}")
        self.p, self.full_iters, self.validate = p, full_iters, validate

    def before_train(self, runner: Any) -> None:
        """Check the model, and agree on a seed: ranks may have been given different ones."""
        backbone = find_pluggable(unwrap(runner.model))
        if any(point.attention is None for point in backbone.connections()):
            raise UserError("SupernetHook: build the backbone with an attention and scheme='full'")
        if is_model_wrapper(runner.model) and not getattr(runner.model, "find_unused_parameters", True):
            raise UserError(
                "SupernetHook: a disconnected stage leaves parameters without gradient: put "
                "find_unused_parameters = True into the config"
            )
        seed = [runner.seed]
        broadcast_object_list(seed)
        self._seed = int(seed[0])

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Connect the blocks of this iteration."""
        backbone = find_pluggable(unwrap(runner.model))
        backbone.set_scheme(sample_scheme(backbone.blocks, self._seed, runner.iter, self.p, self.full_iters))

    def before_val_epoch(self, runner: Any) -> None:
        """Connect the blocks for validation."""
        if self.validate is not None:
            find_pluggable(unwrap(runner.model)).set_scheme(self.validate)

    before_test_epoch = before_val_epoch
