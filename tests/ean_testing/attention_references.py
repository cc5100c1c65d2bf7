"""Attention of other papers as plain loops, written from the papers' equations."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

import numpy as np

from ean_testing.loops import (
    Array,
    Weights,
    average,
    batch_norm,
    convolve,
    linear,
    pointwise,
    relu,
    sigmoid,
    softmax,
)

Options = Mapping[str, object]  # of the module's config


def cbam(x: Array, weights: Weights, training: bool, options: Options) -> Array:
    """A mask for each channel of the mean and the maximum, then one for each position of [max; mean]."""
    y, pooled = np.empty_like(x), np.empty((len(x), 2, *x.shape[2:]))
    for n, sample in enumerate(x):
        totals = [0.0] * len(sample)
        for pool in ([average(plane) for plane in sample], [float(plane.max()) for plane in sample]):
            for c, score in enumerate(linear(relu(linear(pool, weights, "channel.0")), weights, "channel.2")):
                totals[c] += score
        for c, total in enumerate(totals):
            y[n, c] = sample[c] * sigmoid(total)
        for i, j in np.ndindex(*x.shape[2:]):
            values = y[n, :, i, j].tolist()
            pooled[n, :, i, j] = max(values), sum(values) / len(values)
    scores = np.stack([convolve(sample, weights, "spatial.0", padding=3) for sample in pooled])
    scores = batch_norm(scores, weights, "spatial.1", training)
    for n, i, j in np.ndindex(len(x), *x.shape[2:]):
        y[n, :, i, j] *= sigmoid(scores[n, 0, i, j])
    return y


def bam(x: Array, weights: Weights, training: bool, options: Options) -> Array:
    """``x (1 + sigmoid(Mc Ms))``; the spatial half goes through 1x1, two dilated 3x3 and 1x1."""
    hidden = np.array([linear([average(plane) for plane in sample], weights, "channel.0") for sample in x])
    hidden = batch_norm(hidden, weights, "channel.1", training)
    channel = [linear(relu(row), weights, "channel.3") for row in hidden.tolist()]
    maps = np.stack([pointwise(sample, weights, "spatial.0") for sample in x])
    maps = np.maximum(batch_norm(maps, weights, "spatial.1", training), 0)
    for conv, norm in (("spatial.3", "spatial.4"), ("spatial.6", "spatial.7")):
        maps = np.stack([convolve(sample, weights, conv, padding=4, dilation=4) for sample in maps])
        maps = np.maximum(batch_norm(maps, weights, norm, training), 0)
    spatial = np.stack([pointwise(sample, weights, "spatial.9") for sample in maps])
    out = np.empty_like(x)
    for n, c, i, j in np.ndindex(*x.shape):
        out[n, c, i, j] = x[n, c, i, j] * (1 + sigmoid(channel[n][c] * spatial[n, 0, i, j]))
    return out


def eca(x: Array, weights: Weights, training: bool, options: Options) -> Array:
    """Channel ``c`` is weighed by the means of the channels ``c - k // 2 ... c + k // 2``."""
    kernel = weights["conv.weight"][0, 0].tolist()
    out = np.empty_like(x)
    for n, sample in enumerate(x):
        means = [average(plane) for plane in sample]
        for c in range(len(sample)):
            near = [(i, c - len(kernel) // 2 + i) for i in range(len(kernel))]
            out[n, c] = sample[c] * sigmoid(sum(kernel[i] * means[k] for i, k in near if 0 <= k < len(means)))
    return out


def ge(x: Array, weights: Weights, training: bool, options: Options) -> Array:
    """Gather over an extent, excite: a mask for each cell, which its nearest positions get."""
    e, height, width = int(str(options.get("extent", 0))), *x.shape[2:]
    if options.get("variant") == "theta-":
        step = e or height + width  # so wide that one window holds everything
        cells = np.empty((*x.shape[:2], -(-height // step), -(-width // step)))
        for n, c, i, j in np.ndindex(*cells.shape):
            rows = [a for a in range(i * step - step + 1, i * step + step) if 0 <= a < height]
            columns = [b for b in range(j * step - step + 1, j * step + step) if 0 <= b < width]
            cells[n, c, i, j] = sum(float(x[n, c, a, b]) for a in rows for b in columns) / len(rows) / len(columns)
    elif e:
        cells = x
        for step in range(e.bit_length() - 1):
            name = f"gather.{3 * step}"
            cells = np.stack([convolve(s, weights, name, padding=1, stride=2, depthwise=True) for s in cells])
            cells = batch_norm(cells, weights, f"gather.{3 * step + 1}", training)
            if 2 << step < e:
                cells = np.maximum(cells, 0)
    else:
        cells = np.zeros((*x.shape[:2], 1, 1))
        for n, c, i, j in np.ndindex(*x.shape):
            cells[n, c, 0, 0] += weights["gather.0.weight"][c, 0, i, j] * x[n, c, i, j]
        cells = batch_norm(cells, weights, "gather.1", training)
    out = np.empty_like(x)
    for n, i, j in np.ndindex(len(x), height, width):
        row, column = i * cells.shape[2] // height, j * cells.shape[3] // width
        y = cells[n, :, row, column].tolist()
        if options.get("variant", "theta+") == "theta+":
            y = relu(y) if options.get("relu") else y
            y = linear(relu(linear(y, weights, "perceptron.1")), weights, "perceptron.3")
        for c, score in enumerate(y):
            out[n, c, i, j] = x[n, c, i, j] * sigmoid(score)
    return out


def a2(x: Array, weights: Weights, training: bool, options: Options) -> Array:
    """Each of n maps, a distribution over positions, gathers a descriptor; a position mixes descriptors by its own."""
    out = np.empty_like(x)
    positions = list(np.ndindex(*x.shape[2:]))
    for s, sample in enumerate(x):
        features = pointwise(sample, weights, "features")
        gathering = pointwise(sample, weights, "gathering")
        handing = pointwise(sample, weights, "handing")
        descriptors = []
        for plane in gathering:
            attention = softmax([float(plane[p]) for p in positions])
            pairs = list(zip(attention, positions, strict=True))
            descriptors.append([sum(w * float(f[p]) for w, p in pairs) for f in features])
        for i, j in positions:
            mix = softmax(handing[:, i, j].tolist())
            given = [sum(w * d[m] for w, d in zip(mix, descriptors, strict=True)) for m in range(len(features))]
            out[s, :, i, j] = sample[:, i, j] + linear(given, weights, "out")
    return out


def simam(x: Array, weights: Weights, training: bool, options: Options) -> Array:
    """The inverse of the least energy, ``(x - mu)^2 / (4 (v + lambda)) + 1/2``, weighs a position."""
    decay = float(str(options.get("decay", 1e-4)))
    out = np.empty_like(x)
    for n, c in np.ndindex(*x.shape[:2]):
        plane = x[n, c]
        mean = average(plane)
        variance = 0.0
        for value in plane.flatten().tolist():
            variance += (value - mean) ** 2 / max(plane.size - 1, 1)
        for i, j in np.ndindex(*plane.shape):
            inverse = (float(plane[i, j]) - mean) ** 2 / (4 * (variance + decay)) + 0.5
            out[n, c, i, j] = plane[i, j] * sigmoid(inverse)
    return out


def coord_att(x: Array, weights: Weights, training: bool, options: Options) -> Array:
    """One mask a row and one a column, of the means of rows and columns, which share their first layer."""
    samples, channels, height, width = x.shape
    lines = np.empty((samples, channels, height + width, 1))
    for n, c in np.ndindex(samples, channels):
        for i in range(height):
            lines[n, c, i, 0] = sum(x[n, c, i, :].tolist()) / width
        for j in range(width):
            lines[n, c, height + j, 0] = sum(x[n, c, :, j].tolist()) / height
    hidden = np.stack([pointwise(sample, weights, "shared.0") for sample in lines])
    hidden = batch_norm(hidden, weights, "shared.1", training)
    hidden = hidden * np.minimum(np.maximum(hidden + 3, 0), 6) / 6
    out = np.empty_like(x)
    for n in range(samples):
        rows = pointwise(hidden[n, :, :height], weights, "rows")
        columns = pointwise(hidden[n, :, height:], weights, "columns")
        for c, i, j in np.ndindex(channels, height, width):
            out[n, c, i, j] = x[n, c, i, j] * sigmoid(rows[c, i, 0]) * sigmoid(columns[c, j, 0])
    return out


def gc(x: Array, weights: Weights, training: bool, options: Options) -> Array:
    """A context, gathered by one map, goes through a bottleneck with a layer norm and is added everywhere."""
    out = np.empty_like(x)
    for n, sample in enumerate(x):
        attention = softmax(pointwise(sample, weights, "map").flatten().tolist())
        planes = [plane.flatten().tolist() for plane in sample]
        context = [sum(w * v for w, v in zip(attention, plane, strict=True)) for plane in planes]
        hidden = linear(context, weights, "fc1")
        mean = sum(hidden) / len(hidden)
        deviation = sqrt(sum((value - mean) ** 2 for value in hidden) / len(hidden) + 1e-5)
        scales, shifts = weights["norm.weight"].tolist(), weights["norm.bias"].tolist()
        hidden = [(value - mean) / deviation * a + b for value, a, b in zip(hidden, scales, shifts, strict=True)]
        for c, added in enumerate(linear(relu(hidden), weights, "fc2")):
            out[n, c] = sample[c] + added
    return out
