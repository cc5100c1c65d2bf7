"""The attention modules of other papers: values worked out by hand, what is special about each, other runtimes."""

import copy
from math import log2
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from ean_core import EANCifarResNet
from ean_core.attention import CBAM, GC, GE, Attention, SimAM, build_attention
from ean_core.errors import UserError
from ean_testing.references import attend, randomize
from ean_testing.versions import exports

C = 16
ANY_SIZE: dict[str, dict[str, Any]] = {
    "SE": {"type": "SE", "reduction": 4},
    "CBAM": {"type": "CBAM", "reduction": 4},
    "BAM": {"type": "BAM", "reduction": 4},
    "ECA": {"type": "ECA"},
    "GE theta-": {"type": "GE", "variant": "theta-"},
    "GE theta- 2": {"type": "GE", "variant": "theta-", "extent": 2},
    "GE theta+ 4": {"type": "GE", "reduction": 4, "extent": 4, "relu": True, "bias": True},
    "A2": {"type": "A2"},
    "SimAM": {"type": "SimAM", "decay": 0.1},
    "CoordAtt": {"type": "CoordAtt"},
    "GC": {"type": "GC", "ratio": 0.25},
}
ONE_SIZE: dict[str, dict[str, Any]] = {
    "GE theta": {"type": "GE", "variant": "theta", "size": (8, 6)},
    "GE theta+": {"type": "GE", "reduction": 4, "size": (8, 6)},
}
EVERY = {**ANY_SIZE, **ONE_SIZE}


def build(config: dict[str, Any], training: bool = False) -> Attention:
    module = build_attention(config, C).train(training)
    randomize(module)
    return module


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_references_say_what_can_be_worked_out_on_paper() -> None:
    x = np.array([[[[1.0, 3.0]], [[2.0, 2.0]]]])  # (1, 2, 1, 2); means 2, 2; maxima 3, 2
    norm = {"weight": np.ones(1), "bias": np.zeros(1), "running_mean": np.zeros(1), "running_var": np.ones(1) - 1e-5}

    def named(name: str, values: dict[str, Any]) -> dict[str, Any]:
        return {f"{name}.{key}": value for key, value in values.items()}

    def sigmoid(value: float) -> float:
        return float(1 / (1 + np.exp(-value)))

    # CBAM: h = relu(x1 - x2 - 1/2) is 0 of the means and 1/2 of the maxima, so the scores are twice b2 plus w2 / 2:
    # channel 1: 1/2 + 2 * (-1/4) = 0, channel 2: 0; so y = x / 2. Then conv7 adds up the maxima of y, 1 and 3/2.
    weights = {"channel.0.weight": np.array([[1.0, -1.0]]), "channel.0.bias": np.array([-0.5])}
    weights |= {"channel.2.weight": np.array([[1.0], [0.0]]), "channel.2.bias": np.array([-0.25, 0.0])}
    kernel = np.zeros((1, 2, 7, 7))
    kernel[0, 0, 3, :] = 1
    weights |= {"spatial.0.weight": kernel, **named("spatial.1", norm)}
    np.testing.assert_allclose(attend("CBAM", weights, x)[0], x / 2 * sigmoid(2.5))

    # BAM without weights: the biases alone. Mc = 1, 3; Ms = 2; 1 + sigmoid(Mc Ms)
    fc, biases = np.zeros((1, 2)), np.array([1.0, 3.0])
    weights = {"channel.0.weight": fc, "channel.0.bias": np.zeros(1), **named("channel.1", norm)}
    weights |= {"channel.3.weight": fc.T, "channel.3.bias": biases}
    for number, shape in ((0, (1, 2, 1, 1)), (3, (1, 1, 3, 3)), (6, (1, 1, 3, 3)), (9, (1, 1, 1, 1))):
        weights |= named(f"spatial.{number}", {"weight": np.zeros(shape), "bias": np.full(1, 2.0)})
        weights |= named(f"spatial.{number + 1}", norm)
    expected = x * (1 + np.array([sigmoid(2.0), sigmoid(6.0)]))[:, None, None]
    np.testing.assert_allclose(attend("BAM", weights, x)[0], expected)

    # ECA, k = 3: 1 * (before) + 10 * (own) + 100 * (after), in tenths of a hundred
    weights = {"conv.weight": np.array([[[0.01, 0.1, 1.0]]])}
    expected = x * np.array([sigmoid(0.2 + 2), sigmoid(0.02 + 0.2)])[:, None, None]
    np.testing.assert_allclose(attend("ECA", weights, x)[0], expected)

    # GE: theta- is sigmoid(mean); at extent 2 the window of the only cell, 3 wide, holds both.
    # theta with the weights 1 and -1/2: the sums are 1 - 3/2 and 2 - 1.
    expected = x * sigmoid(2)
    np.testing.assert_allclose(attend("GE", {}, x, variant="theta-")[0], expected)
    np.testing.assert_allclose(attend("GE", {}, x, variant="theta-", extent=2)[0], expected)
    two = {key: np.repeat(value, 2) for key, value in norm.items()}
    weights = {"gather.0.weight": np.tile([1.0, -0.5], (2, 1, 1, 1)), **named("gather.1", two)}
    expected = x * np.array([sigmoid(-0.5), sigmoid(1.0)])[:, None, None]
    np.testing.assert_allclose(attend("GE", weights, x, variant="theta")[0], expected)
    # theta+: (x1, x2) = (-1/2, 1) -> hidden x1 + x2 = 1/2, with a ReLU before 1; out 2 h and 4 h
    weights |= {"perceptron.1.weight": np.ones((1, 2, 1, 1)), "perceptron.3.weight": np.full((2, 1, 1, 1), 2.0)}
    weights["perceptron.3.weight"][1] = 4
    expected = x * np.array([sigmoid(1), sigmoid(2)])[:, None, None]
    np.testing.assert_allclose(attend("GE", weights, x)[0], expected)
    np.testing.assert_allclose(attend("GE", weights, x, relu=True)[0], x * np.array([[[sigmoid(2)]], [[sigmoid(4)]]]))

    # A2 with m = 1, n = 2: A = x1 = 1, 3. B: maps even, and ln 3 at the second place: descriptors 2 and 1/4 + 9/4.
    # V: position by position even, so each is given 2.25; out adds it to channel 1 only, and 1 to channel 2.
    zero = {"weight": np.zeros((2, 2, 1, 1)), "bias": np.zeros(2)}
    weights = named("features", {"weight": np.array([[1.0, 0.0]]).reshape(1, 2, 1, 1), "bias": np.zeros(1)})
    weights |= named("gathering", {"weight": np.zeros((2, 2, 1, 1)), "bias": np.zeros(2)}) | named("handing", zero)
    weights["gathering.weight"][1, 0] = np.log(3) / 2
    weights |= named("out", {"weight": np.array([[1.0], [0.0]]).reshape(2, 1, 1, 1), "bias": np.array([0.0, 1.0])})
    np.testing.assert_allclose(attend("A2", weights, x)[0], [[[[3.25, 5.25]], [[3.0, 3.0]]]])

    # SimAM: channel 1 has d = 1, 1 and v = 2, so 1 / 8 + 1/2 where lambda is small; channel 2 has d = 0
    expected = x * np.array([sigmoid(1 / (4 * 2.5) + 0.5), sigmoid(0.5)])[:, None, None]
    np.testing.assert_allclose(attend("SimAM", {}, x, decay=0.5)[0], expected)
    np.testing.assert_allclose(attend("SimAM", {}, x[..., :1])[0], x[..., :1] * sigmoid(0.5))

    # CoordAtt, m = 1 here: lines [2; 1, 3] of channel 1, hswish(2) = 2 * 5 / 6, hswish(1) = 4 / 6, hswish(3) = 3
    weights = named("shared.0", {"weight": np.array([[1.0, 0.0]]).reshape(1, 2, 1, 1), "bias": np.zeros(1)})
    weights |= named("shared.1", norm)
    weights |= named("rows", {"weight": np.ones((2, 1, 1, 1)), "bias": np.zeros(2)})
    weights |= named("columns", {"weight": np.ones((2, 1, 1, 1)), "bias": np.array([0.0, 1.0])})
    row = sigmoid(5 / 3)
    expected = x * row * np.array([[[sigmoid(2 / 3), sigmoid(3)]], [[sigmoid(5 / 3), sigmoid(4)]]])
    np.testing.assert_allclose(attend("CoordAtt", weights, x)[0], expected)

    # GC: an even map gathers 2, 2; hidden 2 and -2 -> 1, -1 -> relu 1, 0; out 3 h1 + 1 and 0
    weights = named("map", {"weight": np.zeros((1, 2, 1, 1)), "bias": np.zeros(1)})
    weights |= named("fc1", {"weight": np.array([[1.0, 0.0], [0.0, -1.0]]), "bias": np.zeros(2)})
    weights |= named("norm", {"weight": np.ones(2), "bias": np.zeros(2)})
    weights |= named("fc2", {"weight": np.array([[3.0, 5.0], [0.0, 7.0]]), "bias": np.array([1.0, 0.0])})
    np.testing.assert_allclose(attend("GC", weights, x)[0], x + np.array([4.0, 0.0])[:, None, None], rtol=1e-5)


class All(nn.Module):
    """Every module on the same input."""

    def __init__(self, configs: dict[str, dict[str, Any]]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(build(config) for config in configs.values())

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(part(x)[0] for part in self.parts)


@pytest.mark.parametrize("dynamic", [False, pytest.param(True, marks=exports)], ids=["one size", "any size"])
def test_onnx(dynamic: bool) -> None:
    model = All(ANY_SIZE if dynamic else ONE_SIZE).eval()
    free = torch.export.Dim.DYNAMIC
    shapes = ({0: free, 2: free, 3: free},) if dynamic else None
    program = torch.export.export(model, (draw(2, C, 8, 6),), dynamic_shapes=shapes)
    written = torch.onnx.export(program, input_names=["x"], dynamic_shapes=shapes, dynamo=True, verbose=False)
    assert written is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(written.model_proto.SerializeToString(), options)
    for shape in [(2, C, 8, 6), *([(1, C, 7, 11), (3, C, 1, 1)] if dynamic else [])]:
        x = draw(*shape, seed=1)
        for found, expected in zip(session.run(None, {"x": x.numpy()}), model(x), strict=True):
            np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
def test_torchscript() -> None:
    model, x = All(EVERY).eval(), draw(2, C, 8, 6)
    traced = torch.jit.trace(model, x, check_trace=False)
    for found, expected in zip(traced(x), model(x), strict=True):
        torch.testing.assert_close(found, expected)


def test_norms_of_one_value_compile_without_a_graph_break() -> None:
    torch.compiler.reset()
    model, x = All({"BAM": EVERY["BAM"], **ONE_SIZE}).train(), draw(1, C, 8, 6)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for found, expected in zip(compiled(x), model(x), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", EVERY)
def test_float16_of_large_values_stays_finite(kind: str) -> None:
    """Sums of squares over a map, or of the map itself, would not fit into half precision: 65504 at most."""
    module = build(EVERY[kind]) if kind in ONE_SIZE else build_attention(EVERY[kind], C).eval()
    size = (8, 6) if kind in ONE_SIZE else (40, 40)
    x = (100 + 300 * draw(2, C, *size)).half().requires_grad_()
    with torch.autocast("cpu", dtype=torch.float16):
        out, _ = module(x)
    assert out.dtype == torch.float16
    assert out.isfinite().all()
    out.float().mean().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("kind", [kind for kind in EVERY if kind not in ONE_SIZE])
def test_a_single_value_in_training_moves_no_running_statistics(kind: str) -> None:
    module = build(EVERY[kind], training=True)
    before = {key: value.clone() for key, value in module.named_buffers()}
    training, _ = module(x := draw(1, C, 1, 1))
    assert training.isfinite().all()
    if kind != "CoordAtt":  # a row and a column are two values
        synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(module))
        assert torch.equal(synchronised(x)[0], training)  # in a process that is alone
        assert all(torch.equal(value, before[key]) for key, value in module.named_buffers())
        assert torch.equal(training, module.eval()(x)[0])


def test_running_statistics_are_those_of_the_batches() -> None:
    """CBAM's norm forgets slowly, as its authors set it."""
    module = CBAM(C).train()
    norm: Any = module.spatial[1]
    seen: list[torch.Tensor] = []
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    module(draw(4, C, 5, 3))
    torch.testing.assert_close(norm.running_mean, 0.01 * seen[0].mean().reshape(1))
    torch.testing.assert_close(norm.running_var, 0.99 + 0.01 * seen[0].var().reshape(1))


def test_gc_is_the_identity_at_first_and_in_a_network_whose_convolutions_are_drawn_anew() -> None:
    x = draw(2, C, 5, 3)
    assert torch.equal(GC(C)(x)[0], x)
    torch.manual_seed(0)
    net = EANCifarResNet(29, attention={"type": "GC"})
    net.init_weights()
    plain = EANCifarResNet(29)
    plain.load_state_dict({key: value for key, value in net.state_dict().items() if "attention" not in key})
    images = draw(1, 3, 32, 32)
    assert torch.equal(net.eval()(images)[0], plain.eval()(images)[0])
    last: Any = net.layer1.attention.fc2
    net(images)[0].sum().backward()
    assert last.weight.grad.abs().sum() > 0  # it leaves that place


def test_a2_without_its_last_convolution_is_the_identity() -> None:
    module: Any = build(ANY_SIZE["A2"])
    nn.init.zeros_(module.out.weight)
    nn.init.zeros_(module.out.bias)
    assert torch.equal(module(x := draw(2, C, 5, 3))[0], x)


def test_bam_weighs_between_once_and_twice() -> None:
    x = draw(2, C, 5, 3)
    mask = build(ANY_SIZE["BAM"])(x)[0] / x
    assert 1 < mask.min() < mask.max() < 2


@pytest.mark.parametrize("channels", [1, 2, 3, 8, 64, 128, 256, 512, 1024, 2048])
def test_the_kernel_of_eca(channels: int) -> None:
    """The odd number next to ``(log2 C + 1) / 2``, its whole part or one more."""
    module: Any = build_attention({"type": "ECA"}, channels)
    (kernel,) = module.conv.kernel_size
    assert kernel % 2 == 1
    assert 0 <= kernel - int((log2(channels) + 1) / 2) <= 1
    assert module(torch.ones(1, channels, 1, 1))[0].shape == (1, channels, 1, 1)


@pytest.mark.parametrize("decay", [1e-4, 0.1])
def test_simam_of_one_position(decay: float) -> None:
    x = draw(2, C, 1, 1)
    torch.testing.assert_close(SimAM(C, decay)(x)[0], x * torch.sigmoid(torch.tensor(0.5)))


@pytest.mark.parametrize("size", [7, (7, 7), [7, 7], {8: 14, 16: 7}, {"8": 14, "16": (7, 7)}], ids=str)
def test_the_sizes_that_ge_takes(size: Any) -> None:
    """A JSON file turns numbers that are keys into text."""
    module = GE(C, size=size)
    assert module(draw(2, C, 7, 7))[0].shape == (2, C, 7, 7)
    with pytest.raises(UserError, match=r"^GE: built for maps of 7x7, got 7x8: its kernel is as large as the map$"):
        module(draw(2, C, 7, 8))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "CBAM", "reduction": 17}, "^CBAM: reduction 17 leaves no hidden unit for 16 channels$"),
        ({"type": "BAM", "reduction": 0}, "^BAM: reduction 0 leaves no hidden unit for 16 channels$"),
        ({"type": "GC", "ratio": 0.01}, "^GC: ratio 0.01 leaves no hidden unit for 16 channels$"),
        ({"type": "GC", "ratio": -1}, "^GC: ratio -1 leaves no hidden unit"),
        ({"type": "CoordAtt", "reduction": 0}, "^CoordAtt: reduction must be 1 or more, got 0$"),
        ({"type": "A2", "m": 0}, "^A2: 16 channels with m=0 and n=4 leave nothing to gather$"),
        ({"type": "A2", "n": -1}, "^A2: 16 channels with m=4 and n=-1 leave nothing to gather$"),
        ({"type": "ECA", "kernel": 4}, "^ECA: the kernel is an odd number of channels, got 4$"),
        ({"type": "ECA", "kernel": -3}, "^ECA: the kernel is an odd number of channels, got -3$"),
        ({"type": "SimAM", "decay": 0}, "^SimAM: decay must be positive, got 0$"),
        ({"type": "SimAM", "reduction": 4}, "attention SimAM: .*'reduction'"),
        ({"type": "GE", "variant": "beta"}, "^GE: variant is one of .*, got 'beta' and 0$"),
        ({"type": "GE", "extent": 3}, "^GE: .*extent of .*, got 'theta[+]' and 3$"),
        ({"type": "GE"}, "^GE: theta[+] over the whole map needs size, .*got None: or use extent=2, 4 or 8"),
        ({"type": "GE", "variant": "theta"}, "^GE: theta over the whole map needs size"),
        ({"type": "GE", "size": 0}, "^GE: theta[+] over the whole map needs size, .*got 0"),
        ({"type": "GE", "size": (7, 7, 7)}, r"^GE: theta[+] over the whole map needs size, .*got \(7, 7, 7\)"),
        ({"type": "GE", "size": "7"}, "^GE: theta[+] over the whole map needs size, .*got '7'"),
        ({"type": "GE", "size": 7.5}, "^attention GE: |^GE: theta[+] over the whole map needs size, .*got 7.5"),
        ({"type": "GE", "size": {8: 7, 32: 3}}, "^GE: size has no entry for 16 channels, only for 8, 32$"),
        ({"type": "GE", "size": 7, "reduction": 17}, "^GE: reduction 17 leaves no hidden unit for 16 channels$"),
    ],
    ids=str,
)
def test_mistakes_are_one_line(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        build_attention(config, C)
    assert "\n" not in str(error.value)
