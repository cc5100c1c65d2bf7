"""The fused copy computes the function of the network it was made from."""

import copy
from itertools import product
from typing import Any

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ean_core import EANCifarResNet
from ean_core.analysis.complexity import peak_bytes
from ean_core.attention import ATTENTION, Attention, State
from ean_core.deploy import fuse
from ean_testing.fused import ATTENTIONS, FORMATS, NETWORKS, SCHEMES, build, difference, images, reference, tolerance

SHALLOW = ("resnet18", "resnet50", "cifar29")  # of each kind of blocks and stem


@pytest.mark.parametrize(
    ("name", "scheme"), [*product(SHALLOW, SCHEMES), *((n, "half") for n in NETWORKS if n not in SHALLOW)]
)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_same_function(name: str, attention: str, scheme: str) -> None:
    """Every attention, depth, scheme, memory format and batch; the images have odd sides.

    The deeper networks have the shallow ones' blocks: half of theirs are connected, half are not.
    """
    net = build(name, attention, scheme)
    fused = fuse(net)
    for batch in (1, 7):
        x = images(name, batch)
        with torch.inference_mode():
            expected = reference(net, x)
            limit = tolerance(net, x, expected)
            for memory in FORMATS:
                inputs = x.to(memory_format=memory, copy=True)
                outs = fused(inputs)
                assert torch.equal(inputs, x)
                assert max(map(difference, outs, expected)) < limit


@pytest.mark.parametrize("attention", ["SE", "SGE", "DIA"])
@pytest.mark.parametrize("options", [{"sharing": "block"}, {"conv_bias": True}, {"strides": (1, 2, 1, 1)}], ids=str)
def test_same_function_with_options(attention: str, options: dict[str, Any]) -> None:
    """Own modules, biased convolutions, dilated stages, a deep stem."""
    extra = {"dilations": (1, 1, 2, 4), "deep_stem": True} if "strides" in options else {}
    net = build("resnet50", attention, **options, **extra)
    x = images("resnet50", 2)
    with torch.inference_mode():
        expected = reference(net, x)
        assert max(map(difference, fuse(net)(x), expected)) < tolerance(net, x, expected)


def test_a_map_of_one_pixel() -> None:
    """SGE has no deviation there."""
    net = build("resnet50", "SGE")
    x = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        outs = reference(net, x)
        assert outs[-1].shape[2:] == (1, 1)
        assert max(map(difference, fuse(net)(x), outs)) < 1e-5


def test_a_scheme_set_later() -> None:
    net = build("cifar29", "DIA")
    fused = fuse(net)
    x = images("cifar29", 3)
    for scheme in ("010-100-000", "full", "101-011-110"):
        net.set_scheme(scheme)
        fused.set_scheme(scheme)
        with torch.inference_mode():
            assert max(map(difference, fused(x), net(x))) < 1e-5


def test_gates_as_tensors_and_group_norm() -> None:
    """What has no fast way takes the ordinary one."""
    net, x = build("cifar29", "SE"), images("cifar29", 2)
    fused = fuse(net)
    gates = torch.rand(9, generator=torch.Generator().manual_seed(0))
    for model in (net, fused):
        model.set_scheme(gates)
    with torch.inference_mode():
        assert max(map(difference, fused(x), net(x))) < 1e-5
    grouped = EANCifarResNet(29, norm_cfg={"type": "GN", "num_groups": 4}, attention=ATTENTIONS["SE"]).eval()
    with torch.inference_mode():
        assert max(map(difference, fuse(grouped)(x), grouped(x))) < 1e-5


def test_another_attention_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that looks at neighbouring positions and keeps a count as its state: nothing to be had before the branch."""

    class Counting(Attention):
        stateful = True

        def __init__(self, channels: int) -> None:
            super().__init__()

        def forward(self, x: torch.Tensor, state: State = None) -> tuple[torch.Tensor, State]:
            count = state[0] + 1 if state is not None else torch.ones(())
            return x * torch.sigmoid(x.roll(1, 3)) / count, (count,)

    monkeypatch.setitem(ATTENTION.module_dict, "Counting", Counting)
    monkeypatch.setitem(ATTENTIONS, "Counting", {"type": "Counting"})
    for name in ("cifar29", "resnet18"):
        net = build(name, "Counting")
        with torch.inference_mode():
            assert max(map(difference, fuse(net)(images(name, 2)), net(images(name, 2)))) < 1e-5


@pytest.mark.parametrize("attention", ["none", "SE", "SGE", "DIA"])
def test_exported(attention: str) -> None:
    net, x = build("cifar29", attention, "half"), images("cifar29", 2)
    fused = fuse(net)
    with torch.no_grad():
        program = torch.export.export(fused, (x,))
        exact = copy.deepcopy(net).double()(x.double())
        # SGE divides by small deviations: its float32 networks, exported or not, are that far from float64
        limit = max(1e-5, 2 * max(map(difference, net(x), exact)))
        assert max(map(difference, program.module()(x), exact)) < limit
    code = program.graph_module.code
    assert code.count("ops.aten.conv2d.default") == sum(isinstance(m, torch.nn.Conv2d) for m in fused.modules())
    assert "ops.ean." not in code  # whoever reads the program need not have this package


def test_compiled() -> None:
    """Captured whole, without a break in the graph; no C++ compiler is needed for this."""
    net, x = build("cifar29", "DIA", "half"), images("cifar29", 2)
    compiled = torch.compile(fuse(net), backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        assert max(map(difference, compiled(x), net(x))) < 1e-5


@pytest.mark.parametrize("attention", ["SE", "SGE", "DIA"])
def test_bfloat16(attention: str) -> None:
    """As near to float32 as the unfused network is, under autocast and with bfloat16 weights."""
    net, x = build("cifar29", attention), images("cifar29", 2)
    fused = fuse(net)
    with torch.inference_mode():
        exact = net(x)[-1]
        with torch.autocast("cpu", torch.bfloat16):
            limit = 2 * difference(net(x)[-1], exact)
            assert difference(fused(x)[-1], exact) < limit
        out = fused.bfloat16()(x.bfloat16())[-1]
        assert out.dtype == torch.bfloat16
        assert difference(out, exact) < limit


def test_what_it_returns() -> None:
    """A copy without batch norms or gradients; the model stays as it was, and so do names outside the norms."""
    net = build("resnet50", "SE").train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    fused = fuse(net)
    assert net.training
    assert not fused.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not any(isinstance(m, _BatchNorm) for m in fused.modules())
    assert not any(p.requires_grad for p in fused.parameters())
    kept = {key for key in before if "bn" not in key and "downsample.1" not in key}
    assert kept <= set(fused.state_dict())
    assert fuse(fused).state_dict().keys() == fused.state_dict().keys()  # twice is once
    assert copy.deepcopy(fused).scheme == net.scheme


def test_a_branch_without_attention_is_never_there() -> None:
    """The tensors alive at once: the stage's own, and quarters of it."""
    net = fuse(EANCifarResNet(29))
    x = torch.randn(4, 3, 32, 32)
    stage = 4 * 64 * 32 * 32 * 4
    assert peak_bytes(lambda: net(x)) < 1.8 * stage
