"""Forward hooks that can be copied and pickled with their network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from ean_core.plug.plugged import Plugs


class PointHook:
    """Behind a point.

    Args:
        plugs: The handle.
        i: The number of the point.
    """

    def __init__(self, plugs: Plugs, i: int) -> None:
        self.plugs, self.i = plugs, i

    def __call__(self, module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        """Recalibrate the module's output."""
        return self.plugs.at(self.i, output)


class AttachHook:
    """Before the network's forward: hangs the others anew where a module was replaced.

    Args:
        plugs: The handle.
    """

    def __init__(self, plugs: Plugs) -> None:
        self.plugs = plugs

    def __call__(self, module: nn.Module, args: Any) -> None:
        """Look at the modules; a compiled pass does not."""
        if torch.compiler.is_compiling():
            return
        plugs = self.plugs
        names = (point.name for i, point in enumerate(plugs.points) if plugs.attention_of(i) is not None)
        if any(plugs.network.get_submodule(name) is not hung for name, hung in zip(names, plugs._hung, strict=True)):
            plugs.attach()
