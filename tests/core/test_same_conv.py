"""The convolution with its own gradient is torch's, forwards and backwards."""

import pytest
import torch
from torch import nn

from ean_core.attention.conv import SameConv

SHAPES = [
    {"inputs": 4, "outputs": 4, "kernel": 3, "depthwise": True},
    {"inputs": 4, "outputs": 4, "kernel": 5, "dilation": 2, "depthwise": True},
    {"inputs": 4, "outputs": 4, "kernel": 3, "stride": 2, "depthwise": True},
    {"inputs": 4, "outputs": 4, "kernel": 5, "stride": 2, "dilation": 2, "depthwise": True},
    {"inputs": 2, "outputs": 1, "kernel": 7},
    {"inputs": 1, "outputs": 1, "kernel": 3, "dilation": 4, "bias": True},
    {"inputs": 3, "outputs": 5, "kernel": 3, "bias": True},
]


@pytest.mark.parametrize("options", SHAPES, ids=str)
@pytest.mark.parametrize("size", [7, 8])
def test_equals_torch(options: dict, size: int) -> None:
    torch.manual_seed(0)
    conv = SameConv(**options).double()
    plain = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
        conv.bias is not None,
    ).double()
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(2, options["inputs"], size, size, dtype=torch.float64, requires_grad=True)
    expected, y = plain(x), conv(x)
    torch.testing.assert_close(y, expected)
    assert y.shape[2:] == ((size + 1) // 2,) * 2 if options.get("stride") == 2 else (size, size)
    grad = torch.randn_like(y)
    for ours, theirs in zip(
        torch.autograd.grad(y, [x, *conv.parameters()], grad),
        torch.autograd.grad(expected, [x, *plain.parameters()], grad),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
