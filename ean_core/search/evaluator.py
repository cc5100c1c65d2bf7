"""Evaluating many schemes of one supernet on data that is held in memory, each computation done once."""

from __future__ import annotations

import copy
import hashlib
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.registry import DATASETS
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import Subset

from ean_core.application import Application, Outputs
from ean_core.deploy import fuse as fuse_model
from ean_core.deploy.fused_steps import fused_steps
from ean_core.engine.runner import unwrap
from ean_core.errors import UserError, building
from ean_core.metric import ACCURACY, Metric
from ean_core.plug import Pluggable, find_pluggable
from ean_core.plug.walk import Walk
from ean_core.scheme import ConnectionScheme
from ean_core.search.latency_table import LatencyTable
from ean_core.stopping import stop_if_asked
from ean_core.timing import interleave, synchronizer

Batch = tuple[torch.Tensor, Any]


class Evaluator:
    """Call it with schemes; it returns the metrics of each, equal to those of a plain evaluation of that network.

    The batches stay in memory. What schemes have in common is computed once, and what the first blocks give is kept
    from call to call (:class:`ean_core.plug.walk.Walk`).
    ``fuse`` and ``channels_last`` are the same function up to rounding, everything else is exact.

    Args:
        backbone: A supernet: built with an attention and ``scheme="full"``. It is put into evaluation mode.
        head: From the backbone's outputs to predictions, e.g. logits. A module is put into evaluation mode.
        batches: Inputs and targets, decoded; the targets on the device of the backbone.
        preprocess: From a batch's inputs to the backbone's, e.g. uint8 to normalised floats.
        metric: What to measure; top-1 accuracy by default.
        loss: From predictions and targets to the loss that :meth:`gate_loss` differentiates.
        calibration: Inputs with which the batch norms' statistics are computed anew for every scheme (a cumulative
            average over these batches). ``None``, as the authors, keeps the statistics stored in the supernet.
        latency_repeats: If positive, also measure ``latency``: Eq. 9, the increment in % of the inference time over
            the network without attention, as the ratio of medians over this many interleaved passes of a batch.
        fuse: Fold batch norms into convolutions; not with ``calibration``.
        channels_last: Memory format of the convolutions, often faster.
        memory: GiB for the activations that are kept; 0: none. The scores do not depend on it.

    Attributes:
        table: If set, ``latency`` is taken from it instead of being measured for every scheme.
    """

    def __init__(
        self,
        backbone: Pluggable,
        *,
        head: Callable[[Outputs], Any],
        batches: Sequence[Batch],
        preprocess: Callable[[torch.Tensor], torch.Tensor] | None = None,
        metric: Metric = ACCURACY,
        loss: Callable[[Any, Any], torch.Tensor] = cross_entropy,
        calibration: Sequence[torch.Tensor] | None = None,
        latency_repeats: int = 0,
        fuse: bool = False,
        channels_last: bool = False,
        memory: float = 2.0,
    ) -> None:
        if not batches:
            raise UserError("nothing to evaluate on: there are no batches")
        if fuse and calibration is not None:
            raise UserError("fused batch norms have no statistics to calibrate: choose fuse or calibration")
        network = backbone.network
        network.eval()
        fast = fuse_model(network) if fuse else network
        if channels_last:
            fast = copy.deepcopy(fast)
            fast.to(memory_format=torch.channels_last)
        if isinstance(head, nn.Module):
            head.eval()
        self.backbone, self._fast = backbone, find_pluggable(fast)
        self.head, self.batches, self.metric, self.loss = head, list(batches), metric, loss
        self.preprocess = preprocess or (lambda x: x)
        self.calibration = None if calibration is None else list(calibration)
        self.latency_repeats = latency_repeats
        self.options = {"fuse": fuse, "channels_last": channels_last, "latency_repeats": latency_repeats}
        self.table: LatencyTable | None = None
        a_sample = memory * 2**30 / sum(len(inputs) for inputs, _ in self.batches)
        steps = fused_steps(self._fast)
        self._walks = [Walk(self._fast, a_sample * len(inputs), steps) for inputs, _ in self.batches]

    def __call__(self, schemes: Sequence[ConnectionScheme]) -> list[dict[str, float]]:
        """The metrics of every scheme."""
        distinct = list(dict.fromkeys(schemes))
        if self.calibration is not None:
            found = {scheme: self._calibrated(scheme) for scheme in distinct}
        else:
            found = self._shared(distinct)
        for scheme in distinct if self.table or self.latency_repeats else ():
            found[scheme]["latency"] = self.table(scheme) if self.table else self.latency(scheme)
        return [dict(found[scheme]) for scheme in schemes]

    @torch.inference_mode()
    def _shared(self, schemes: Sequence[ConnectionScheme]) -> dict[ConnectionScheme, dict[str, float]]:
        totals: dict[ConnectionScheme, torch.Tensor] = {}
        for walk, (inputs, targets) in zip(self._walks, self.batches, strict=True):
            stop_if_asked()
            for scheme, outs in walk(partial(self.preprocess, inputs), schemes):
                counted = self.metric.count(self.head(outs), targets)
                totals[scheme] = totals[scheme] + counted if scheme in totals else counted
        return {scheme: self.metric.summarise(total) for scheme, total in totals.items()}

    def _calibrated(self, scheme: ConnectionScheme) -> dict[str, float]:
        stop_if_asked()
        network = copy.deepcopy(self.backbone.network)
        find_pluggable(network).set_scheme(scheme)
        norms = [part for part in network.modules() if isinstance(part, _BatchNorm)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a cumulative average: the order of the batches does not matter
            norm.train()
        with torch.inference_mode():
            for inputs in self.calibration or []:
                network(self.preprocess(inputs))
            network.eval()
            counts = [self.metric.count(self.head(network(self.preprocess(x))), y) for x, y in self.batches]
        return self.metric.summarise(torch.stack(counts).sum(0))

    def gate_loss(self, gates: torch.Tensor, step: int) -> torch.Tensor:
        """The loss of the supernet with these gates (m,) on batch ``step`` (in turn), for gradients to the gates."""
        inputs, targets = self.batches[step % len(self.batches)]
        before = self.backbone.scheme
        self.backbone.set_scheme(gates)
        try:
            return self.loss(self.head(self.backbone.network(self.preprocess(inputs))), targets)
        finally:
            self.backbone.set_scheme(before or "full")

    @torch.inference_mode()
    def latency(self, scheme: ConnectionScheme) -> float:
        """Eq. 9: ``100 (t(scheme) - t(none)) / t(none)`` in %, on the first batch."""
        none, slow = self.seconds([ConnectionScheme.none(scheme.blocks), scheme])
        return 100 * (slow - none) / none

    @torch.inference_mode()
    def seconds(self, schemes: Sequence[ConnectionScheme]) -> list[float]:
        """Of a pass of the first batch with each scheme: medians over ``latency_repeats`` passes, taken in turn."""
        x, before = self.preprocess(self.batches[0][0]), self._fast.scheme

        def run(candidate: ConnectionScheme) -> None:
            stop_if_asked()
            self._fast.set_scheme(candidate)
            self._fast.network(x)

        calls = {str(i): partial(run, scheme) for i, scheme in enumerate(schemes)}
        try:
            times = interleave(calls, self.latency_repeats, warmup=1, synchronize=synchronizer(x.device))
        finally:
            self._fast.set_scheme(before or "full")
        return [statistics.median(times[name]) for name in calls]

    def settings(self) -> dict[str, Any]:
        """What the scores depend on besides the checkpoint, for the score cache's key."""
        return {
            "data": _digest(self.batches),
            "calibration": None if self.calibration is None else _digest(self.calibration),
            **self.options,
            **({"latency_table": self.table.increments} if self.table else {}),
        }


def build_evaluator(runner: Any, application: Application, calibration: int = 0, **options: Any) -> Evaluator:
    """The evaluator of a runner's model on its validation images, with their values as validation reports them.

    Args:
        runner: The checkpoint of its model is loaded.
        application: Its task, which knows how predictions are made and measured.
        calibration: If positive, as many batches of training images, evenly spaced and not augmented, renew the
            statistics of the batch norms for every scheme.
        options: Of :class:`Evaluator`.

    Raises:
        UserError: The model cannot be searched.
    """
    model = unwrap(runner.model).eval()
    how = application.evaluation(model, runner.cfg)
    device = next(model.parameters()).device
    inputs = None
    if calibration:
        with building("train_dataloader.dataset"):
            dataset = DATASETS.build(dict(how.plain_training))
        size = min(calibration * runner.cfg.val_dataloader.batch_size, len(dataset))
        chosen = [i * len(dataset) // size for i in range(size)]
        inputs = [x for x, _ in how.read(Subset(dataset, chosen))]
    return Evaluator(
        find_pluggable(model),
        head=how.head,
        batches=[(x, _to(targets, device)) for x, targets in how.read(runner.val_dataloader.dataset)],
        preprocess=how.preprocess,
        metric=how.metric,
        loss=how.loss,
        calibration=inputs,
        **options,
    )


def _to(targets: Any, device: torch.device) -> Any:
    return targets.to(device) if isinstance(targets, torch.Tensor) else targets


def _digest(values: Any) -> str:
    digest = hashlib.sha256()
    for tensor in _tensors(values):
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    """All tensors in nested sequences, in order."""
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
