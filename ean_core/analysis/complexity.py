"""What a network costs on paper: parameters, multiply-accumulates, bytes alive at once."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module) -> int:
    """Parameters; those of a shared module count once."""
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def count_macs(function: Callable[[], Any]) -> int:
    """Multiply-accumulates of the convolutions and matrix products that a call runs.

    A shared module counts at each of its calls. Element-wise operations (normalisation, pooling, masks) count nothing,
    as is the custom. Count a network before it is fused: there the operations are those of its definition.
    """
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops() // 2


class PeakBytes(TorchDispatchMode):
    """Within this context: the bytes of the tensors made in it that are alive at the same time, and their maximum.

    It counts every operator's results, each storage once, on any device. What an operator keeps for itself while it
    runs (a convolution's rearranged copies, say) is not seen.

    Attributes:
        now: Bytes alive.
        peak: The largest value of ``now``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and note what it made."""
        given = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if id(storage) not in self._known and id(storage) not in given:
                    self._note(storage)
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()

        def forget(_: Any) -> None:
            self.now -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, forget)
        self.now += size
        self.peak = max(self.peak, self.now)


@torch.no_grad()
def peak_bytes(function: Callable[[], Any]) -> int:
    """The largest number of bytes of tensors made by a call that are alive at once (see :class:`PeakBytes`)."""
    with PeakBytes() as counter:
        function()
    return counter.peak
