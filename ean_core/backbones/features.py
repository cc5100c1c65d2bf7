"""Networks of other libraries as backbones: their modules keep the names that they have there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.model import BaseModule
from torch import nn

from ean_core.backbones.weights import load_pretrained
from ean_core.errors import UserError

EXAMPLE = 96  # pixels a side of the image that a network is run on once, to know its strides and channels
POOLS = (nn.MaxPool2d, nn.AvgPool2d)


class Features(BaseModule):
    """The feature maps of a network whose modules run one after the other, as those of most CNNs do.

    What comes behind the last feature map is left out; the other modules keep their names and their values.

    Args:
        network: A network of another library. Its modules become this one's.
        out: The modules that return the feature maps, in order; ``None``: the last one of every stride.
        out_indices: Which of them a forward pass returns; all when ``None``.
        output_stride: Convolutions do not stride beyond it, and those that follow are dilated instead.
        name: The network's name, for messages.
        init_cfg: MMEngine initialisation. A ``Pretrained`` checkpoint, of a file or ``torchvision://`` or ``timm://``
            and a name, is loaded completely or not at all.

    Attributes:
        out: Names of the modules that return feature maps.
        order: Names of the modules that run one after the other.
        out_channels: Channels of each.
        strides: Of each.
        out_indices: Those that a forward pass returns.
        left_out: What the names of the modules behind the last feature map begin with.
        torchvision: The name of torchvision's network with the same weights, if there is one.

    Raises:
        UserError: The network is no chain of modules, or an option does not fit it.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        out: Sequence[str] | None = None,
        out_indices: Sequence[int] | None = None,
        output_stride: int | None = None,
        name: str = "",
        init_cfg: Any = None,
    ) -> None:
        pretrained = isinstance(init_cfg, dict) and init_cfg.get("type") == "Pretrained"
        super().__init__(None if pretrained else init_cfg)
        self.pretrained: str | None = init_cfg.get("checkpoint") if pretrained else None
        out = (out,) if isinstance(out, str) else out
        out_indices = (out_indices,) if isinstance(out_indices, int) else out_indices
        if output_stride is not None and (not isinstance(output_stride, int) or output_stride < 1):
            raise UserError(f"{name}: output_stride is a number such as 8, got {output_stride!r}")
        self.name = name
        self.torchvision: str | None = None
        runs = _run(network, name)
        if output_stride is not None:
            _dilate(network, runs, output_stride)
            runs = _run(network, name)
        self.out = tuple(_ends(network, runs) if out is None else out)
        wrong = [module for module in self.out if module not in runs or not runs[module].stride]
        if wrong or not self.out:
            raise UserError(f"{name} has no module '{wrong[0] if wrong else ''}' that returns a feature map")
        self.out_indices = tuple(range(len(self.out)) if out_indices is None else out_indices)
        if not self.out_indices or any(not 0 <= i < len(self.out) for i in self.out_indices):
            raise UserError(f"{name}: out_indices {self.out_indices} must be one or more of 0..{len(self.out) - 1}")
        self.out_channels = [runs[module].shape[1] for module in self.out]
        self.strides = [runs[module].stride for module in self.out]
        self.left_out = tuple(f"{module}." for module in _cut(network, "", self.out[max(self.out_indices)]))
        for child_name, child in network.named_children():
            self.add_module(child_name, child)
        self.order = tuple(_chain(self, "", self.out))
        self._check(runs)

    def _check(self, runs: dict[str, Run]) -> None:
        """That the modules are a chain, and the feature maps in its order."""
        before, changes = runs[""].input, 0
        for module in self.order:
            if module not in runs or runs[module].input is not before or runs[module].changes[0] != changes:
                raise UserError(
                    f"{self.name} is no chain of modules: '{module}' does not take what the one before it returns. "
                    "Take a registered backbone, such as MMSegmentation's TIMMBackbone"
                )
            before, changes = runs[module].output, runs[module].changes[1]
        used = self.out[: max(self.out_indices) + 1]
        if tuple(module for module in self.order if module in used) != used:
            raise UserError(f"{self.name}: the modules of out must be in the network's order, got {', '.join(used)}")

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(N, 3, H, W) -> the feature maps of ``out_indices``."""
        maps = {}
        for module in self.order:
            x = maps[module] = self.get_submodule(module)(x)
        return tuple(maps[self.out[i]] for i in sorted(self.out_indices))

    def init_weights(self) -> None:
        """Draw the weights that ``init_cfg`` speaks of, or load a checkpoint; others stay as the library made them."""
        super().init_weights()
        if self.pretrained is not None:
            load_pretrained(self, self.pretrained)


class Run(NamedTuple):
    """What a module did with the example.

    Attributes:
        input: What it was given.
        output: What it returned.
        changes: How often its input had been changed in place before, and its output so far.
        shape: The output's shape.
        stride: The image's side divided by the output's, as the nearest power of two; 0 for what is no map.
        before: The same of its input.
    """

    input: Any
    output: Any
    changes: tuple[int, int]
    shape: tuple[int, ...]
    stride: int
    before: int


def _run(network: nn.Module, name: str) -> dict[str, Run]:
    """What each module does, by name; the last call counts. The network is left as it was."""
    runs: dict[str, Run] = {}
    changes: dict[nn.Module, int] = {}

    def begin(module: nn.Module, args: Any) -> None:
        changes[module] = getattr(args[0], "_version", 0) if args else 0

    def note(key: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            given = args[0] if args else None
            shape = tuple(output.shape) if isinstance(output, torch.Tensor) else ()
            both = changes[module], getattr(output, "_version", 0)
            runs[key] = Run(given, output, both, shape, _stride(output), _stride(given))

        return hook

    modes = {module: module.training for module in network.modules()}
    handles = [module.register_forward_pre_hook(begin) for module in modes]
    handles += [module.register_forward_hook(note(key)) for key, module in network.named_modules()]
    example = torch.zeros(1, 3, EXAMPLE, EXAMPLE, device="cpu")
    try:
        with torch.no_grad():
            network.eval()
            network(example)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise UserError(f"{name} does not run on an image of {EXAMPLE} pixels: {str(error).splitlines()[0]}") from error
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return runs


def _stride(x: Any) -> int:
    """Of a feature map (N, C, H, W)."""
    if not isinstance(x, torch.Tensor) or x.dim() != 4 or x.shape[2] != x.shape[3]:
        return 0
    return int(2 ** torch.log2(torch.tensor(EXAMPLE / x.shape[2], device="cpu")).round().item())


def _ends(network: nn.Module, runs: dict[str, Run]) -> Iterator[str]:
    """The last module of every stride before a global pooling; a sequence of several strides counts as its modules."""

    def units(module: nn.Module, prefix: str) -> Iterator[str]:
        for child_name, child in module.named_children():
            name = prefix + child_name
            run = runs.get(name)
            if _is_sequence(child) and (run is None or run.stride > 2 * run.before):
                yield from units(child, f"{name}.")
            elif run is not None and run.stride:
                yield name

    names = list(units(network, ""))
    pooling = (i for i, name in enumerate(names) if isinstance(network.get_submodule(name), nn.AdaptiveAvgPool2d))
    names = names[: next(pooling, None)]
    for i, name in enumerate(names):
        if i + 1 == len(names) or runs[names[i + 1]].stride != runs[name].stride:
            yield name


def _chain(module: nn.Module, prefix: str, out: Collection[str]) -> Iterator[str]:
    """The modules to run one after the other; one with a module of ``out`` inside counts as its modules."""
    for child_name, child in module.named_children():
        name = prefix + child_name
        if any(wanted.startswith(f"{name}.") for wanted in out):
            yield from _chain(child, f"{name}.", out)
        else:
            yield name


def _cut(module: nn.Module, prefix: str, last: str) -> Iterator[str]:
    """Take away the modules behind ``last``; their names."""
    names = list(module._modules)
    at = next(i for i, name in enumerate(names) if f"{last}.".startswith(f"{prefix}{name}."))
    for name in names[at + 1 :]:
        del module._modules[name]
        yield prefix + name
    if prefix + names[at] != last:
        yield from _cut(module.get_submodule(names[at]), f"{prefix}{names[at]}.", last)


def _is_sequence(module: nn.Module) -> bool:
    return type(module) in (nn.Sequential, nn.ModuleList)


def _dilate(network: nn.Module, runs: dict[str, Run], output_stride: int) -> None:
    """Let no convolution stride beyond ``output_stride``; those that would see a finer grid are dilated as much.

    Raises:
        UserError: A pooling, or a convolution with an even kernel, strides beyond it.
    """
    for name, module in network.named_modules():
        run = runs.get(name)
        if run is None or run.stride <= output_stride or run.input.shape[2] == 1:
            continue
        strides = getattr(module, "stride", 1) not in (1, (1, 1))
        if isinstance(module, POOLS) and strides:
            raise UserError(f"output_stride {output_stride}: '{name}' is a pooling, which cannot be dilated")
        if not isinstance(module, nn.Conv2d):
            continue
        if strides and not all(size % 2 for size in module.kernel_size):
            raise UserError(f"output_stride {output_stride}: '{name}' has an even kernel, which cannot be dilated")
        rate = max(run.before // output_stride, 1) if module.kernel_size != (1, 1) else 1
        module.stride = (1, 1)
        module.dilation = tuple(rate * d for d in module.dilation)
        if not isinstance(module.padding, str):
            module.padding = tuple(rate * p for p in module.padding)
