"""Layers as plain loops over Python floats, for the references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, sqrt

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = Mapping[str, Array]  # by the names of a module's state dict


def sigmoid(value: float) -> float:
    return 1 / (1 + exp(-value))


def relu(values: Sequence[float]) -> list[float]:
    return [value if value > 0 else 0.0 for value in values]


def softmax(values: Sequence[float]) -> list[float]:
    powers = [exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def linear(inputs: Sequence[float], weights: Weights, name: str) -> list[float]:
    """``W x + b`` with the layer ``name`` of ``weights``; W is (outputs, inputs, 1, ...), and b may be missing."""
    matrix = weights[f"{name}.weight"]
    rows = matrix.reshape(matrix.shape[:2]).tolist()
    biases = weights[f"{name}.bias"].tolist() if f"{name}.bias" in weights else [0.0] * len(rows)
    outputs = []
    for row, bias in zip(rows, biases, strict=True):
        total = bias
        for weight, value in zip(row, inputs, strict=True):
            total += weight * value
        outputs.append(total)
    return outputs


def average(plane: Array) -> float:
    """Mean over the positions of one (H, W) map."""
    total = 0.0
    for row in plane.tolist():
        for value in row:
            total += value
    return total / plane.size


def pointwise(x: Array, weights: Weights, name: str) -> Array:
    """A 1x1 convolution of (C, H, W)."""
    columns = [linear(x[:, i, j].tolist(), weights, name) for i, j in np.ndindex(*x.shape[1:])]
    return np.array(columns).T.reshape(-1, *x.shape[1:])


def convolve(
    x: Array, weights: Weights, name: str, *, padding: int, stride: int = 1, dilation: int = 1, depthwise: bool = False
) -> Array:
    """A square convolution of (C, H, W), zeros around it."""
    kernel = weights[f"{name}.weight"]
    bias = weights.get(f"{name}.bias", np.zeros(len(kernel)))
    k = kernel.shape[2]
    height, width = ((n + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for n in x.shape[1:])
    out = np.empty((len(kernel), height, width))
    for o, i, j in np.ndindex(*out.shape):
        total = float(bias[o])
        for c in [o] if depthwise else range(len(x)):
            for a, b in np.ndindex(k, k):
                row, column = i * stride - padding + a * dilation, j * stride - padding + b * dilation
                if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                    total += float(kernel[o, 0 if depthwise else c, a, b]) * float(x[c, row, column])
        out[o, i, j] = total
    return out


def batch_norm(x: Array, weights: Weights, name: str, training: bool) -> Array:
    """Of (N, C, ...), in training by the batch's own numbers; one value a channel always by the running ones."""
    out = np.empty_like(x)
    for c in range(x.shape[1]):
        values = x[:, c].flatten().tolist()
        mean, variance = float(weights[f"{name}.running_mean"][c]), float(weights[f"{name}.running_var"][c])
        if training and len(values) > 1:
            mean = sum(values) / len(values)
            variance = sum((value - mean) ** 2 for value in values) / len(values)
        scale = float(weights[f"{name}.weight"][c]) / sqrt(variance + 1e-5)
        out[:, c] = (x[:, c] - mean) * scale + float(weights[f"{name}.bias"][c])
    return out
