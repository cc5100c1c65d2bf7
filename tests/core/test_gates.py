"""Connections: where attention is built, when it runs, and what gates between 0 and 1 compute (Eq. 4)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from ean_core import ConnectionScheme, EANCifarResNet
from ean_testing.references import attend, weights_of
from ean_testing.tiny import BLOCKS, KINDS, assert_equal, tiny
from ean_testing.tiny import images as tiny_images

images = partial(tiny_images, dtype=torch.float64)


def build(kind: str | None = "SE", seed: int = 0, **options: Any) -> EANCifarResNet:
    return tiny(kind, seed, **options).double().eval()


def draw_schemes(number: int) -> list[ConnectionScheme]:
    generator = torch.Generator().manual_seed(0)
    return [ConnectionScheme.random(BLOCKS, generator=generator) for _ in range(number)]


def connected_count(text: str) -> list[int]:
    return [stage.count("1") for stage in text.split("-")]


@torch.no_grad()
def by_hand(net: EANCifarResNet, kind: str, x: torch.Tensor, gates: Sequence[Sequence[float]]) -> list[np.ndarray]:
    """Eq. 4 block by block, with the attention as plain loops: relu(x + (a M(f) + (1 - a) 1) * f).

    The state of DIA starts at zero in every stage, and a gate blends it as it blends the mask: a s' + (1 - a) s.
    """
    outputs = []
    x = torch.relu(net.bn1(net.conv1(x)))
    for stage, stage_gates in zip((net.layer1, net.layer2, net.layer3), gates, strict=True):
        weights = weights_of(stage.attention) if stage.attention is not None else {}
        h = c = np.zeros((x.shape[0], stage.get_submodule("0").bn2.num_features))
        for i, a in enumerate(stage_gates):
            block = stage.get_submodule(str(i))
            f = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x))))).numpy()
            branch = f
            if a != 0:
                masked, state = attend(kind, weights, f, (h, c) if kind == "DIA" else None)
                branch = a * masked + (1 - a) * f
                if state is not None:
                    h, c = a * state[0] + (1 - a) * h, a * state[1] + (1 - a) * c
            skip = block.downsample(x) if block.downsample is not None else x
            x = torch.relu(skip + torch.from_numpy(branch))
        outputs.append(x.numpy())
    return outputs


@pytest.mark.parametrize("scheme", ["full", "none", "101-110-011", *draw_schemes(3)], ids=str)
@KINDS
def test_schemes_equal_the_plain_loops(kind: str, scheme: str | ConnectionScheme) -> None:
    net = build(kind, scheme=scheme)
    gates = [[float(bit) for bit in stage] for stage in ConnectionScheme.parse(scheme, BLOCKS).stages]
    for out, expected in zip(net(images()), by_hand(net, kind, images(), gates), strict=True):
        np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-10, atol=1e-10)


@KINDS
def test_fractional_gates_are_equation_4(kind: str) -> None:
    net = build(kind)
    gates = torch.tensor([0.3, 0.0, 0.9, 1.0, 0.5, 0.25, 0.0, 0.1, 0.7], dtype=torch.float64)
    net.set_scheme(gates)
    assert net.scheme is None
    expected = by_hand(net, kind, images(), gates.view(3, 3).tolist())
    for out, other in zip(net(images()), expected, strict=True):
        np.testing.assert_allclose(out.detach().numpy(), other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("scheme", ["full", "none", *draw_schemes(4)], ids=str)
@KINDS
def test_gates_of_0_and_1_equal_booleans(kind: str, scheme: str | ConnectionScheme) -> None:
    net = build(kind)
    net.set_scheme(scheme)
    expected = net(images())
    net.set_scheme(torch.tensor(ConnectionScheme.parse(scheme, BLOCKS).bits, dtype=torch.float64))
    assert_equal(net(images()), expected)


@KINDS
def test_gradients_reach_the_gates(kind: str) -> None:
    net = build(kind, depth=14)  # two blocks a stage, so that a gate also acts through the state

    def function(gates: torch.Tensor) -> tuple[torch.Tensor, ...]:
        net.set_scheme(gates)
        return net(images(1, 4))

    gates = torch.linspace(0.2, 0.8, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (gates,))
    (gradient,) = torch.autograd.grad(function(gates)[-1].sum(), gates)
    assert (gradient != 0).all()


@KINDS
def test_a_supernet_runs_every_scheme_as_its_own_network_does(kind: str) -> None:
    supernet = build(kind)
    for scheme in draw_schemes(5):
        alone = build(kind, seed=1, scheme=scheme)
        loaded = alone.load_state_dict(supernet.state_dict(), strict=False)
        assert loaded.missing_keys == []
        assert all(".attention." in name for name in loaded.unexpected_keys)
        supernet.set_scheme(str(scheme))
        assert supernet.scheme == scheme
        assert_equal(supernet(images()), alone(images()))


@pytest.mark.parametrize("scheme", ["full", "none", "101-000-011"])
@KINDS
def test_attention_runs_once_a_connected_block(kind: str, scheme: str) -> None:
    net, calls = build(kind), [0, 0, 0]
    for i, stage in enumerate(net.stages):
        stage.attention.register_forward_hook(lambda *_, i=i: calls.__setitem__(i, calls[i] + 1))
    net.set_scheme(scheme)
    net(images())
    assert calls == connected_count(str(ConnectionScheme.parse(scheme, BLOCKS)))


@KINDS
def test_a_stage_without_connections_builds_no_attention(kind: str) -> None:
    net = build(kind, scheme="100-000-011")
    owners = {name.split(".attention")[0] for name in net.state_dict() if "attention" in name}
    assert owners == {"layer1", "layer3"}
    # What is built is used: a parameter without a gradient would break distributed training.
    net(images())[-1].sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
    assert not any("attention" in name for name in build(kind, scheme="none").state_dict())


@KINDS
def test_sharing_by_block_gives_every_connected_block_its_own(kind: str) -> None:
    net = build(kind, scheme="101-000-010", sharing="block")
    owners = {name.split(".attention")[0] for name in net.state_dict() if "attention" in name}
    assert owners == {"layer1.0", "layer1.2", "layer3.1"}
    one = sum(p.numel() for p in build(kind, scheme="100-000-000").stages[0].attention.parameters())
    assert sum(p.numel() for name, p in net.named_parameters() if name.startswith("layer1.0.attention")) == one

    # With the shared module's weights in each of its places, it computes what the shared module does.
    shared = build(kind, scheme="101-000-010")
    state = {}
    for name, tensor in shared.state_dict().items():
        stage, _, rest = name.partition(".attention.")
        places = [owner for owner in owners if owner.startswith(stage)] if rest else []
        state.update({f"{place}.attention.{rest}": tensor for place in places} if rest else {name: tensor})
    net.load_state_dict(state)
    assert_equal(net(images()), shared(images()))


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        ("101-010-000", "stage 2 has a block to connect but no attention"),
        ("full", "stage 2 has a block to connect but no attention"),
        (torch.full((9,), 0.5), "stage 2 has a block to connect but no attention"),
        ("101-010", "expected 9 bits, 3-3-3 a stage"),
        (torch.zeros(8), r"float tensor of shape \(9,\)"),
        (torch.zeros(9, 1), r"float tensor of shape \(9,\)"),
        (torch.zeros(9, dtype=torch.int64), "float tensor"),
        (torch.zeros(9, dtype=torch.bool), "float tensor"),
    ],
    ids=str,
)
def test_a_refused_scheme_leaves_the_old_one_in_place(scheme: str | torch.Tensor, message: str) -> None:
    net = build(scheme="110-000-011")
    expected = net(images())
    with pytest.raises(ValueError, match=message):
        net.set_scheme(scheme)
    assert str(net.scheme) == "110-000-011"
    assert [stage.gates for stage in net.stages] == [[True, True, False], [False] * 3, [False, True, True]]
    assert_equal(net(images()), expected)


def test_a_plain_network_has_the_empty_scheme_and_takes_no_other() -> None:
    net = build(None)
    assert net.scheme == ConnectionScheme.none(BLOCKS)
    net.set_scheme("none")
    with pytest.raises(ValueError, match="build the backbone with an attention and scheme='full'"):
        net.set_scheme("full")
    with pytest.raises(ValueError, match="stage 1 has a block to connect but no attention"):
        build("SE", sharing="block", scheme="101-111-111").set_scheme("full")


def test_dia_state_leaks_neither_between_calls_nor_samples_nor_stages() -> None:
    net, x = build("DIA"), images(3)
    expected = net(x)
    net(images(5, 4))
    assert_equal(net(x), expected)
    for n in range(3):
        for one, batch in zip(net(x[n : n + 1]), expected, strict=True):
            torch.testing.assert_close(one, batch[n : n + 1], rtol=0, atol=1e-12)

    given = []  # the state that the first connected block of each stage is given
    net.set_scheme("011-101-001")
    for stage in net.stages:
        stage.attention.register_forward_pre_hook(lambda _, args: given.append(args[1] is None))
    net(x)
    assert given == [True, False, True, False, True]


def test_a_disconnected_block_leaves_dia_state_untouched() -> None:
    net, states = build("DIA"), []
    net.set_scheme("101-000-000")
    net.layer1.attention.register_forward_hook(lambda _, args, out: states.append((args[1], out[1])))
    net(images())
    (before_first, after_first), (before_second, _) = states
    assert before_first is None
    assert before_second is after_first
