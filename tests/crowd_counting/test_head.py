"""The density head: CSRNet's layers, the C3F one, non-negative outputs that learn, and an enlarged output."""

from itertools import pairwise

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn
from torch.nn import functional as F

from crowd_counting.head import CSRNetHead


def small(**options: object) -> CSRNetHead:
    torch.manual_seed(0)
    return CSRNetHead(in_channels=6, channels=(5, 4), **options)


def test_csrnets_back_end() -> None:
    """Its parameters from the layer list of the paper, and a receptive field of 6 dilated 3x3 convolutions."""
    head = CSRNetHead(in_channels=512)
    widths = [512, 512, 512, 512, 256, 128, 64]
    expected = sum(9 * a * b + b for a, b in pairwise(widths)) + 64 + 1
    assert sum(p.numel() for p in head.parameters()) == expected
    convs = [m for m in head.modules() if isinstance(m, nn.Conv2d)]
    assert [conv.dilation for conv in convs] == [(2, 2)] * 6 + [(1, 1)]
    net = CSRNetHead(in_channels=2, channels=(3,) * 6).double()
    for parameter in net.parameters():
        nn.init.uniform_(parameter, 0.1, 0.2)  # nothing is cut off by a ReLU
    x = torch.zeros(1, 2, 41, 41, dtype=torch.float64, requires_grad=True)
    net(x)[0, 0, 20, 20].backward()
    reached = x.grad[0, 0].nonzero()
    assert (reached.min(0).values.tolist(), reached.max(0).values.tolist()) == ([8, 8], [32, 32])  # 20 +- 6 x 2
    assert len(reached) == 13**2  # every second cell: dilation 2


def test_c3fs_head_is_two_linear_layers_a_cell() -> None:
    head = CSRNetHead(in_channels=6, channels=(5,), kernel_size=1, dilation=1, activation="relu").double()
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    cells = x.permute(0, 2, 3, 1)
    hidden = F.relu(cells @ head.layers[0].weight[:, :, 0, 0].T + head.layers[0].bias)
    expected = F.relu(hidden @ head.output.weight[:, :, 0, 0].T + head.output.bias)
    torch.testing.assert_close(head(x), expected.permute(0, 3, 1, 2))


def test_initial_weights() -> None:
    torch.manual_seed(0)
    head = MODELS.build({"type": "crowd_counting.head.CSRNetHead", "in_channels": 256})
    head.init_weights()
    for conv in (m for m in head.modules() if isinstance(m, nn.Conv2d)):
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.3)
        assert not conv.bias.any()


def test_a_dead_output_learns_with_softplus_alone() -> None:
    """Biased far below zero: relu has no gradient and stays at 0, softplus gets away; "none" may be negative."""
    x = torch.randn(2, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    found = {}
    for kind in ("none", "relu", "softplus"):
        head = small(activation=kind)
        nn.init.constant_(head.output.bias, -6.0)
        out = head(x)
        assert bool((out < 0).any()) is (kind == "none")
        (out - 1).square().mean().backward()
        found[kind] = float(head.output.bias.grad.abs())
    assert found["relu"] == 0
    assert found["softplus"] > 1e-3
    assert found["none"] > 1


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_an_enlarged_output_keeps_the_sum(factor: int) -> None:
    x = torch.randn(2, 6, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain, enlarged = small(activation="softplus").double(), small(activation="softplus", upsample=factor).double()
    before, after = plain(x), enlarged(x)
    assert after.shape == (2, 1, 5 * factor, 3 * factor)
    torch.testing.assert_close(after.sum((2, 3)), before.sum((2, 3)))


def test_norms_are_built_and_need_no_bias() -> None:
    head = small(norm_cfg={"type": "BN"})
    assert [type(m).__name__ for m in head.layers] == ["Conv2d", "BatchNorm2d", "ReLU"] * 2
    assert head.layers[0].bias is None


@pytest.mark.parametrize(
    "options", [{"activation": "gelu"}, {"kernel_size": 2}, {"dilation": 0}, {"upsample": 0}, {"channels": ()}]
)
def test_mistakes(options: dict) -> None:
    with pytest.raises(ValueError, match="head"):
        CSRNetHead(**{"in_channels": 6, **options})
