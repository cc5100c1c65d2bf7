"""The supernet of Att-DARTS and a step of its search as the authors' code runs them: what benchmarks/cells.py times.

Every candidate of every edge is a module that is called on its own, and a mixture is Python's sum of products:
``h = sum softmax(alpha) op(x)``, ``out = sum softmax(beta) att(h)`` (Liu et al., arXiv 1806.09055; Nakai et al., 2020).
The attention modules are ours. With partial channels it is the supernet of PC-DARTS (Xu et al., arXiv 1907.05737) in
the same way. tests/cells compare our supernet with this one, number for number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy, softmax

from ean_core.attention import build_attention

OPERATIONS = ("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect",
              "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")  # fmt: skip
ATTENTIONS = ("none", "SE", "BAM", "CBAM", "GE", "A2")
NODES = 4
STEP = 0.01
"""Length of the step to each side in the difference that stands for a second derivative."""
Batch = tuple[torch.Tensor, torch.Tensor]


class Zero(nn.Module):
    """``none``: the map times 0."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> zeros (N, C, H / stride, W / stride)."""
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


class ReLUConvBN(nn.Sequential):
    """1x1 convolution between a ReLU and a batch norm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs, affine=False))


class FactorizedReduce(nn.Module):
    """Two 1x1 convolutions of stride 2, the second moved by a pixel, side by side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.conv_1 = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.conv_2 = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, affine=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / 2, W / 2)."""
        x = self.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], dim=1))


def spatial(channels: int, kernel: int, stride: int, dilation: int) -> list[nn.Module]:
    """ReLU, depthwise convolution, pointwise convolution, batch norm."""
    padding = dilation * (kernel // 2)
    depthwise = nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)
    return [nn.ReLU(), depthwise, nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels, affine=False)]


def build_operation(name: str, channels: int, stride: int) -> nn.Module:
    """A candidate; behind the pools a batch norm."""
    norm = nn.BatchNorm2d(channels, affine=False)
    if name == "none":
        return Zero(stride)
    if name == "max_pool_3x3":
        return nn.Sequential(nn.MaxPool2d(3, stride, 1), norm)
    if name == "avg_pool_3x3":
        return nn.Sequential(nn.AvgPool2d(3, stride, 1, count_include_pad=False), norm)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)
    kernel = int(name[-1])
    if name.startswith("sep_conv"):
        return nn.Sequential(*spatial(channels, kernel, stride, 1), *spatial(channels, kernel, 1, 1))
    return nn.Sequential(*spatial(channels, kernel, stride, 2))


class Attend(nn.Module):
    """A candidate attention, called as a layer: x -> x'."""

    def __init__(self, name: str, channels: int, size: int) -> None:
        super().__init__()
        options: dict[str, Any] = {} if name == "A2" else {"reduction": min(16, channels)}
        if name in ("SE", "GE"):
            options["bias"] = False
        if name == "GE":
            options |= {"variant": "theta+", "size": size}
        self.attention = build_attention({"type": name, **options}, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> the same shape."""
        return self.attention(x)[0]


class Mixed(nn.Module):
    """The weighted sum of candidates, one call each."""

    def __init__(self, candidates: Iterable[nn.Module]) -> None:
        super().__init__()
        self.candidates = nn.ModuleList(candidates)

    def forward(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """``x`` (N, C, H, W), one weight a candidate -> (N, C, H', W')."""
        return sum(weight * candidate(x) for weight, candidate in zip(weights, self.candidates, strict=True))


class Cell(nn.Module):
    """A cell in which every node takes every state before it, through mixed operations and mixed attentions.

    With partial channels the first ``1 / partial`` of them take this way, the others go past, and both are shuffled.
    """

    def __init__(
        self,
        older: int,
        newer: int,
        channels: int,
        size: int,
        *,
        reduces: bool,
        after_reduction: bool,
        operations: Sequence[str],
        attentions: Sequence[str],
        partial: int,
    ) -> None:
        super().__init__()
        self.reduces, self.partial, self.pool = reduces, partial, nn.MaxPool2d(2, 2)
        self.preprocess0 = FactorizedReduce(older, channels) if after_reduction else ReLUConvBN(older, channels)
        self.preprocess1 = ReLUConvBN(newer, channels)
        self.ops, self.atts, channels = nn.ModuleList(), nn.ModuleList(), channels // partial
        for node in range(NODES):
            for source in range(2 + node):
                stride = 2 if reduces and source < 2 else 1
                self.ops.append(Mixed(build_operation(name, channels, stride) for name in operations))
                self.atts.append(
                    Mixed(nn.Identity() if name == "none" else Attend(name, channels, size) for name in attentions)
                )

    def mixed(self, edge: int, x: torch.Tensor, alpha: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
        """One edge: ``x`` (N, C, H, W) and its weights -> (N, C, H', W')."""
        own, rest = x.split([x.shape[1] // self.partial, x.shape[1] - x.shape[1] // self.partial], dim=1)
        y = self.atts[edge](self.ops[edge](own, alpha), beta)
        if self.partial == 1:
            return y
        y = torch.cat([y, rest if rest.shape[2] == y.shape[2] else self.pool(rest)], dim=1)
        samples, channels, height, width = y.shape
        y = y.view(samples, self.partial, channels // self.partial, height, width).transpose(1, 2)
        return y.reshape(samples, channels, height, width)

    def forward(
        self, s0: torch.Tensor, s1: torch.Tensor, alpha: torch.Tensor, beta: torch.Tensor, gamma: torch.Tensor | None
    ) -> torch.Tensor:
        """Outputs of the two cells before, weights of operations, attentions, edges (14, ...) -> (N, 4 C, H, W)."""
        states, edge = [self.preprocess0(s0), self.preprocess1(s1)], 0
        for _ in range(NODES):
            total: Any = 0
            share = None if gamma is None else softmax(gamma[edge : edge + len(states)], -1)
            for i, state in enumerate(states):
                y = self.mixed(edge, state, alpha[edge], beta[edge])
                total = total + (y if share is None else share[i] * y)
                edge += 1
            states.append(total)
        return torch.cat(states[-NODES:], dim=1)


class OriginalSupernet(nn.Module):
    """Stem, cells, linear layer; ``alphas`` and ``betas`` of the normal and of the reduction cell beside the weights.

    With partial channels the edges have weights too, ``gammas``.

    Args:
        channels: C of the first cells; each of the two reductions doubles it.
        layers: Number of cells.
        num_classes: Number of classes.
        operations: Candidate operations.
        attentions: Candidate attentions; ``none`` is the identity.
        partial: ``k``: one of ``k`` channels goes through the candidates.
        image_size: Height and width of the images.
    """

    def __init__(
        self,
        channels: int = 16,
        layers: int = 8,
        num_classes: int = 10,
        *,
        operations: Sequence[str] = OPERATIONS,
        attentions: Sequence[str] = ATTENTIONS,
        partial: int = 1,
        image_size: int = 32,
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = dict(channels=channels, layers=layers, num_classes=num_classes)
        self.options |= dict(operations=operations, attentions=attentions, partial=partial, image_size=image_size)
        older = newer = 3 * channels
        self.stem = nn.Sequential(nn.Conv2d(3, newer, 3, padding=1, bias=False), nn.BatchNorm2d(newer))
        self.cells, after, size = nn.ModuleList(), False, image_size
        for layer in range(layers):
            reduces = layer in (layers // 3, 2 * layers // 3)
            if reduces:
                channels, size = 2 * channels, -(-size // 2)
            self.cells.append(
                Cell(older, newer, channels, size, reduces=reduces, after_reduction=after,
                     operations=operations, attentions=attentions, partial=partial)
            )  # fmt: skip
            older, newer, after = newer, NODES * channels, reduces
        self.classifier = nn.Linear(newer, num_classes)
        edges = sum(range(2, 2 + NODES))
        self.alphas = nn.ParameterList(nn.Parameter(1e-3 * torch.randn(edges, len(operations))) for _ in range(2))
        self.betas = nn.ParameterList(nn.Parameter(1e-3 * torch.randn(edges, len(attentions))) for _ in range(2))

        self.gammas = nn.ParameterList(nn.Parameter(1e-3 * torch.randn(edges)) for _ in range(2 if partial > 1 else 0))

    def architecture(self) -> list[nn.Parameter]:
        """What is no weight of the network."""
        return [*self.alphas, *self.betas, *self.gammas]

    def weights(self) -> list[nn.Parameter]:
        """All the other parameters."""
        apart = {id(parameter) for parameter in self.architecture()}
        return [parameter for parameter in self.parameters() if id(parameter) not in apart]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> logits (N, K)."""
        s0 = s1 = self.stem(x)
        cell: Any
        for cell in self.cells:
            alpha, beta = softmax(self.alphas[cell.reduces], -1), softmax(self.betas[cell.reduces], -1)
            gamma = self.gammas[cell.reduces] if len(self.gammas) else None
            s0, s1 = s1, cell(s0, s1, alpha, beta, gamma)
        return self.classifier(s1.mean((2, 3)))


def loss_of(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Cross entropy on a batch (images, labels)."""
    return cross_entropy(model(batch[0]), batch[1])


def unrolled(model: OriginalSupernet, optimizer: torch.optim.Optimizer, batch: Batch, lr: float) -> OriginalSupernet:
    """A new supernet whose weights are one step of SGD further.

    Momentum belongs to that step. In the released code it is always 0 (a failed lookup that a bare ``except`` hides);
    this is what the paper says, at the same cost.
    """
    weights, group = model.weights(), optimizer.param_groups[0]
    gradients = torch.autograd.grad(loss_of(model, batch), weights)
    state = model.state_dict()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    with torch.no_grad():
        for weight, gradient in zip(weights, gradients, strict=True):
            buffer = optimizer.state[weight].get("momentum_buffer")
            moved = gradient + group["weight_decay"] * weight
            moved = moved if buffer is None else moved + group["momentum"] * buffer
            state[names[id(weight)]] = weight - lr * moved
    new = type(model)(**model.options).to(weights[0])
    new.load_state_dict(state)
    return new.train(model.training)


def hessian_vector(model: OriginalSupernet, vector: Sequence[torch.Tensor], batch: Batch) -> list[torch.Tensor]:
    """``d2 L / d architecture d weights  vector`` by central differences, a step of length :data:`STEP`."""
    epsilon, weights = STEP / math.sqrt(sum(float(v.square().sum()) for v in vector)), model.weights()

    def move(distance: float) -> None:
        with torch.no_grad():
            for weight, direction in zip(weights, vector, strict=True):
                weight.add_(direction, alpha=distance)

    move(epsilon)
    above = torch.autograd.grad(loss_of(model, batch), model.architecture())
    move(-2 * epsilon)
    below = torch.autograd.grad(loss_of(model, batch), model.architecture())
    move(epsilon)
    return [(a - b) / (2 * epsilon) for a, b in zip(above, below, strict=True)]


def architecture_gradient(
    model: OriginalSupernet, optimizer: torch.optim.Optimizer, train_batch: Batch, val_batch: Batch, lr: float
) -> None:
    """Second order: the gradient of the validation loss after a step of the weights, into ``.grad``."""
    new, architecture = unrolled(model, optimizer, train_batch, lr), model.architecture()
    gradients = torch.autograd.grad(loss_of(new, val_batch), [*new.architecture(), *new.weights()])
    implicit = hessian_vector(model, gradients[len(architecture) :], train_batch)
    for parameter, there, product in zip(architecture, gradients, implicit, strict=False):
        parameter.grad = there - lr * product


def search_step_original(
    model: OriginalSupernet,
    weights_optimizer: torch.optim.Optimizer,
    alpha_optimizer: torch.optim.Optimizer,
    train_batch: Batch,
    val_batch: Batch,
    lr: float,
    order: int = 2,
) -> torch.Tensor:
    """One step of the search: the architecture on the validation batch, then the weights on the training batch.

    Args:
        model: The supernet.
        weights_optimizer: SGD with momentum over ``model.weights()``.
        alpha_optimizer: Over ``model.architecture()``.
        train_batch: Images and labels for the weights.
        val_batch: Images and labels for the architecture.
        lr: Learning rate of the virtual step, the same as that of the weights.
        order: 2 for the unrolled gradient, 1 for the one at the present weights.

    Returns:
        The training loss.
    """
    alpha_optimizer.zero_grad()
    if order == 2:
        architecture_gradient(model, weights_optimizer, train_batch, val_batch, lr)
    else:
        loss_of(model, val_batch).backward()  # the weights' gradients too, for nothing, as there
    alpha_optimizer.step()
    weights_optimizer.zero_grad()
    loss = loss_of(model, train_batch)
    loss.backward()
    nn.utils.clip_grad_norm_(model.weights(), 5)
    weights_optimizer.step()
    return loss.detach()
