"""Evaluating many schemes of one supernet on data that is held in memory, each computation done once."""

from __future__ import annotations

import copy
import hashlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from ean_core.attention import State
from ean_core.backbones.base import StagedBackbone
from ean_core.backbones.stage import Gate
from ean_core.deploy import fuse as fuse_model
from ean_core.scheme import ConnectionScheme

Outputs = tuple[torch.Tensor, ...]
Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Metric:
    """A measure that adds up over batches.

    Attributes:
        count: Predictions and targets of a batch -> a tensor to be summed, e.g. a confusion matrix.
        summarise: The sum over all batches -> values by name, e.g. ``{"mIoU": 71.3}``.
    """

    count: Callable[[Any, torch.Tensor], torch.Tensor]
    summarise: Callable[[torch.Tensor], dict[str, float]]


ACCURACY = Metric(
    count=lambda logits, targets: torch.stack(
        [(logits.argmax(1) == targets).sum(), torch.as_tensor(targets.numel(), device=targets.device)]
    ),
    summarise=lambda total: {"accuracy": 100 * int(total[0]) / int(total[1])},
)
"""Top-1 accuracy in percent of logits (N, K, ...) and targets (N, ...)."""


class Evaluator:
    """Call it with schemes; it returns the metrics of each, equal to those of a plain evaluation of that network.

    The batches stay in memory. Schemes are walked as a tree: what two of them have in common, from the first block to
    the first difference and the residual branch at that difference, is computed once; a disconnected block runs no
    attention. ``fuse`` and ``channels_last`` are the same function up to rounding, everything else is exact.

    Args:
        backbone: A supernet: built with an attention and ``scheme="full"``. It is put into evaluation mode.
        head: From the backbone's outputs to predictions, e.g. logits. A module is put into evaluation mode.
        batches: Inputs and targets, decoded, on the device of the backbone.
        prepare: From a batch's inputs to the backbone's, e.g. uint8 to normalised floats.
        metric: What to measure; top-1 accuracy by default.
        loss: From predictions and targets to the loss that :meth:`gate_loss` differentiates.
        calibration: Inputs with which the batch norms' statistics are computed anew for every scheme (a cumulative
            average over these batches). ``None``, as the authors, keeps the statistics stored in the supernet.
        latency_repeats: If positive, also measure ``latency``: Eq. 9, the increment in % of the inference time over
            the network without attention, as the ratio of medians over so many interleaved passes of a batch.
        fuse: Fold batch norms into convolutions; not with ``calibration``.
        channels_last: Memory format of the convolutions, often faster.
    """

    def __init__(
        self,
        backbone: StagedBackbone,
        head: Callable[[Outputs], Any],
        batches: Sequence[Batch],
        prepare: Callable[[torch.Tensor], torch.Tensor] | None = None,
        metric: Metric = ACCURACY,
        loss: Callable[[Any, torch.Tensor], torch.Tensor] = cross_entropy,
        calibration: Sequence[torch.Tensor] | None = None,
        latency_repeats: int = 0,
        fuse: bool = False,
        channels_last: bool = False,
    ) -> None:
        if not batches:
            raise ValueError("nothing to evaluate on: there are no batches")
        if fuse and calibration is not None:
            raise ValueError("fused batch norms have no statistics to calibrate: choose fuse or calibration")
        self.backbone = backbone.eval()
        self._fast = cast(StagedBackbone, fuse_model(backbone)) if fuse else self.backbone
        if channels_last:
            self._fast = copy.deepcopy(self._fast)
            self._fast.to(memory_format=torch.channels_last)
        if isinstance(head, nn.Module):
            head.eval()
        self.head, self.batches, self.metric, self.loss = head, list(batches), metric, loss
        self.prepare = prepare or (lambda x: x)
        self.calibration = None if calibration is None else list(calibration)
        self.latency_repeats = latency_repeats
        self.options = {"fuse": fuse, "channels_last": channels_last, "latency_repeats": latency_repeats}

    def __call__(self, schemes: Sequence[ConnectionScheme]) -> list[dict[str, float]]:
        """The metrics of every scheme."""
        distinct = list(dict.fromkeys(schemes))
        if self.calibration is not None:
            found = {scheme: self._calibrated(scheme) for scheme in distinct}
        else:
            found = self._shared(distinct)
        if self.latency_repeats:
            for scheme in distinct:
                found[scheme]["latency"] = self.latency(scheme)
        return [dict(found[scheme]) for scheme in schemes]

    @torch.inference_mode()
    def _shared(self, schemes: Sequence[ConnectionScheme]) -> dict[ConnectionScheme, dict[str, float]]:
        totals: dict[ConnectionScheme, torch.Tensor] = {}
        for inputs, targets in self.batches:
            for scheme, outs in forward_schemes(self._fast, self.prepare(inputs), schemes):
                counted = self.metric.count(self.head(outs), targets)
                totals[scheme] = totals[scheme] + counted if scheme in totals else counted
        return {scheme: self.metric.summarise(total) for scheme, total in totals.items()}

    def _calibrated(self, scheme: ConnectionScheme) -> dict[str, float]:
        backbone = copy.deepcopy(self.backbone)
        backbone.set_scheme(scheme)
        norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a cumulative average: the order of the batches does not matter
            norm.train()
        with torch.inference_mode():
            for inputs in self.calibration or []:
                backbone(self.prepare(inputs))
            backbone.eval()
            counts = [self.metric.count(self.head(backbone(self.prepare(x))), y) for x, y in self.batches]
        return self.metric.summarise(torch.stack(counts).sum(0))

    def gate_loss(self, gates: torch.Tensor, step: int) -> torch.Tensor:
        """The loss of the supernet with these gates (m,) on batch ``step`` (in turn), for gradients to the gates."""
        inputs, targets = self.batches[step % len(self.batches)]
        before = self.backbone.scheme
        self.backbone.set_scheme(gates)
        try:
            return self.loss(self.head(self.backbone(self.prepare(inputs))), targets)
        finally:
            self.backbone.set_scheme(before or "full")

    @torch.inference_mode()
    def latency(self, scheme: ConnectionScheme) -> float:
        """Eq. 9: ``100 (t(scheme) - t(none)) / t(none)`` in %, on the first batch."""
        x = self.prepare(self.batches[0][0])
        before, none = self._fast.scheme, ConnectionScheme.none(scheme.blocks)
        times: dict[str, list[float]] = {"with": [], "without": []}
        for _ in range(self.latency_repeats + 1):
            for name, candidate in (("with", scheme), ("without", none)):
                self._fast.set_scheme(candidate)
                _wait(x)
                start = time.perf_counter()
                self._fast(x)
                _wait(x)
                times[name].append(time.perf_counter() - start)
        self._fast.set_scheme(before or "full")
        slow, fast = (statistics.median(values[1:]) for values in times.values())  # the first pass warms up
        return 100 * (slow - fast) / fast

    def settings(self) -> dict[str, Any]:
        """What the scores depend on besides the checkpoint, for the score cache's key."""
        return {
            "data": _digest([tensor for batch in self.batches for tensor in batch]),
            "calibration": None if self.calibration is None else _digest(self.calibration),
            **self.options,
        }


def forward_schemes(
    backbone: StagedBackbone, x: torch.Tensor, schemes: Sequence[ConnectionScheme]
) -> Iterator[tuple[ConnectionScheme, Outputs]]:
    """The backbone's outputs for every scheme, the common beginnings computed once.

    A walk down the tree of the schemes' bits that keeps one activation a level. Every output is equal to that of
    ``set_scheme`` and ``forward``, bit for bit. The backbone must be in evaluation mode; its own scheme is neither
    used nor changed.

    Args:
        backbone: The supernet.
        x: Its input, (N, 3, H, W).
        schemes: Different schemes.

    Yields:
        A scheme and the outputs of the stages in ``backbone.out_indices``, in the tree's order.
    """
    for scheme in schemes:
        ConnectionScheme.parse(scheme, backbone.blocks)
    for module in backbone.stem_modules():
        x = module(x)
    yield from _walk(backbone, x, None, (), 0, 0, list(schemes))


def _walk(
    backbone: StagedBackbone,
    x: torch.Tensor,
    state: State,
    outs: Outputs,
    i: int,
    j: int,
    schemes: list[ConnectionScheme],
) -> Iterator[tuple[ConnectionScheme, Outputs]]:
    """From block ``j`` of stage ``i`` on: the schemes agree on all blocks before it."""
    if i > max(backbone.out_indices):
        yield from ((scheme, outs) for scheme in schemes)
        return
    stage = backbone.stages[i]
    block = stage.blocks[j]
    attention = stage.attention_of(block)
    identity = x if block.downsample is None else block.downsample(x)
    branch = block.residual(x)
    for gate in (False, True):
        chosen = [scheme for scheme in schemes if scheme.stages[i][j] is gate]
        if not chosen:
            continue
        y, after = _join(identity, branch, attention, gate, state)
        y = block.relu(y)
        if j + 1 < stage.num_blocks:
            yield from _walk(backbone, y, after, outs, i, j + 1, chosen)
        else:
            done = (*outs, y) if i in backbone.out_indices else outs
            yield from _walk(backbone, y, None, done, i + 1, 0, chosen)


def _join(
    identity: torch.Tensor, branch: torch.Tensor, attention: nn.Module | None, gate: Gate, state: State
) -> tuple[torch.Tensor, State]:
    """Eq. 4 before its last ReLU, leaving its arguments as they are."""
    if gate is True and attention is not None:
        branch, state = attention(branch, state)
    return branch + identity, state


def _wait(x: torch.Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)


def _digest(tensors: Sequence[torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
