"""Networks that are random everywhere, and how far a fused copy may be from them."""

import copy
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ean_core import ConnectionScheme, EANCifarResNet, EANResNet
from ean_core.attention import Attention
from ean_core.backbones.base import StagedBackbone
from ean_testing.references import randomize

ATTENTIONS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "SE": {"type": "SE", "reduction": 16},
    "SGE": {"type": "SGE", "groups": 4},
    "DIA": {"type": "DIA", "reduction": 16},
}
SCHEMES = ("full", "none", "half")
FORMATS = (torch.contiguous_format, torch.channels_last)
NETWORKS: dict[str, tuple[type[StagedBackbone], dict[str, Any], tuple[int, ...], tuple[int, int]]] = {
    "resnet18": (EANResNet, {"depth": 18}, (2, 2, 2, 2), (65, 47)),
    "resnet34": (EANResNet, {"depth": 34}, (3, 4, 6, 3), (65, 47)),
    "resnet50": (EANResNet, {"depth": 50}, (3, 4, 6, 3), (65, 47)),
    "resnet101": (EANResNet, {"depth": 101}, (3, 4, 23, 3), (33, 41)),
    "cifar29": (EANCifarResNet, {"depth": 29}, (3, 3, 3), (17, 13)),
    "cifar164": (EANCifarResNet, {"depth": 164}, (18, 18, 18), (7, 9)),
}


def build(name: str, attention: str, scheme: str = "full", **options: Any) -> StagedBackbone:
    """A network that is random everywhere, with every stage's output."""
    cls, arguments, blocks, _ = NETWORKS[name]
    bits = ConnectionScheme.every(blocks, 2, 0) if scheme == "half" else scheme
    outs = tuple(range(len(blocks)))
    torch.manual_seed(0)
    net = cls(**arguments, attention=ATTENTIONS[attention], scheme=bits, out_indices=outs, **options)
    for i, module in enumerate(net.modules()):
        if isinstance(module, _BatchNorm | Attention):
            randomize(module, i)
        if isinstance(module, _BatchNorm):
            module.weight.data.mul_(0.5)  # a branch that is smaller than its identity keeps 54 blocks in range
    return net.eval()


def images(name: str, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, 3, *NETWORKS[name][3], generator=generator)


def has_sge(net: StagedBackbone) -> bool:
    return net.attention is not None and net.attention["type"] == "SGE"


def reference(net: StagedBackbone, x: torch.Tensor) -> list[torch.Tensor]:
    """The network's outputs; with SGE, which divides by small deviations, of its float64 copy.

    The float32 network's own error can exceed 1e-5 there.
    """
    if has_sge(net):
        return [out.float() for out in copy.deepcopy(net).double()(x.double())]
    return list(net(x))


def difference(got: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, relative to the largest value."""
    assert got.shape == expected.shape
    return float((got.float() - expected.float()).abs().max() / expected.float().abs().max())


def tolerance(net: StagedBackbone, x: torch.Tensor, expected: list[torch.Tensor]) -> float:
    """1e-5, or twice the float32 network's own error where SGE makes that larger."""
    return max(1e-5, 2 * max(map(difference, net(x), expected))) if has_sge(net) else 1e-5
