"""One forward pass as a graph: which operation made a tensor of which, and which module returned it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ean_core.errors import UserError

WEIGHTED = ("convolution", "_convolution", "addmm", "mm", "bmm", "baddbmm", "linear")
UPSAMPLES = ("upsample", "grid_sampler", "pixel_shuffle", "max_unpool")
POOLS = ("mean", "amax", "_adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d")
SCALES = ("mul", "mul_", "div", "div_", "clone", "contiguous", "_to_copy", "alias", "detach")


@dataclass(frozen=True)
class Value:
    """A tensor as one operation left it.

    Attributes:
        operation: The operation's name.
        inputs: The values that it was made of.
        shape: Its shape.
        dims: The operation's permutation of the axes, if it is one.
        call: The number of the innermost module call in which it was made.
        up: Whether it is a convolution's that enlarges.
    """

    operation: str
    _: KW_ONLY
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    dims: tuple[int, ...] | None = None
    call: int = -1
    up: bool = False


@dataclass
class Call:
    """A module's call.

    Attributes:
        name: The module's name.
        number: Calls are counted in the order in which they begin.
        first: The first value made after its beginning.
        around: The number of the call in which it is made; -1 for the network's.
        value: What it returned, if that was one tensor.
        same: Whether it returned one of its inputs, unchanged.
    """

    name: str
    _: KW_ONLY
    number: int
    first: int
    around: int = -1
    value: int = -1
    same: bool = False


@dataclass(frozen=True)
class Branch:
    """A residual branch.

    Attributes:
        value: Its end, which is added.
        addition: The sum.
        inside: The values from where it leaves what it is added to.
        name: The module whose forward adds.
        operation: The branch's last operation.
    """

    value: int
    _: KW_ONLY
    addition: int
    inside: frozenset[int]
    name: str
    operation: str


@dataclass
class Trace:
    """A forward pass.

    Attributes:
        values: All tensors, in the order in which they were made; an operation in place makes a new one.
        calls: All calls of modules, in the order of their ends.
    """

    values: list[Value]
    calls: list[Call]

    def shape(self, value: int) -> tuple[int, ...]:
        """Of a value; empty for what is no single tensor."""
        return self.values[value].shape if value >= 0 else ()

    def is_pooled(self, value: int) -> bool:
        """Whether it is a pixel that was made of the mean or the maximum of a map."""
        while value >= 0 and math.prod(self.shape(value)[2:]) == 1 and (v := self.values[value]).inputs:
            if v.operation in POOLS:
                return True
            value = v.inputs[0]
        return False

    def channel_axis(self, value: int) -> int:
        """The axis of the channels: the one that the last layer with weights, or norm, made; 1 if there is none."""
        v = self.values[value] if value >= 0 else None
        if v is None or v.operation in ("convolution", "_convolution", "native_batch_norm", "cudnn_batch_norm"):
            return 1
        if v.operation in ("addmm", "mm", "linear", "native_layer_norm"):
            return len(v.shape) - 1
        if not v.inputs:
            return 1
        before = max(v.inputs, key=lambda i: len(self.shape(i)))
        axis = self.channel_axis(before) if len(self.shape(before)) > 1 else 1
        if v.dims is not None:
            return v.dims.index(axis)
        was = self.shape(before)
        if len(was) != len(v.shape):
            return len(v.shape) - 1 if was and axis == len(was) - 1 and was[-1] == v.shape[-1] else 1
        return axis

    def module_of(self, branch: Branch) -> Call | None:
        """The last module of a branch, and ``None`` if it ends in another operation than a scaling.

        A module that does nothing in evaluation mode is taken only if there is no other, and if it is called once:
        attention after stochastic depth would see a branch that is scaled in training.
        """
        spare, value = None, branch.value
        adding = self.values[branch.addition].call
        while value in branch.inside:
            ends = [call for call in self.calls if call.value == value and call.name and call.number != adding]
            working = [call for call in ends if not call.same]
            if working:
                return working[-1]
            once = [call for call in ends if sum(call.name == other.name for other in self.calls) == 1]
            spare = spare or (once[-1] if once else None)
            v = self.values[value]
            scaled = [i for i in v.inputs if i in branch.inside]
            if v.operation not in SCALES or len(scaled) != 1 or self.shape(scaled[0]) != v.shape:
                break
            value = scaled[0]
        return spare

    def residual_branches(self) -> list[Branch]:
        """Those of the network, without those inside another one, in the order of their additions."""
        found = [branch for i, v in enumerate(self.values) if (branch := self._branch(i, v)) is not None]
        inside = frozenset().union(*(branch.inside for branch in found))
        return [branch for branch in found if branch.addition not in inside]

    def _branch(self, addition: int, v: Value) -> Branch | None:
        if v.operation not in ("add", "add_") or len(v.inputs) != 2 or len(v.shape) < 3 or v.call < 0:
            return None
        a, b = v.inputs
        if not self.shape(a) == self.shape(b) == v.shape:
            return None
        around = self._calls[v.call]
        while max(a, b) < around.first and around.around >= 0:  # a module that only adds what it is given
            around = self._calls[around.around]
        before_a, before_b = self._ancestors(a, around.first), self._ancestors(b, around.first)
        common = before_a & before_b
        if not common:
            return None
        fork = max(common)
        sides = {}
        for end, before in ((a, before_a), (b, before_b)):
            inside = frozenset(self._between(fork, before))
            sides[end] = (self._depth(end, inside), inside)
        short, long = sorted((a, b), key=lambda end: sides[end][0])
        depth, inside = sides[long]
        if depth == sides[short][0] or any(self._is_upsampled(fork, end) for end in (short, long)):
            return None
        return Branch(long, addition=addition, inside=inside, name=around.name, operation=self.values[long].operation)

    @cached_property
    def _calls(self) -> dict[int, Call]:
        return {call.number: call for call in self.calls}

    def _ancestors(self, value: int, start: int) -> set[int]:
        """A value and what it was made of since ``start``, with what was taken from before."""
        found: set[int] = set()
        todo = [value]
        while todo:
            i = todo.pop()
            if i not in found:
                found.add(i)
                if i >= start:
                    todo += self.values[i].inputs
        return found

    def _between(self, fork: int, candidates: Iterable[int]) -> set[int]:
        """The candidates made of ``fork``, without it."""
        found = {fork}
        for i in sorted(candidates):
            if i > fork and found & set(self.values[i].inputs):
                found.add(i)
        return found - {fork}

    def _is_upsampled(self, fork: int, end: int) -> bool:
        """Whether every path from ``fork`` enlarges: a fusion of scales, and not a branch with an upsampled gate."""
        same_size = (i for i in self._ancestors(end, fork + 1) if not self.values[i].up)
        return end != fork and end not in self._between(fork, same_size)

    def _depth(self, end: int, inside: frozenset[int]) -> int:
        """The largest number of layers with weights on a path."""
        depths: dict[int, int] = {}
        for i in sorted(inside):
            v = self.values[i]
            depths[i] = max((depths.get(j, 0) for j in v.inputs), default=0) + (v.operation in WEIGHTED)
        return depths.get(end, 0)


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.values: list[Value] = []
        self.calls: list[Call] = []
        self.stack: list[Call] = []
        self.kept: list[torch.Tensor] = []  # an address is not used again while its tensor lives
        self.of: dict[int, int] = {}
        self.begun = 0

    def value(self, tensor: torch.Tensor) -> int:
        """Its number; one that no operation made gets one."""
        if id(tensor) not in self.of:
            self.add(tensor, Value("", inputs=(), shape=tuple(tensor.shape)))
        return self.of[id(tensor)]

    def add(self, tensor: torch.Tensor, value: Value) -> None:
        """Take down what an operation made."""
        self.kept.append(tensor)
        self.of[id(tensor)] = len(self.values)
        self.values.append(value)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        inputs = tuple(self.value(t) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor))
        output = func(*args, **(kwargs or {}))
        dims = None
        if name == "permute":
            dims = tuple(d % args[0].ndim for d in args[1])
        elif name == "transpose":
            order = list(range(args[0].ndim))
            i, j = args[1] % args[0].ndim, args[2] % args[0].ndim
            order[i], order[j] = order[j], order[i]
            dims = tuple(order)
        up = name.startswith(UPSAMPLES) or (name in ("convolution", "_convolution") and bool(args[6]))
        call = self.stack[-1].number if self.stack else -1
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor, Value(name, inputs=inputs, shape=tuple(tensor.shape), dims=dims, call=call, up=up))
        return output


def trace(model: nn.Module, example: torch.Tensor) -> Trace:
    """Run a network once, in evaluation mode and without gradients; it is left as it was.

    Operations are seen as torch executes them, so any Python in a network's forward can be traced.

    Raises:
        UserError: It does not run on the example.
    """
    recorder = _Recorder()

    def begin(name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            for t in tree_leaves((args, kwargs)):
                if isinstance(t, torch.Tensor):
                    recorder.value(t)
            around = recorder.stack[-1].number if recorder.stack else -1
            recorder.stack.append(Call(name, number=recorder.begun, first=len(recorder.values), around=around))
            recorder.begun += 1

        return hook

    def end(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        call = recorder.stack.pop()
        if isinstance(output, torch.Tensor):
            call.value = recorder.value(output)
            call.same = call.value < call.first
        recorder.calls.append(call)

    modes = {module: module.training for module in model.modules()}
    handles = []
    try:
        for name, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(begin(name), with_kwargs=True))
            handles.append(module.register_forward_hook(end, with_kwargs=True))
        for module in modes:
            module.training = False  # and not eval(), which may be a class's own
        # In inference mode operations are seen before they are taken apart.
        with torch.inference_mode(False), torch.no_grad(), recorder:
            model(example.clone())
    except UserError:
        raise
    except Exception as error:
        where = next((call.name for call in reversed(recorder.stack) if call.name), type(model).__name__)
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{type(model).__name__} does not run on an example of shape {tuple(example.shape)}: '{where}': {text}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return Trace(recorder.values, recorder.calls)
