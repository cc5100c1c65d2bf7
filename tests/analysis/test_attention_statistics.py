"""Masks of a trained network: against plain loops over the equations."""

from math import sqrt

import numpy as np
import pytest
import torch

from ean_core import ConnectionScheme
from ean_core.analysis.attention_statistics import attention_statistics, to_csv
from ean_testing.references import attend, weights_of
from ean_testing.tiny import BLOCKS, KINDS, images, tiny

SCHEME = "101-000-011"


def masks_by_hand(net, kind, inputs) -> dict[tuple[int, int], np.ndarray]:
    """(stage, block) -> M, (N, C, H, W), by running the blocks one by one."""
    x, masks = net.relu(net.bn1(net.conv1(inputs))), {}
    for s, stage in enumerate(net.stages, 1):
        state = None
        for b, (block, gate) in enumerate(zip(stage.blocks, stage.gates, strict=True), 1):
            identity = x if block.downsample is None else block.downsample(x)
            branch = block.residual(x)
            if gate:
                weights = weights_of(stage.attention_of(block))
                attended, state = attend(kind, weights, branch.numpy(), state)
                masks[s, b] = attended / branch.numpy()
                branch = torch.from_numpy(attended)
            x = torch.relu(identity + branch)
    return masks


def deviation(values) -> float:
    mean = sum(values) / len(values)
    return sqrt(sum((v - mean) ** 2 for v in values) / len(values))


def mean(values) -> float:
    return sum(values) / len(values)


@KINDS
@pytest.mark.parametrize("sharing", ["stage", "block"])
@torch.no_grad()
def test_against_plain_loops(kind, sharing):
    net = tiny(kind, scheme=SCHEME, sharing=sharing).double().eval()
    inputs = images(5, dtype=torch.float64)
    found = attention_statistics(net, [lambda: net(inputs[:2]), lambda: net(inputs[2:])])
    expected = masks_by_hand(net, kind, inputs)
    assert [(row.stage, row.block) for row in found] == [(1, 1), (1, 3), (3, 2), (3, 3)] == list(expected)
    for row, mask in zip(found, expected.values(), strict=True):
        number, channels = mask.shape[:2]
        flat = mask.reshape(number, channels, -1).tolist()  # image, channel, position
        by_channel = [[v for image in flat for v in image[c]] for c in range(channels)]
        close = lambda value: pytest.approx(value, rel=1e-6, abs=1e-7)  # noqa: E731
        assert row.mean == close(mean([v for values in by_channel for v in values]))
        assert row.effect == close(mean([abs(1 - v) for values in by_channel for v in values]))
        assert row.over_channels == close(deviation([mean(values) for values in by_channel]))
        assert row.over_images == close(mean([deviation([mean(image[c]) for image in flat]) for c in range(channels)]))
        assert row.over_positions == close(mean([deviation(values) for image in flat for values in image]))
        assert row.adaptive == close(mean([deviation(values) for values in by_channel]))
        assert (row.over_positions > 1e-3) == (kind == "SGE")
        assert row.adaptive > 1e-5


@torch.no_grad()
def test_a_constant_mask_is_not_adaptive():
    net = tiny("SE", scheme=SCHEME).eval()
    attention = net.stages[0].attention
    attention.fc2.weight.zero_()
    attention.fc2.bias.fill_(-np.log(3))  # sigmoid: 1/4
    first = attention_statistics(net, [lambda: net(images())])[0]
    assert (first.mean, first.effect) == pytest.approx((0.25, 0.75), rel=1e-6)
    assert (first.over_channels, first.over_images, first.adaptive) == pytest.approx((0, 0, 0), abs=1e-6)


@torch.no_grad()
def test_values_that_are_zero_have_no_mask():
    net = tiny("SE", scheme="100-000-000").eval()
    before = attention_statistics(net, [lambda: net(images())])[0]
    norm = net.stages[0].blocks[0].bn2
    norm.weight[3] = norm.bias[3] = 0  # channel 3 of the branch is zero: nothing is multiplied
    after = attention_statistics(net, [lambda: net(images())])[0]
    assert all(np.isfinite(getattr(after, name)) for name in ("mean", "effect", "over_images", "adaptive"))
    assert after.mean != before.mean


@torch.no_grad()
def test_images_of_several_sizes_and_a_second_look():
    net = tiny("SGE", scheme=SCHEME).eval()
    runs = [lambda: net(images(1, 8)), lambda: net(images(2, 12))]
    assert attention_statistics(net, runs) == attention_statistics(net, runs)
    assert not net.stages[0]._forward_pre_hooks
    assert not net.stages[0].attention._forward_hooks


@torch.no_grad()
def test_nothing_to_look_at():
    plain = tiny(None).eval()
    with pytest.raises(ValueError, match="no block is connected"):
        attention_statistics(plain, [lambda: plain(images())])
    none = tiny("SE", scheme=ConnectionScheme.none(BLOCKS)).eval()
    with pytest.raises(ValueError, match="no block is connected"):
        attention_statistics(none, [lambda: none(images())])
    net = tiny("SE").eval()
    with pytest.raises(ValueError, match="no image"):
        attention_statistics(net, [])


@torch.no_grad()
def test_csv():
    net = tiny("SE", scheme=SCHEME).eval()
    rows = attention_statistics(net, [lambda: net(images())])
    lines = to_csv(rows).splitlines()
    assert lines[0] == "stage,block,mean,effect,over_channels,over_images,over_positions,adaptive"
    assert [line.split(",")[:2] for line in lines[1:]] == [["1", "1"], ["1", "3"], ["3", "2"], ["3", "3"]]
    assert float(lines[1].split(",")[2]) == pytest.approx(rows[0].mean, rel=1e-5)
