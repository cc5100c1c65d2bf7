"""What search, analysis, deployment and tools know of a network whose blocks can be plugged into attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from ean_core.attention import Attention
from ean_core.errors import UserError
from ean_core.plug.connect import Gate
from ean_core.scheme import ConnectionScheme


class Connection(Protocol):
    """One block of a network: its residual branch can be connected to attention.

    Attributes:
        stage: The index of its stage, from 0.
        attention: The module that it is or can be connected to, if there is one.
        gate: Its connection.
    """

    @property
    def stage(self) -> int:
        """The index of its stage, from 0."""
        ...

    @property
    def attention(self) -> Attention | None:
        """The module that it is or can be connected to."""
        ...

    @property
    def gate(self) -> Gate:
        """Its connection."""
        ...


class Step(Connection, Protocol):
    """A block that is computed in two steps, with the connection in between."""

    def split(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The block's input (N, C_in, H, W) -> what is added, and the branch, both (N, C, H', W')."""
        ...

    def join(self, identity: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
        """What is added and the recalibrated branch -> the block's output. The arguments are not changed."""
        ...


@runtime_checkable
class Staged(Protocol):
    """A network, an ``nn.Module``, in stages, with attention in it or without: what analysis asks for.

    Attributes:
        attention: The config of the attention, or ``None``.
        stages: The modules whose outputs are the stages' feature maps, in order.
        out_indices: The stages (from 0) whose feature maps a forward pass returns.
        out_channels: Channels of the feature map of each stage.
        network: The module that computes it all: the network itself, or what it was plugged into.
    """

    attention: Mapping[str, Any] | None
    out_indices: tuple[int, ...]
    out_channels: list[int]

    @property
    def stages(self) -> Sequence[nn.Module]:
        """The modules whose outputs are the stages' feature maps, in order."""
        ...

    @property
    def network(self) -> nn.Module:
        """(N, 3, H, W) -> what it computes; for a backbone the feature maps of ``out_indices``."""
        ...


@runtime_checkable
class Pluggable(Staged, Protocol):
    """A network in stages whose blocks are connected to attention by a scheme.

    Attributes:
        blocks: Number of blocks of each stage, of stages that are not built too: a scheme has bits for all of them.
        scheme: The current scheme, or ``None`` while gates are tensors.
        sharing: ``"stage"``: one module for a stage. ``"block"``: one for each connected block.
    """

    blocks: tuple[int, ...]
    scheme: ConnectionScheme | None
    sharing: str

    def set_scheme(self, scheme: str | ConnectionScheme | torch.Tensor) -> None:
        """Connect other blocks; a float tensor of gates (number of blocks,) lets gradients flow to them.

        Raises:
            UserError: The scheme does not fit, or connects a block for which no attention was built.
        """
        ...

    def connections(self) -> Sequence[Connection]:
        """The blocks in the order in which a forward pass computes them."""
        ...


@runtime_checkable
class Walkable(Pluggable, Protocol):
    """A network that is its blocks one after the other, each the input of the next: its connections are steps."""

    def begin(self, x: torch.Tensor) -> torch.Tensor:
        """The network's input -> the input of the first block."""
        ...

    def connections(self) -> Sequence[Step]:
        """The blocks in their order."""
        ...


def read_gates(
    scheme: str | ConnectionScheme | torch.Tensor, blocks: tuple[int, ...], points: Sequence[str] | None = None
) -> tuple[ConnectionScheme | None, list[Gate]]:
    """What ``set_scheme`` was given, as a scheme (``None`` for a tensor) and one gate per block.

    Args:
        scheme: What it was given.
        blocks: The number of blocks of each stage.
        points: See :meth:`~ean_core.scheme.ConnectionScheme.parse`.

    Raises:
        UserError: The scheme does not fit, or the tensor is not of floats, of shape (number of blocks,).
    """
    if not isinstance(scheme, torch.Tensor):
        parsed = ConnectionScheme.parse(scheme, blocks, points)
        return parsed, list(parsed.bits)
    if scheme.shape != (sum(blocks),) or not scheme.is_floating_point():
        raise UserError(
            f"gates must be a float tensor of shape ({sum(blocks)},), got {scheme.dtype} of shape {tuple(scheme.shape)}"
        )
    return None, list(scheme.unbind())


def output_channels(backbone: Any, index: int, option: str) -> int:
    """The channels of one of a backbone's feature maps, as it tells them itself.

    Args:
        backbone: Any backbone.
        index: Among the maps that it returns.
        option: Where the user can say it instead, for the message.

    Raises:
        UserError: The backbone does not tell.
    """
    maps = getattr(getattr(backbone, "plugged", None), "map_channels", None)
    if maps is not None:
        return int(maps[index])
    channels = getattr(backbone, "out_channels", None)
    if not isinstance(channels, Sequence):
        raise UserError(f"{option} is needed: {type(backbone).__name__} does not tell its own")
    return int(channels[sorted(getattr(backbone, "out_indices", range(len(channels))))[index]])


def find_pluggable(model: nn.Module) -> Pluggable:
    """The part of a model that has a connection scheme; the handle, if it is a network of ours that is plugged.

    Raises:
        UserError: There is none.
    """
    found: Pluggable = _find(model, Pluggable, "it has no connection scheme")
    return found


def find_staged(model: nn.Module) -> Staged:
    """The part of a model that is a network in stages: one with a connection scheme, or a network of cells.

    Raises:
        UserError: There is none.
    """
    found: Staged = _find(model, Staged, "its stages are not known")
    return found


def _find(model: nn.Module, kind: type, so: str) -> Any:
    """The first module, or what is plugged into one, that is of a kind."""
    for module in model.modules():
        for part in (getattr(module, "plugged", None), module):
            if isinstance(part, kind):
                return part
    raise UserError(f"{type(model).__name__} has no EAN backbone, so {so}")
