"""Counts against closed formulas."""

from typing import Any

import pytest
import torch

from ean_core import ConnectionScheme, EANCifarResNet, EANResNet
from ean_core.analysis.complexity import PeakBytes, count_macs, count_parameters, peak_bytes

SIZE = 32
PLANES = (16, 32, 64)


def backbone_macs(n: int) -> int:
    """Of a CIFAR ResNet with n bottlenecks a stage on a 32x32 image: stem, then 1x1, 3x3, 1x1 and projections."""
    total, inputs, before = 3 * 16 * 9 * SIZE**2, 16, SIZE
    for stage, planes in enumerate(PLANES):
        side = SIZE >> stage
        for _ in range(n):
            total += inputs * planes * before**2 + 9 * planes**2 * side**2 + 4 * planes**2 * side**2
            if inputs != 4 * planes:
                total += inputs * 4 * planes * side**2
            inputs, before = 4 * planes, side
    return total


def attention_macs(kind: str, channels: int, reduction: int) -> int:
    """Of one call: SE's two layers; DIA's four, C -> d -> 4C for the means and for h."""
    hidden = channels // reduction
    return {"SE": 2 * channels * hidden, "DIA": 2 * (channels * hidden + hidden * 4 * channels), "SGE": 0}[kind]


@pytest.mark.parametrize("depth", [29, 56])
@pytest.mark.parametrize("sharing", ["stage", "block"])
@pytest.mark.parametrize(
    "attention", [None, {"type": "SE", "reduction": 16}, {"type": "DIA", "reduction": 4}, {"type": "SGE", "groups": 4}]
)
def test_macs_and_parameters(attention: dict[str, Any] | None, sharing: str, depth: int) -> None:
    """A shared module counts at every call; its parameters once."""
    n = (depth - 2) // 9
    scheme = ConnectionScheme.every((n, n, n), 2, 0)
    net = EANCifarResNet(depth, attention=attention, sharing=sharing, scheme=scheme).eval()
    image = torch.randn(1, 3, SIZE, SIZE)
    macs, parameters = backbone_macs(n), count_parameters(EANCifarResNet(depth))
    for bits, planes in zip(scheme.stages, PLANES, strict=True):
        if attention is not None:
            kind, channels = attention["type"], 4 * planes
            macs += sum(bits) * attention_macs(kind, channels, attention.get("reduction", 1))
            d = channels // attention.get("reduction", 1)
            one = {"SE": 2 * channels * d + d + channels, "DIA": 10 * channels * d + 2 * d + 8 * channels, "SGE": 8}
            parameters += (1 if sharing == "stage" else sum(bits)) * one[kind]
    assert count_macs(lambda: net(image)) == macs
    assert count_parameters(net) == parameters
    assert count_macs(lambda: net(image.expand(3, -1, -1, -1))) == 3 * macs


def test_macs_of_a_resnet_50() -> None:
    """4.09 G at 224 px without the classifier's 2 M (torchvision's page says 4.09)."""
    assert count_macs(lambda: EANResNet().eval()(torch.randn(1, 3, 224, 224))) == 4_087_136_256


def test_bytes_alive_at_once() -> None:
    def chain() -> torch.Tensor:
        a = torch.ones(1000)  # 4000 bytes
        b = a + 1  # 8000
        b = b * 2  # 12000 for a moment, then 8000
        a.add_(b)
        return b.view(10, 100)[0]  # views and in-place results are not new

    assert peak_bytes(chain) == 12000
    with PeakBytes() as counter:
        kept = chain()
    assert counter.now == 4000
    del kept
    assert counter.now == 0
