"""A discrete cell of a genotype as plain loops, written from DARTS and Att-DARTS; weights as in a state dict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ean_testing.loops import Array, Weights, batch_norm, convolve
from ean_testing.references import attend

Edges = Sequence[tuple[int, str, str | None]]  # source, operation, attention; two of them make a node


class Layers:
    """The layers whose names begin with a prefix, in the order of the state dict: each call takes the next one."""

    def __init__(self, weights: Weights, prefix: str) -> None:
        own = [name for name in weights if name.startswith(prefix) and not name.rpartition(".")[2].startswith("run")]
        self.weights = weights
        self.names: Iterator[str] = iter(dict.fromkeys(name.rpartition(".")[0] for name in own))

    def conv(self, x: Array, stride: int = 1, dilation: int = 1, depthwise: bool = False) -> Array:
        """Of (N, C, H, W), padded so that a stride of 1 keeps the size."""
        name = next(self.names)
        kernel = self.weights[f"{name}.weight"].shape[-1]
        return np.stack(
            [
                convolve(
                    sample, self.weights, name, padding=dilation * (kernel // 2), stride=stride, dilation=dilation,
                    depthwise=depthwise,
                )
                for sample in x
            ]
        )  # fmt: skip

    def norm(self, x: Array) -> Array:
        """By the running statistics."""
        return batch_norm(x, self.weights, next(self.names), False)

    def end(self) -> None:
        """Check that there is no further layer."""
        assert list(self.names) == []


def pool(x: Array, stride: int, largest: bool) -> Array:
    """Maximum or mean of the 3x3 positions around every ``stride``-th one; what lies outside the map does not count."""
    samples, channels, height, width = x.shape
    out = np.empty((samples, channels, (height + stride - 1) // stride, (width + stride - 1) // stride))
    for n, c, i, j in np.ndindex(*out.shape):
        rows = [a for a in range(i * stride - 1, i * stride + 2) if 0 <= a < height]
        columns = [b for b in range(j * stride - 1, j * stride + 2) if 0 <= b < width]
        values = [float(x[n, c, a, b]) for a in rows for b in columns]
        out[n, c, i, j] = max(values) if largest else sum(values) / len(values)
    return out


def relu_conv_norm(x: Array, layers: Layers) -> Array:
    """1x1."""
    return layers.norm(layers.conv(np.maximum(x, 0)))


def factorized_reduce(x: Array, layers: Layers) -> Array:
    """Two 1x1 convolutions, of the positions (2i, 2j) and of (2i + 1, 2j + 1); beyond the border is nothing."""
    x = np.maximum(x, 0)
    odd = np.zeros_like(x)
    odd[:, :, :-1, :-1] = x[:, :, 1:, 1:]
    first = layers.conv(x, 2)
    return layers.norm(np.concatenate([first, layers.conv(odd, 2)], axis=1))


def operate(name: str, x: Array, stride: int, layers: Layers) -> Array:
    """An operation of DARTS; pools of a discrete cell have no batch norm."""
    if name in ("max_pool_3x3", "avg_pool_3x3"):
        return pool(x, stride, name == "max_pool_3x3")
    if name == "skip_connect":
        return x if stride == 1 else factorized_reduce(x, layers)
    dilation = 2 if name.startswith("dil") else 1
    for step in [stride] if dilation == 2 else [stride, 1]:
        x = layers.conv(layers.conv(np.maximum(x, 0), step, dilation, depthwise=True))
        x = layers.norm(x)
    return x


def cell(edges: Edges, weights: Weights, older: Array, newer: Array, *, reduces: bool, after_reduction: bool) -> Array:
    """A cell in evaluation, of the outputs of the two cells before it, (N, C0, H0, W0) and (N, C1, H, W)."""
    before = [Layers(weights, f"preprocess{i}.") for i in (0, 1)]
    states = [factorized_reduce(older, before[0]) if after_reduction else relu_conv_norm(older, before[0])]
    states.append(relu_conv_norm(newer, before[1]))
    for node in range(0, len(edges), 2):
        total: Array | float = 0.0
        for e in (node, node + 1):
            source, operation, attention = edges[e]
            layers = Layers(weights, f"edges.{e}.operation.")
            y = operate(operation, states[source], 2 if reduces and source < 2 else 1, layers)
            layers.end()
            if attention is not None:
                prefix = f"edges.{e}.attention."
                own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
                y, _ = attend(attention, own, y)
            total = total + y
        states.append(np.asarray(total))
    return np.concatenate(states[2:], axis=1)
