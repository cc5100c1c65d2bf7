"""Plug attention into any CNN by forward hooks: its class, its signature, its own keys and values stay as they are."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ean_core.attention import Attention, State, build_attention
from ean_core.checkpoint import write_checkpoint
from ean_core.errors import UserError
from ean_core.plug.connect import Gate, connect
from ean_core.plug.hooks import AttachHook, PointHook
from ean_core.plug.pluggable import read_gates
from ean_core.plug.points import Points, is_compiled
from ean_core.plug.recipe import compare_recipe, may_be_missing, write_recipe
from ean_core.scheme import ConnectionScheme

Carried = tuple[int, State, bool]
SHARING, STARTS = ("stage", "point"), ("paper", "identity")


class FromIdentity(Attention):
    """``f + s (M(f) - f)`` with a learned number ``s`` that is 0 at first: a trained network is not disturbed.

    Args:
        attention: ``M``.
    """

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.attention = attention
        self.stateful = attention.stateful  # type: ignore[misc]
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor, state: State = None) -> tuple[torch.Tensor, State]:
        """Recalibrate ``x`` (N, C, H, W)."""
        recalibrated, state = self.attention(x, state)
        return x + self.scale * (recalibrated - x), state


class Plugs(nn.Module):
    """What :func:`plug` added to a network: the handle ``network.plugged``, whose parameters are the new ones alone.

    Attributes:
        network: The network.
        points: Its points.
        blocks: Number of points of each stage.
        scheme: The current scheme, or ``None`` while gates are tensors.
        attention: The attention's config, or ``None``.
        sharing: ``"stage"``: one module for a stage. ``"point"``: one for each connected point.
        start: ``"paper"``, or ``"identity"`` (:class:`FromIdentity`).
        built: The scheme for whose connections there are modules.
    """

    network: nn.Module

    def __init__(
        self,
        network: nn.Module,
        *,
        points: Points,
        attention: Mapping[str, Any] | None,
        scheme: str | ConnectionScheme,
        sharing: str,
        start: str,
    ) -> None:
        super().__init__()
        object.__setattr__(self, "network", network)  # not a child: it is the parent
        self.points, self.blocks = points, points.blocks
        self.attention, self.sharing, self.start = None if attention is None else dict(attention), sharing, start
        parsed = ConnectionScheme.parse("none" if attention is None else scheme, self.blocks, points.names)
        for i, gate in enumerate(parsed.bits):
            if attention is not None and gate and self._name(i) not in self._modules:
                built = build_attention(attention, points.points[i].channels)
                self.add_module(self._name(i), FromIdentity(built) if start == "identity" else built)
        self.built = str(parsed)
        self.use(parsed, list(parsed.bits))
        self.register_load_state_dict_pre_hook(compare_recipe)
        self.register_load_state_dict_post_hook(may_be_missing)
        if attention is not None:  # every checkpoint of the network, however it is written, says how to plug it again
            self.register_state_dict_post_hook(write_recipe)
            write_recipe(self, {}, "", None)

    def _name(self, i: int) -> str:
        """Of the module of a point."""
        stage = self.points.points[i].stage
        number = "" if self.sharing == "stage" else f"_{i - sum(self.blocks[:stage]) + 1}"
        return f"stage{stage + 1}{number}"

    def attention_of(self, i: int) -> Attention | None:
        """The module that a point is or can be connected to."""
        found = self._modules.get(self._name(i))
        return found if isinstance(found, Attention) else None

    def set_scheme(self, scheme: str | ConnectionScheme | torch.Tensor) -> None:
        """Connect other points; a float tensor of gates (number of points,) lets gradients flow to them.

        Raises:
            UserError: The scheme does not fit, or connects a point for which no attention was built.
        """
        parsed, gates = read_gates(scheme, self.blocks, self.points.names)
        for i, gate in enumerate(gates):
            if gate is not False and self.attention_of(i) is None:
                raise UserError(
                    f"'{self.points.points[i].name}' has no attention to connect: plug with scheme='full' to change "
                    "the scheme later"
                )
        self.use(parsed, gates)

    def use(self, scheme: ConnectionScheme | None, gates: list[Gate]) -> None:
        """Connect other points, unchecked; forward passes that are under way are forgotten."""
        self.scheme, self.gates = scheme, gates
        connected = [i for i, gate in enumerate(self.gates) if gate is not False]
        stage = [self.points.points[i].stage for i in connected]
        self.before = {i: connected[k - 1] if k and stage[k - 1] == stage[k] else None for k, i in enumerate(connected)}
        self.last = {i for k, i in enumerate(connected) if k + 1 == len(connected) or stage[k + 1] != stage[k]}
        self._states: dict[int, Carried] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_states": {}}  # of passes that are under way in other threads

    def at(self, i: int, branch: torch.Tensor) -> torch.Tensor:
        """Eq. 4's branch of a point, (N, C, H, W)."""
        attention, gate = self.attention_of(i), self.gates[i]
        if gate is False or attention is None:
            return branch
        if not attention.stateful:
            return connect(attention, gate, branch, None)[0]
        before, state = self.before[i], None
        if before is not None:
            last, state, with_gradients = self.carried or (None, None, None)
            if last != before or with_gradients is not torch.is_grad_enabled():
                raise UserError(
                    f"'{self.points.points[i].name}' runs without '{self.points.points[before].name}' before it, whose "
                    f"state {type(attention).__name__} needs: activation checkpointing and parts of a stage alone do "
                    "not go with it"
                )
        recalibrated, state = connect(attention, gate, branch, state)
        self.carried = None if i in self.last else (i, state, torch.is_grad_enabled())
        return recalibrated

    @property
    def carried(self) -> Carried | None:
        """The last point of a stage that is under way in this thread, its state, and whether it has a graph."""
        return self._states.get(_thread())

    @carried.setter
    def carried(self, value: Carried | None) -> None:
        if value is None:
            self._states.pop(_thread(), None)
        else:
            self._states[_thread()] = value

    def attach(self) -> None:
        """Hang the hooks into the modules that have the points' names now.

        One in the network does so again when a module has been replaced, as by a conversion to synchronised norms.
        """
        self.detach()
        hung = [
            (self.network.get_submodule(point.name), PointHook(self, i))
            for i, point in enumerate(self.points)
            if self.attention_of(i) is not None
        ]
        for module, hook in hung:
            module.register_forward_hook(hook)
        if hung:
            self.network.register_forward_pre_hook(AttachHook(self))
        self._hung = tuple(module for module, _ in hung)

    def detach(self) -> None:
        """Take the hooks away."""
        for module in (*self.__dict__.pop("_hung", ()), self.network):
            for hooks in (module._forward_hooks, module._forward_pre_hooks):
                for key in [k for k, hook in hooks.items() if getattr(hook, "plugs", None) is self]:
                    del hooks[key]

    @property
    def recipe(self) -> torch.Tensor:
        """What :func:`~ean_core.plug.plug_from` reads, as bytes of JSON."""
        state: dict[str, torch.Tensor] = {}
        write_recipe(self, state, "", None)
        return state["recipe"]

    def save(self, path: str | Path) -> None:
        """Write what was added, weights and recipe, without the network: for :func:`plug_from`."""
        write_checkpoint({f"plugged.{key}": value for key, value in self.state_dict().items()}, path)

    # What else the search, the analysis and the tools ask of a network: see ean_core.plug.Pluggable.

    @property
    def stages(self) -> Sequence[nn.Module]:
        """For each stage the module around its last point."""
        last = [max(i for i, p in enumerate(self.points) if p.stage == s) for s in range(len(self.blocks))]
        names = [self.points.points[i].name.rpartition(".")[0] or self.points.points[i].name for i in last]
        return [self.network.get_submodule(name) for name in names]

    @property
    def out_indices(self) -> tuple[int, ...]:
        """The last stage."""
        return (len(self.blocks) - 1,)

    @property
    def out_channels(self) -> list[int]:
        """Channels of each stage."""
        return [next(p.channels for p in self.points if p.stage == s) for s in range(len(self.blocks))]

    def connections(self) -> list[PointConnection]:
        """The points in order."""
        return [
            PointConnection(point.stage, self.attention_of(i), gate)
            for i, (point, gate) in enumerate(zip(self.points, self.gates, strict=True))
        ]

    def forward(self, x: Any) -> Any:
        """Nothing, for networks that run all their children in turn, e.g. ``nn.Sequential``: this is one of them."""
        return x


def _thread() -> int:
    """Forward passes in other threads have states of their own; a compiled pass has it in its graph."""
    return 0 if torch.compiler.is_compiling() else threading.get_ident()


class PointConnection(NamedTuple):
    """A point as a :class:`~ean_core.plug.pluggable.Connection`, which describes the attributes."""

    stage: int
    attention: Attention | None
    gate: Gate


def plug(
    model: nn.Module,
    attention: Mapping[str, Any] | None,
    points: Points,
    scheme: str | ConnectionScheme = "full",
    *,
    sharing: str = "stage",
    start: str = "paper",
) -> nn.Module:
    """Plug attention into a network, in place.

    The attention comes after the points' modules: for a residual branch ``f`` the network adds
    ``(a M(f) + (1 - a) 1) * f`` instead of ``f``, Eq. 4 of the EAN paper. New parameters and their keys are those of
    ``model.plugged``; everything else is untouched, so weights load before or after, strictly. Compile afterwards: what
    ``torch.compile`` has made of the network before does not see the attention.

    Args:
        model: Any CNN.
        attention: The attention's config, e.g. ``dict(type="SE", reduction=16)``; ``None``: none, but for the handle.
        points: Of :func:`~ean_core.plug.find_points`.
        scheme: The connection scheme, see :meth:`~ean_core.scheme.ConnectionScheme.parse`. A module is built where a
            point is connected; for a supernet connect all.
        sharing: ``"stage"``: one module for all points of a stage. ``"point"``: one for each.
        start: ``"paper"``, or ``"identity"``: ``f + s (M(f) - f)`` with ``s = 0`` at first, for pretrained networks.

    Returns:
        ``model``, whose handle is ``model.plugged`` (:class:`Plugs`).

    Raises:
        UserError: Something does not fit; the network is then as it was.
    """
    if not isinstance(model, nn.Module) or not isinstance(points, Points):
        raise UserError(
            "plug(model, attention, points) takes a network and what find_points returned, got "
            f"{type(model).__name__} and {type(points).__name__}"
        )
    if attention is not None and not isinstance(attention, Mapping):
        raise UserError(f"attention is a dict such as dict(type='SE', reduction=16), got {attention!r}")
    name = type(model).__name__
    if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
        raise UserError(f"{name}: plug into the network before it is wrapped (model.module is inside)")
    if is_compiled(model):
        raise UserError(f"{name} is scripted or compiled: plug into the network that it was made from")
    if any(isinstance(module, Plugs) for module in model.modules()):
        raise UserError(f"{name} is plugged already: unplug(model) first")
    if hasattr(model, "plugged"):
        raise UserError(f"{name} has something called 'plugged' of its own")
    if sharing not in SHARING or start not in STARTS:
        raise UserError(f"sharing is one of {SHARING} and start one of {STARTS}, got {sharing!r} and {start!r}")
    if not len(points):
        raise UserError("there are no points to plug into")
    modules = dict(model.named_modules())
    for point in points:
        module = modules.get(point.name)
        if module is None:
            raise UserError(f"{name} has no module '{point.name}': the points are another network's")
        if isinstance(module, torch.jit.ScriptModule):
            raise UserError(f"'{point.name}' is scripted: attention cannot be plugged behind it")
        channels = _channels(module)
        if channels not in (None, point.channels):
            raise UserError(f"'{point.name}' has {channels} channels and not {point.channels}")
    plugs = Plugs(model, points=points, attention=attention, scheme=scheme, sharing=sharing, start=start)
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    plugs.to(like.device, like.dtype).train(model.training)
    model.plugged = plugs
    plugs.attach()
    return model


def _channels(module: nn.Module) -> int | None:
    """Of a module's output, as far as it can be told without an input."""
    if isinstance(module, nn.modules.conv._ConvNd):
        return module.out_channels
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return module.num_features
    if type(module).forward is nn.Sequential.forward:
        return next((found for part in reversed(list(module.children())) if (found := _channels(part))), None)
    return None


def find_plugged(model: nn.Module) -> Plugs | None:
    """The handle of the plugged network in a model, if there is one."""
    return next((module for module in model.modules() if isinstance(module, Plugs)), None)


def unplug(model: nn.Module) -> nn.Module:
    """Give back the network, or all those in a model, as it was before :func:`plug`, in place.

    Raises:
        UserError: It is not plugged.
    """
    found = [module for module in model.modules() if isinstance(module, Plugs)]
    if not found:
        raise UserError(f"{type(model).__name__} is not plugged")
    for plugs in found:
        plugs.detach()
        del plugs.network.plugged
    return model
