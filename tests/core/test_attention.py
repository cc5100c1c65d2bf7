"""Attention modules against plain loops in float64, and what a backbone relies on."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ean_core.attention import ATTENTION, SE, SGE, Attention, build_attention
from ean_testing.references import attend, randomize, weights_of

CONFIGS: dict[str, dict[str, Any]] = {
    "SE": {"type": "SE", "reduction": 4},
    "SGE": {"type": "SGE", "groups": 4},
    "DIA": {"type": "DIA", "reduction": 4},
    "CBAM": {"type": "CBAM", "reduction": 4},
    "BAM": {"type": "BAM", "reduction": 4},
    "ECA": {"type": "ECA"},
    "GE theta-": {"type": "GE", "variant": "theta-"},
    "GE theta- 4": {"type": "GE", "variant": "theta-", "extent": 4},
    "GE theta": {"type": "GE", "variant": "theta", "size": None},
    "GE theta 8": {"type": "GE", "variant": "theta", "extent": 8},
    "GE theta+": {"type": "GE", "reduction": 4, "size": None},
    "GE theta+ 2": {"type": "GE", "reduction": 4, "extent": 2, "relu": True, "bias": True},
    "A2": {"type": "A2"},
    "SimAM": {"type": "SimAM", "decay": 0.1},
    "CoordAtt": {"type": "CoordAtt"},
    "GC": {"type": "GC", "ratio": 0.25},
}
KINDS = tuple(CONFIGS)
NORMED = ("CBAM", "BAM", "GE theta", "GE theta 8", "GE theta+", "GE theta+ 2", "CoordAtt")  # with batch norms
KNOWN = "known are A2, BAM, CBAM, CoordAtt, DIA, ECA, GC, GE, SE, SGE, SimAM"
CHANNELS = 16
SHAPES = [(1, 16, 1, 1), (3, 16, 1, 1), (1, 16, 5, 3), (2, 16, 4, 4), (2, 32, 7, 1), (3, 8, 3, 5)]


def build(
    kind: str, channels: int = CHANNELS, *, size: tuple[int, ...] = (3, 3), dtype: torch.dtype = torch.float32
) -> Attention:
    """In evaluation mode, for maps of ``size`` if it must know."""
    config = dict(CONFIGS[kind])
    if "size" in config:
        config["size"] = size
    module = build_attention(config, channels).to(dtype).eval()
    randomize(module)
    return module


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def states(kind: str, samples: int = 2, dtype: torch.dtype = torch.float32) -> Any:
    """A state in the middle of a stage; a stateless module gets something it must hand on untouched."""
    if kind != "DIA":
        return (torch.zeros(1),)
    return draw(samples, CHANNELS, seed=1, dtype=dtype).sigmoid(), draw(samples, CHANNELS, seed=2, dtype=dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("kind", "training"), [*((k, False) for k in KINDS), *((k, True) for k in NORMED)])
def test_equals_the_plain_loops_along_a_stage(kind: str, shape: tuple[int, ...], training: bool) -> None:
    """A batch norm in training sees the batch, or, where one value a channel has no variance, what it has seen."""
    module = build(kind, shape[1], size=shape[2:], dtype=torch.float64).train(training)
    config = dict(CONFIGS[kind])
    name = config.pop("type")
    state, expected_state = None, None
    for call in range(4 if module.stateful else 1):
        x = draw(*shape, seed=call, dtype=torch.float64)
        before = weights_of(module)
        out, state = module(x, state)
        expected, expected_state = attend(name, before, x.numpy(), expected_state, training=training, **config)
        np.testing.assert_allclose(out.detach().numpy(), expected, rtol=0, atol=1e-10)
        assert (state is None) == (expected_state is None)
        for tensor, array in zip(state or (), expected_state or (), strict=True):
            np.testing.assert_allclose(tensor.detach().numpy(), array, rtol=0, atol=1e-10)


def test_the_references_mask_as_the_papers_say() -> None:
    # Values that can be worked out on paper, so that module and reference cannot share one mistake.
    x = np.array([[[[1.0, 3.0]], [[2.0, 2.0]]]])  # (1, 2, 1, 2); GAP = 2, 2
    one = {"weight": np.ones((1, 2)), "bias": np.zeros(1)}
    weights = {"fc1.weight": one["weight"], "fc1.bias": one["bias"]}
    weights |= {"fc2.weight": np.array([[0.0], [0.5]]), "fc2.bias": np.zeros(2)}
    half, two = 0.5, 1 / (1 + np.exp(-2.0))
    np.testing.assert_allclose(attend("SE", weights, x)[0], [[[[half, 3 * half]], [[2 * two, 2 * two]]]])

    # SGE, one group: t = 2*1 + 2*2 = 6 and 2*3 + 2*2 = 10; mean 8, std sqrt(8) -> -+ 2 / (sqrt(8) + 1e-5)
    t = 2 / (8**0.5 + 1e-5)
    low, high = 1 / (1 + np.exp(t)), 1 / (1 + np.exp(-t))
    expected = [[[[low, 3 * high]], [[2 * low, 2 * high]]]]
    np.testing.assert_allclose(attend("SGE", {"weight": np.ones(1), "bias": np.zeros(1)}, x)[0], expected)

    # DIA with zero weights and biases: i = f = o = 1/2, g = 0, so c' = c / 2 and h' = sigmoid(c / 2) / 2
    shapes = {"0.weight": (1, 2), "0.bias": (1,), "2.weight": (8, 1), "2.bias": (8,)}
    zeros = {f"{cell}.{k}": np.zeros(s) for cell in ("input_gates", "hidden_gates") for k, s in shapes.items()}
    out, state = attend("DIA", zeros, x)
    np.testing.assert_allclose(out, x / 4)
    out, state = attend("DIA", zeros, x, (np.ones((1, 2)), np.full((1, 2), 3.0)))
    np.testing.assert_allclose(out, x / (1 + np.exp(-1.5)) / 2)
    assert state is not None
    np.testing.assert_allclose(state[1], np.full((1, 2), 1.5))


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_input_state_and_parameters(kind: str, size: int) -> None:
    module = build(kind, size=(size, size), dtype=torch.float64)
    names = [name for name, _ in module.named_parameters()]
    x = draw(2, CHANNELS, size, size, dtype=torch.float64).requires_grad_()
    state = [s.requires_grad_() for s in states(kind, dtype=torch.float64)] if module.stateful else []

    def function(x: torch.Tensor, *rest: torch.Tensor) -> tuple[torch.Tensor, ...]:
        parameters = dict(zip(names, rest[len(state) :], strict=True))
        inputs = (x, rest[: len(state)] or None)
        out, new = torch.func.functional_call(module, parameters, inputs)
        return out, *(new or ())

    assert torch.autograd.gradcheck(function, (x, *state, *module.parameters()), fast_mode=True)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_constant_maps_have_finite_gradients(kind: str, value: float, training: bool) -> None:
    module = build(kind).train(training)
    x = torch.full((2, CHANNELS, 3, 3), value, requires_grad=True)
    out, _ = module(x)
    out.sum().backward()
    for gradient in [x.grad, *(p.grad for p in module.parameters() if p.grad is not None)]:
        assert gradient is not None
        assert gradient.isfinite().all()


@pytest.mark.parametrize("channels", [64, 256, 2048])
def test_parameter_counts_follow_the_closed_formulas(channels: int) -> None:
    def count(**config: Any) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in build_attention(config, channels).parameters())

    for reduction in (4, 16, 20):
        d = channels // reduction
        assert count(type="SE", reduction=reduction) == 2 * channels * d + d + channels
        assert count(type="DIA", reduction=reduction) == 10 * channels * d + 2 * d + 8 * channels
        assert count(type="CBAM", reduction=reduction) == 2 * channels * d + d + channels + 100
        assert count(type="BAM", reduction=reduction) == 3 * channels * d + 18 * d**2 + 13 * d + channels + 1
        for height, width in ((7, 7), (5, 3)):
            theta = height * width * channels + 2 * channels
            assert count(type="GE", variant="theta", size=(height, width), reduction=reduction) == theta
            plus = {"type": "GE", "size": (height, width), "reduction": reduction}
            assert count(**plus) == theta + 2 * channels * d
            assert count(**plus, bias=True, relu=True) == theta + 2 * channels * d + d + channels
        for steps, extent in ((1, 2), (2, 4), (3, 8)):
            theta = 11 * channels * steps
            assert count(type="GE", variant="theta", extent=extent) == theta
            assert count(type="GE", extent=extent, reduction=reduction) == theta + 2 * channels * d
        m = max(8, d)
        assert count(type="CoordAtt", reduction=reduction) == 3 * channels * m + 3 * m + 2 * channels
        p = int(channels * (1 / reduction))
        assert count(type="GC", ratio=1 / reduction) == 2 * channels * p + 3 * p + 2 * channels + 1
    for groups in (4, 64):
        assert count(type="SGE", groups=groups) == 2 * groups
    for extent in (0, 2, 4, 8):
        assert count(type="GE", variant="theta-", extent=extent) == 0
    assert count(type="A2") == channels**2 + 7 * channels // 4
    assert count(type="A2", m=3, n=5) == (2 * 3 + 2 * 5) * channels + 3 + 2 * 5 + channels
    assert count(type="SimAM") == 0
    assert count(type="ECA") == {64: 3, 256: 5, 2048: 7}[channels]
    assert count(type="ECA", kernel=3) == 3
    for name in ("CBAM", "BAM"):
        assert count(type=name) == count(type=name, reduction=16)
    assert count(type="CoordAtt") == count(type="CoordAtt", reduction=32)
    assert count(type="GC") == count(type="GC", ratio=1 / 16)
    assert count(type="SE") == count(type="SE", reduction=16)
    assert count(type="DIA") == count(type="DIA", reduction=20)
    assert count(type="SGE") == count(type="SGE", groups=64)


def test_sge_starts_as_a_constant_mask() -> None:
    x = draw(2, CHANNELS, 3, 3)
    out, _ = SGE(CHANNELS, groups=4)(x)
    torch.testing.assert_close(out, x * torch.sigmoid(torch.tensor(1.0)))


@pytest.mark.parametrize("kind", KINDS)
def test_channels_last_gives_the_same_values_in_the_same_format(kind: str) -> None:
    module = build(kind, size=(5, 3))
    x = draw(2, CHANNELS, 5, 3)
    out, _ = module(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(out, module(x)[0])
    assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_autocast_stays_close(kind: str, dtype: torch.dtype) -> None:
    module, x, state = build(kind, size=(5, 3)), draw(2, CHANNELS, 5, 3), states(kind)
    expected, _ = module(x, state)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, new_state = module(x.to(dtype), state)
    assert out.dtype == dtype or module.stateful  # DIA's state has a type of its own
    torch.testing.assert_close(out.float(), expected, rtol=0.03, atol=0.03)  # bfloat16 has 8 bits
    assert all(s.isfinite().all() for s in new_state)


@pytest.mark.parametrize("kind", KINDS)
def test_compiles_without_a_graph_break(kind: str) -> None:
    torch.compiler.reset()
    module, x = build(kind, size=(5, 3)), draw(2, CHANNELS, 5, 3)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for state in (None, states(kind)) if kind in ("SE", "DIA") else (None,):
        out, new_state = compiled(x, state)
        expected, expected_state = module(x, state)
        torch.testing.assert_close(out, expected)
        for tensor, other in zip(new_state or (), expected_state or (), strict=True):
            torch.testing.assert_close(tensor, other)


@pytest.mark.parametrize("kind", KINDS)
def test_stateless_modules_hand_on_the_very_state_they_were_given(kind: str) -> None:
    module, state = build(kind), states(kind)
    for given in (None, state):
        _, returned = module(draw(2, CHANNELS, 3, 3), given)
        assert (returned is given) == (not module.stateful)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_kept_between_calls(kind: str) -> None:
    module, x = build(kind), draw(2, CHANNELS, 3, 3)
    before = {name: id(value) for name, value in vars(module).items()}
    first, _ = module(x)
    module(draw(5, CHANNELS, 3, 3, seed=1), states(kind, 5))
    assert torch.equal(module(x)[0], first)
    assert {name: id(value) for name, value in vars(module).items()} == before
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert bool(norms) == (kind in NORMED)
    assert len(list(module.buffers())) == sum(len(list(norm.buffers())) for norm in norms)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_do_not_influence_each_other(kind: str) -> None:
    """In evaluation mode: in training a batch norm is there to let them."""
    module, x = build(kind, dtype=torch.float64), draw(3, CHANNELS, 3, 3, dtype=torch.float64)
    batch, state = module(x, None)
    batch, state = module(batch, state)
    for n in range(3):
        one, one_state = module(x[n : n + 1], None)
        one, one_state = module(one, one_state)
        torch.testing.assert_close(one, batch[n : n + 1], rtol=0, atol=1e-12)
        for tensor, whole in zip(one_state or (), state or (), strict=True):
            torch.testing.assert_close(tensor, whole[n : n + 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "Unknown"}, f"unknown attention 'Unknown': {KNOWN}"),
        ({"reduction": 16}, f"unknown attention None: {KNOWN}"),
        ({"type": SE}, KNOWN),
        ({"type": "SE", "groups": 4}, "attention SE: .*'groups'"),
        ({"type": "SGE", "reduction": 4}, "attention SGE: .*'reduction'"),
        ({"type": "DIA", "hidden": 4}, "attention DIA: .*'hidden'"),
        ({"type": "SE", "channels": 4}, "attention SE: .*'channels'"),
        ({"type": "SE", "reduction": "4"}, "attention SE"),
        ({"type": "SGE", "groups": 5}, "SGE: 16 channels cannot be split into 5 groups"),
        ({"type": "SGE", "groups": 0}, "SGE: 16 channels cannot be split into 0 groups"),
        ({"type": "SGE", "groups": -4}, "SGE: 16 channels cannot be split into -4 groups"),
        ({"type": "SE", "reduction": 17}, "SE: reduction 17 leaves no hidden unit for 16 channels"),
        ({"type": "DIA", "reduction": 17}, "DIA: reduction 17 leaves no hidden unit for 16 channels"),
        ({"type": "SE", "reduction": 0}, "SE: reduction 0 "),
        ({"type": "DIA", "reduction": 0}, "DIA: reduction 0 "),
        ({"type": "SE", "reduction": -4}, "SE: reduction -4 "),
        ({"type": "DIA", "reduction": -4}, "DIA: reduction -4 "),
    ],
    ids=str,
)
def test_mistakes_name_what_is_known(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_attention(config, CHANNELS)


def test_building_leaves_the_config_alone() -> None:
    config = {"type": "SE", "reduction": 4}
    build_attention(config, CHANNELS)
    assert config == {"type": "SE", "reduction": 4}


def test_every_registered_module_is_tested_here() -> None:
    assert set(ATTENTION.module_dict) == {config["type"] for config in CONFIGS.values()}
    assert all(issubclass(cls, Attention) for cls in ATTENTION.module_dict.values())


def test_the_base_class_says_what_is_missing() -> None:
    with pytest.raises(NotImplementedError, match=r"Attention must define forward\(x, state\)"):
        Attention()(torch.zeros(1, 1, 1, 1))
