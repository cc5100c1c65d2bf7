"""The equations again as plain loops over Python floats: what the vectorised modules are compared with."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt, tanh

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ean_testing.attention_references import Options, a2, bam, cbam, coord_att, eca, gc, ge, simam
from ean_testing.loops import Array, Weights, average, linear, relu, sigmoid

State = tuple[Array, ...] | None


def se(x: Array, weights: Weights) -> Array:
    """Squeeze-and-Excitation of ``x`` (N, C, H, W): x * sigmoid(W2 relu(W1 GAP(x) + b1) + b2)."""
    out = np.empty_like(x)
    for n in range(x.shape[0]):
        y = [average(x[n, c]) for c in range(x.shape[1])]
        scores = linear(relu(linear(y, weights, "fc1")), weights, "fc2")
        for c, score in enumerate(scores):
            out[n, c] = x[n, c] * sigmoid(score)
    return out


def sge(x: Array, weights: Weights) -> Array:
    """Spatial Group-wise Enhance of ``x`` (N, C, H, W); a 1x1 map has no deviation, so only the bias counts."""
    samples, channels, height, width = x.shape
    groups = len(weights["weight"])
    size = channels // groups
    positions = [(i, j) for i in range(height) for j in range(width)]
    out = np.empty_like(x)
    for n in range(samples):
        for g in range(groups):
            members = range(g * size, (g + 1) * size)
            means = {c: average(x[n, c]) for c in members}
            t = [sum(float(x[n, c, i, j]) * means[c] for c in members) for i, j in positions]
            mean = sum(t) / len(t)
            if len(t) > 1:
                deviation = sqrt(sum((value - mean) ** 2 for value in t) / (len(t) - 1))
                t = [(value - mean) / (deviation + 1e-5) for value in t]
            else:
                t = [0.0]
            for (i, j), value in zip(positions, t, strict=True):
                mask = sigmoid(float(weights["weight"][g]) * value + float(weights["bias"][g]))
                for c in members:
                    out[n, c, i, j] = x[n, c, i, j] * mask
    return out


def dia(x: Array, state: State, weights: Weights) -> tuple[Array, State]:
    """One call of Dense-and-Implicit Attention: ``x`` (N, C, H, W) and the state (h, c), both (N, C)."""
    samples, channels = x.shape[:2]
    h, c = state if state is not None else (np.zeros((samples, channels)), np.zeros((samples, channels)))
    new_h, new_c, out = np.empty_like(h), np.empty_like(c), np.empty_like(x)
    for n in range(samples):
        y = [average(x[n, k]) for k in range(channels)]
        from_y = linear(relu(linear(y, weights, "input_gates.0")), weights, "input_gates.2")
        from_h = linear(relu(linear(h[n].tolist(), weights, "hidden_gates.0")), weights, "hidden_gates.2")
        gates = [a + b for a, b in zip(from_y, from_h, strict=True)]
        for k in range(channels):
            i, f, g, o = (gates[k + chunk * channels] for chunk in range(4))
            new_c[n, k] = sigmoid(f) * c[n, k] + sigmoid(i) * tanh(g)
            new_h[n, k] = sigmoid(o) * sigmoid(new_c[n, k])
            out[n, k] = x[n, k] * new_h[n, k]
    return out, (new_h, new_c)


STATELESS: dict[str, Callable[[Array, Weights], Array]] = {"SE": se, "SGE": sge}
OTHERS: dict[str, Callable[[Array, Weights, bool, Options], Array]] = {
    "A2": a2, "BAM": bam, "CBAM": cbam, "CoordAtt": coord_att, "ECA": eca, "GC": gc, "GE": ge, "SimAM": simam,
}  # fmt: skip


def attend(
    kind: str, weights: Weights, x: Array, state: State = None, *, training: bool = False, **options: object
) -> tuple[Array, State]:
    """What the attention module registered as ``kind`` returns for ``x`` and ``state``.

    Batch norms of a module are told whether it is in training, and GE and SimAM the options of their config.
    """
    if kind == "DIA":
        return dia(x, state, weights)
    if kind in OTHERS:
        return OTHERS[kind](x, weights, training, options), state
    return STATELESS[kind](x, weights), state


def weights_of(module: nn.Module) -> dict[str, Array]:
    """A module's parameters and running statistics as float64 arrays."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: tensor.detach().double().numpy().copy() for name, tensor in named}


def randomize(module: nn.Module, seed: int = 0) -> None:
    """Draw every parameter and running statistic that starts as a constant, so that no test passes because of a 0."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor: torch.Tensor, mean: float, std: float) -> None:
        tensor.data.copy_(mean + std * torch.randn(tensor.shape, generator=generator, dtype=torch.float64))

    for parameter in module.parameters():
        # fan-in scaling keeps a deep network's activations, and an attention's masks, in a lively range
        normal(parameter, 0, 1 if parameter.dim() < 2 else parameter[0].numel() ** -0.5)
    for norm in (m for m in module.modules() if isinstance(m, _BatchNorm)):
        normal(norm.weight, 1, 0.2)
        normal(norm.bias, 0, 0.2)
        if norm.running_mean is not None and norm.running_var is not None:
            normal(norm.running_mean, 0, 0.2)
            norm.running_var.copy_(0.5 + torch.rand(norm.running_var.shape, generator=generator))
