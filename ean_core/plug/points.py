"""Where a network can be plugged: the residual branches of any CNN, its convolutions, or modules named by the user."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from ean_core.attention import Attention
from ean_core.errors import UserError
from ean_core.notebook import table
from ean_core.plug.trace import Call, Trace, trace


@dataclass(frozen=True)
class PlugPoint:
    """A module after which attention can be plugged.

    Attributes:
        stage: The index of its stage, from 0.
        name: The module's name in the network.
        channels: Channels of its output, (N, C, H, W).
        stride: The image's height divided by the output's, rounded.
    """

    stage: int
    name: str
    channels: int
    stride: int


@dataclass(frozen=True)
class Points:
    """The points of a network, in the order in which a forward pass meets them.

    A stage is a run of points of equal channels and stride, so the points of a stage can share one module.

    Attributes:
        points: The points.
        left_out: A line for each residual branch that has no point, with the reason.
        example: The shape of the input by which they were found, if there was one.
    """

    points: tuple[PlugPoint, ...]
    left_out: tuple[str, ...] = field(default=(), compare=False)
    example: tuple[int, ...] | None = field(default=None, compare=False)

    @property
    def blocks(self) -> tuple[int, ...]:
        """The number of points of each stage: what a scheme has bits for."""
        stages = [point.stage for point in self.points]
        return tuple(stages.count(stage) for stage in sorted(set(stages)))

    @property
    def names(self) -> list[str]:
        """Of the modules."""
        return [point.name for point in self.points]

    def __iter__(self) -> Iterator[PlugPoint]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, part: slice) -> Points:
        """Some of the points, their stages counted anew."""
        kept = self.points[part]
        stages = sorted({point.stage for point in kept})
        return replace(self, points=tuple(replace(point, stage=stages.index(point.stage)) for point in kept))

    def __str__(self) -> str:
        width = max([len("name"), *(len(point.name) for point in self.points)])
        lines = [f"stage  {'name':{width}}  channels  stride"]
        lines += [f"{p.stage + 1:5}  {p.name:{width}}  {p.channels:8}  {p.stride:6}" for p in self.points]
        return "\n".join([*lines, *(f"no point: {line}" for line in self.left_out)])

    def _repr_html_(self) -> str:
        rows = [(p.stage + 1, p.name, p.channels, p.stride) for p in self.points]
        left_out = table(("no point",), [(line,) for line in self.left_out]) if self.left_out else ""
        return table(("stage", "name", "channels", "stride"), rows) + left_out


Rule = str | Mapping[str, Any]


def find_points(model: nn.Module, example: torch.Tensor, rule: Rule = "residual") -> Points:
    """The points of a network, found by one forward pass in evaluation mode.

    Args:
        model: Any CNN. It is not changed.
        example: An input, (N, 3, H, W); the strides are counted from its height.
        rule: ``"residual"``: the last module of every residual branch before its addition, which may be followed by a
            multiplication with a number or a weight, or by a module that does nothing in evaluation mode (stochastic
            depth). Additions inside a branch, of parallel branches and of fusions are no points.
            ``dict(type="convolutions", min_channels=128)``: every convolution, depthwise ones aside, with at least
            this many input and output channels, that is not part of an attention module (works on no pooled map).
            ``dict(type="named", match=...)``: modules by a regular expression, which the whole name has to match, or
            by a list of names or ends of names (``".bn3"``).

    Raises:
        UserError: The network does not run on the example; it has no residual branch; a rule matches nothing; a module
            is called twice, or is shared, or its output is not (N, C, H, W).
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"find_points takes a network, got {getattr(model, '__name__', type(model).__name__)}")
    if not isinstance(example, torch.Tensor) or example.dim() != 4:
        raise UserError(f"an example is a tensor (N, 3, H, W), got {tuple(getattr(example, 'shape', ())) or example!r}")
    if is_compiled(model):
        raise UserError(f"{type(model).__name__} is scripted or compiled: find the points of what it was made from")
    if not isinstance(rule, str | Mapping):
        raise UserError(f"a rule for points is a name or a dict, got {rule!r}")
    options = {"type": rule} if isinstance(rule, str) else dict(rule)
    kind = options.pop("type", None)
    rules: dict[Any, Callable[..., tuple[list[Call], list[str]]]]
    rules = {"residual": _residual, "convolutions": _convolutions, "named": _named}
    if not isinstance(kind, str) or kind not in rules:
        raise UserError(f"unknown rule for points {kind!r}: known are {', '.join(rules)}")
    found = trace(model, example)
    try:
        calls, left_out = rules[kind](model, found, **options)
    except TypeError as error:
        raise UserError(f"points {kind!r}: {error}") from error
    return _staged(model, found, calls, example, left_out)


def is_compiled(model: nn.Module) -> bool:
    """Whether Python code is not what runs in a network."""
    in_place = getattr(model, "_compiled_call_impl", None) is not None  # by model.compile()
    return isinstance(model, torch.jit.ScriptModule) or hasattr(model, "_orig_mod") or in_place


def _residual(model: nn.Module, found: Trace) -> tuple[list[Call], list[str]]:
    calls: list[Call] = []
    left_out: list[str] = []
    for branch in found.residual_branches():
        call = found.module_of(branch)
        if call is None:
            where = branch.name or type(model).__name__
            left_out.append(f"the branch added in '{where}' ends in {branch.operation}, which is no module")
        elif found.channel_axis(call.value) != 1:
            left_out.append(f"'{call.name}' has its channels last: attention is for (N, C, H, W)")
        else:
            calls.append(call)
    if not calls and not left_out:
        raise UserError(
            f"{type(model).__name__} has no residual branch: name points, "
            "dict(type='named', match=...), or take dict(type='convolutions', min_channels=128)"
        )
    if not calls:
        raise UserError(f"{type(model).__name__} has no residual branch to plug: {left_out[0]}")
    return calls, left_out


def _convolutions(model: nn.Module, found: Trace, min_channels: int = 128) -> tuple[list[Call], list[str]]:
    ours = {part for module in model.modules() if isinstance(module, Attention) for part in module.modules()}
    wide = {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
        and min(module.in_channels, module.out_channels) >= min_channels
        and not (module.groups > 1 and module.groups == module.in_channels)
        and module not in ours
    }
    calls = [call for call in found.calls if call.name in wide and not found.is_pooled(call.value)]
    if not calls:
        raise UserError(f"{type(model).__name__} has no convolution with {min_channels} channels or more on both sides")
    return calls, []


def _named(model: nn.Module, found: Trace, match: str | Sequence[str]) -> tuple[list[Call], list[str]]:
    names = [name for name, _ in model.named_modules() if name]
    wanted: list[str] = []
    for pattern in [match] if isinstance(match, str) else match:
        if isinstance(match, str):
            try:
                hits = [name for name in names if re.fullmatch(pattern, name)]
            except re.error as error:
                raise UserError(f"points: '{pattern}' is no regular expression: {error}") from error
        else:
            hits = [name for name in names if name == pattern or (pattern[:1] == "." and name.endswith(pattern))]
        if not hits:
            near = difflib.get_close_matches(pattern, names, 3, 0.4)
            hint = f"; near: {', '.join(near)}" if near else ""
            raise UserError(f"points: '{pattern}' matches no module of {type(model).__name__}{hint}")
        wanted += hits
    called = {call.name for call in found.calls}
    for name in wanted:
        if name not in called:
            raise UserError(f"points: '{name}' does not run in evaluation mode (a branch for training only?)")
    return [call for call in found.calls if call.name in wanted], []


def _staged(
    model: nn.Module, found: Trace, calls: list[Call], example: torch.Tensor, left_out: Sequence[str]
) -> Points:
    """Points from calls, checked and numbered by stage."""
    names: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(id(module), []).append(name)
    points: list[PlugPoint] = []
    for call in sorted(calls, key=found.calls.index):
        shape = found.shape(call.value)
        owners = names[id(model.get_submodule(call.name))]
        if len(owners) > 1:
            raise UserError(f"'{call.name}' is one module with '{owners[1]}': a shared module cannot be a point")
        if sum(other.name == call.name for other in found.calls) > 1:
            raise UserError(f"'{call.name}' is called more than once in a forward pass: it cannot be a point")
        if len(shape) != 4 or found.channel_axis(call.value) != 1:
            raise UserError(f"'{call.name}' gives {tuple(shape)}, and attention is for (N, C, H, W)")
        channels, stride = shape[1], round(example.shape[2] / shape[2])
        same = points and (points[-1].channels, points[-1].stride) == (channels, stride)
        stage = points[-1].stage + (0 if same else 1) if points else 0
        points.append(PlugPoint(stage, call.name, channels, stride))
    return Points(tuple(points), tuple(left_out), tuple(example.shape))
