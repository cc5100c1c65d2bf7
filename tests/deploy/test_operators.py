"""The compiled loops against the equations in float64, as operators of torch, and where they cannot be compiled."""

import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ean_core.attention import DIA, SE, SGE
from ean_core.deploy import fuse, plain
from ean_core.deploy.cpu import library, operators
from ean_core.deploy.fused_bottleneck import add_perceptron
from ean_core.errors import UserError
from ean_testing import references
from ean_testing.fused import NETWORKS, build, difference, images, reference, tolerance

CAPABILITY = torch.backends.cpu.get_cpu_capability()
RUNS_HERE = {"AVX512": ["AVX512", "AVX2"], "AVX2": ["AVX2"]}.get(CAPABILITY, [])
pytestmark = [
    pytest.mark.skipif(not RUNS_HERE, reason=f"the loops are for AVX2 and AVX-512, not for {CAPABILITY}"),
    pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler"),
]


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Let a test, and those after it, load the library anew."""
    library.library.cache_clear()
    yield
    library.library.cache_clear()


@pytest.fixture(params=RUNS_HERE)
def architecture(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every set of instructions that this CPU has."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: request.param)
    assert library.available()
    return str(request.param)


def random(*shape: int) -> torch.Tensor:
    """Channels-last if it has four dimensions."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def matrix(c: int, k: int) -> torch.Tensor:
    """The weight of a 1x1 convolution, in memory as (k, c)."""
    return random(k, c).t()[:, :, None, None]


def branch(u: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """``W u + b`` in float64."""
    return torch.einsum("nkhw,ck->nchw", u.double(), weight.flatten(1).double()) + bias.double()[:, None, None]


@pytest.mark.parametrize("groups", [None, 0, 1, 4, 12, 24, 48])
@pytest.mark.parametrize(
    ("n", "h", "w", "k", "c"), [(1, 1, 1, 16, 96), (3, 7, 1, 48, 192), (2, 17, 23, 32, 48), (5, 2, 3, 16, 144)]
)
def test_expand(n: int, h: int, w: int, k: int, c: int, groups: int | None, architecture: str) -> None:
    """Rows that fill no tile and several chunks of rows; an odd vector; groups smaller, larger and across vectors."""
    z, u, weight, bias = random(n, c, h, w), random(n, k, h, w), matrix(c, k), random(c)
    mask, full = None, torch.ones(1)
    if groups == 0:
        mask = random(n, c)
        full = mask[:, :, None, None]
    elif groups is not None:
        mask = random(n, groups, h, w)
        full = mask.repeat_interleave(c // groups, dim=1)
    f = full.double() * branch(u, weight, bias)
    expected = (z.double() + f).relu()
    assert torch.allclose(plain.expand(z, u, weight, bias, mask).double(), expected, atol=1e-5, rtol=1e-5)
    assert operators.expand(z, u, weight, bias, mask) is z
    assert torch.allclose(z.double(), expected, atol=1e-5, rtol=1e-5)
    if mask is None:
        for way in (plain, operators):
            assert torch.allclose(way.project(u, weight, bias).double(), f.relu(), atol=1e-5, rtol=1e-5)


def test_a_mask_at_the_end_of_its_memory() -> None:
    """Nothing behind the last mask is read: there a page may end."""
    z, u, weight, bias, memory = (
        random(1, 64, 3, 5),
        random(1, 16, 3, 5),
        matrix(64, 16),
        random(64),
        random(15 * 4 + 16),
    )
    expected = z.clone()
    mask = memory[: 15 * 4].view(1, 3, 5, 4).permute(0, 3, 1, 2)
    operators.expand(expected, u, weight, bias, mask)
    memory[15 * 4 :] = torch.nan
    assert torch.equal(operators.expand(z, u, weight, bias, mask), expected)


@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_threads(threads: int) -> None:
    """Every element is summed in the same order, by whichever thread."""
    u, weight, bias = random(3, 16, 20, 20), matrix(64, 16), random(64)
    expected = operators.project(u, weight, bias)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(operators.project(u, weight, bias), expected)
    finally:
        torch.set_num_threads(before)


def test_not_a_number_stays_one() -> None:
    z = random(1, 32, 2, 4)
    z[0, 5, 1, 3] = torch.nan
    out = operators.expand(z, random(1, 16, 2, 4), matrix(32, 16), random(32), None)
    assert torch.isnan(out).nonzero().tolist() == [[0, 5, 1, 3]]


@pytest.mark.parametrize(("n", "h", "w", "k"), [(1, 1, 1, 16), (3, 7, 1, 48), (2, 103, 10, 16)])
def test_squeeze(n: int, h: int, w: int, k: int, architecture: str) -> None:
    u, weight, bias = random(n, k, h, w), matrix(96, k), random(96)
    relu = u.clamp_min(0)
    expected = branch(relu, weight, bias).mean((2, 3))
    for way in (plain, operators):
        given = u.clone()
        assert torch.allclose(way.squeeze_(given, weight, bias).double(), expected, atol=1e-5, rtol=1e-5)
        assert torch.equal(given, relu)


@pytest.mark.parametrize(("n", "height", "width", "groups"), [(2, 3, 5, 4), (1, 4, 4, 32), (3, 1, 1, 4), (2, 2, 5, 24)])
def test_similarity(n: int, height: int, width: int, groups: int, architecture: str) -> None:
    """SGE as plain loops over the branch that the operator never computes: G below, at and across a vector's width."""
    c = 96
    attention = SGE(c, groups).requires_grad_(False)
    references.randomize(attention)
    u, weight, bias = random(n, 16, height, width), matrix(c, 16), random(c)
    f = branch(u.relu(), weight, bias).numpy()
    expected = np.divide(references.sge(f, references.weights_of(attention)), f)[:, :: c // groups]
    for way in (plain, operators):
        given = u.clone()
        mask = way.similarity_(given, weight, bias, attention)
        assert mask.shape == (n, groups, height, width)
        assert np.abs(mask.double().numpy() - expected).max() < 2e-5
        assert torch.equal(given, u.relu())


@pytest.mark.parametrize(("n", "c", "d"), [(1, 32, 1), (5, 96, 6), (3, 256, 16), (40, 48, 24)])
def test_perceptron(n: int, c: int, d: int, architecture: str) -> None:
    """SE as plain loops; scores far beyond where a sigmoid is 0 or 1 in float32."""
    attention = SE(c, c // d).requires_grad_(False)
    references.randomize(attention)
    attention.fc2.bias[:8] = torch.tensor([-200.0, -87.5, -80.0, -20.0, 20.0, 80.0, 200.0, 0.0])
    y = random(n, c)
    add_perceptron(attention)
    mask = attention.perceptron(y)
    expected = references.se(y.double().numpy()[:, :, None, None], references.weights_of(attention))[:, :, 0, 0]
    assert np.abs(mask.double().numpy() * y.double().numpy() - expected).max() < 1e-5
    assert torch.allclose(mask, attention.mask(y, None)[0], atol=1e-30, rtol=1e-4)


@pytest.mark.parametrize(("n", "c"), [(1, 32), (5, 96)])
def test_remember(n: int, c: int, architecture: str) -> None:
    """DIA as plain loops; gates of up to 30, where a hyperbolic tangent is 1 in float32, and at 0."""
    attention = DIA(c, 16).requires_grad_(False)
    references.randomize(attention)
    attention.input_gates[2].weight *= 4
    attention.input_gates[2].bias[2 * c] = 30
    y, state = random(n, c), (random(n, c), random(n, c) + 1)
    old = (state[0].double().numpy(), state[1].double().numpy())
    _, (h, cell) = references.dia(y.double().numpy()[:, :, None, None], old, references.weights_of(attention))
    add_perceptron(attention)
    found = operators.remember(attention.perceptron(torch.cat([y, state[0]], 1)), state[1])
    assert np.abs(found[0].double().numpy() - h).max() < 1e-6
    assert np.abs(found[1].double().numpy() - cell).max() < 1e-5
    assert torch.allclose(operators.remember(torch.full((n, 4 * c), 0.5), state[1])[1], state[1] / 2, rtol=1e-6)


def calls() -> dict[str, tuple[Any, ...]]:
    """Every operator, with arguments."""
    u, weight, bias, mask = random(2, 16, 3, 5), matrix(32, 16), random(32), random(2, 4, 3, 5)
    attention = DIA(32, 16).requires_grad_(False)
    add_perceptron(attention)
    layers = (attention.perceptron.first, attention.perceptron.bias1)
    layers += (attention.perceptron.second, attention.perceptron.bias2)
    return {
        "project": (u, weight, bias),
        "expand_": (random(2, 32, 3, 5), u, weight, bias, mask),
        "squeeze_": (u, weight, bias),
        "similarity_": (u, weight, bias, random(4), random(4)),
        "perceptron": (random(2, 64), *layers),
        "remember": (random(2, 128), random(2, 32)),
    }


@pytest.mark.parametrize("name", calls())
def test_torch_knows_them(name: str) -> None:
    """Schemas (what is changed in place, what may be the same memory), fake kernels and traces are as torch checks."""
    torch.library.opcheck(getattr(torch.ops.ean, name).default, calls()[name])


class Tail(nn.Module):
    """The end of a bottleneck, from operators."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(matrix(32, 16), False), nn.Parameter(random(32), False)

    def forward(self, z: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """(N, 32, H, W) and (N, 16, H, W) to the former."""
        u = u.contiguous(memory_format=torch.channels_last) * 2
        mask = operators.squeeze_(u, self.weight, self.bias).sigmoid()
        return operators.expand(z * 2, u, self.weight, self.bias, mask) + 1


def test_compiled_and_exported() -> None:
    """Both see an operator with a shape, of a batch of any size too, and give its numbers."""
    tail, z, u = Tail(), random(3, 32, 4, 5), random(3, 16, 4, 5)
    expected = tail(z, u)
    assert torch.allclose(torch.compile(tail, fullgraph=True)(z, u), expected, atol=1e-6)
    batch = torch.export.Dim("batch")
    program = torch.export.export(tail, (z, u), dynamic_shapes={"z": {0: batch}, "u": {0: batch}})
    assert {"ean::squeeze_", "ean::expand_"} <= {
        node.target.name() for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload)
    }
    more = [torch.cat([t, t]).contiguous(memory_format=torch.channels_last) for t in (z, u)]
    assert torch.allclose(program.module()(*more), torch.cat([expected, expected]), atol=1e-6)


@pytest.mark.parametrize("attention", ["SE", "SGE", "DIA"])
def test_a_fused_network_compiles_without_a_break(attention: str) -> None:
    net, x = fuse(build("cifar29", attention)), images("cifar29", 2)
    with torch.inference_mode():
        expected = net(x)[-1]
        assert difference(torch.compile(net, fullgraph=True)(x)[-1], expected) < 1e-5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda u, w, b: (u.double(), w, b), "torch.float64"),
        (lambda u, w, b: (u.contiguous(), w, b), "channels-last"),
        (lambda u, w, b: (u, w.contiguous(), b), r"in memory as \(C_in, C_out\)"),
        (lambda u, w, b: (u, matrix(24, 16), random(24)), "multiples of 16"),
        (lambda u, w, b: (u, matrix(32, 32), b), r"\(32, 16, 1, 1\)"),
        (lambda u, w, b: (u, w, torch.stack([b, b], 1)[:, 0]), r"strides \(2,\)"),
    ],
)
def test_what_the_loops_cannot_read(change: Any, words: str) -> None:
    """An address of something else is never handed to them."""
    u, weight, bias = change(random(2, 16, 3, 5), matrix(32, 16), random(32))
    for operator in (operators.project, operators.squeeze_):
        with pytest.raises(UserError, match=words):
            operator(u, weight, bias)


def test_other_devices_have_none() -> None:
    """torch itself says so."""
    u, weight, bias = (t.to("meta") for t in (random(2, 16, 3, 5), matrix(32, 16), random(32)))
    assert operators.project(u, weight, bias).shape == (2, 32, 3, 5)  # by the fake kernel
    if torch.cuda.is_available():
        with pytest.raises(NotImplementedError, match="CUDA"):
            operators.project(random(2, 16, 3, 5).cuda(), matrix(32, 16).cuda(), random(32).cuda())


@pytest.mark.parametrize("name", calls())
def test_an_empty_batch(name: str) -> None:
    """No rows in, no rows out."""
    batched = {"project": 1, "expand_": 2, "squeeze_": 1, "similarity_": 1, "perceptron": 1, "remember": 2}[name]
    arguments = [t[:0] if i < batched or (name == "expand_" and i == 4) else t for i, t in enumerate(calls()[name])]
    found = getattr(torch.ops.ean, name).default(*arguments)
    for t in found if isinstance(found, tuple) else [] if found is None else [found]:
        assert len(t) == 0


def test_without_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "library", lambda: None)
    with pytest.raises(UserError, match="needs the compiled loops"):
        operators.project(*calls()["project"])


@pytest.mark.parametrize("attention", ["none", "SE", "SGE", "DIA"])
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "resnet101"])
def test_same_function_without_them(name: str, attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a compiler."""
    monkeypatch.setattr(library, "library", lambda: None)
    net = build(name, attention, "half")
    x = images(name, 2)
    with torch.inference_mode():
        expected = reference(net, x)
        assert max(map(difference, fuse(net)(x), expected)) < tolerance(net, x, expected)


@pytest.mark.parametrize("attention", ["none", "SE", "SGE", "DIA"])
@pytest.mark.parametrize("name", ["cifar29", "resnet18"])
def test_no_images(name: str, attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty batch has an empty answer, with the loops and without."""
    net, x = build(name, attention), images(name, 1)[:0]
    expected = [(0, *out.shape[1:]) for out in net(images(name, 1))]
    fused = fuse(net)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [out.shape for out in net(x)] == [out.shape for out in fused(x)] == expected
        monkeypatch.setattr(library, "library", lambda: None)
        assert [out.shape for out in fused(x)] == expected


def test_gradients_flow() -> None:
    """Where an image has a gradient, nothing may happen behind autograd's back."""
    net, x = build("cifar29", "SE"), images("cifar29", 2)
    grads = []
    for model in (net, fuse(net)):
        image = x.clone().requires_grad_()
        model(image)[-1].square().mean().backward()
        grads.append(image.grad)
    assert difference(grads[1], grads[0]) < 1e-4


def test_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert library.library() is not None
    made = list((tmp_path / "ean").iterdir())
    assert [path.suffix for path in made] == [".so"]  # nothing half-written beside it
    before = made[0].stat().st_mtime_ns
    library.library.cache_clear()
    assert library.library() is not None
    assert made[0].stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("compiler", "message"),
    [("no-such-compiler", "no C++ compiler"), ("false", "false failed: "), (None, "without AVX")],
)
def test_where_they_cannot_be(
    compiler: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No compiler, one that fails, another CPU: said once, in one line, and the network runs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if compiler:
        monkeypatch.setenv("CXX", compiler)
    else:
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "without AVX")
    said: list[str] = []
    monkeypatch.setattr(library, "print_log", lambda text, *_: said.append(text))
    net, x = build("cifar29", "SE"), images("cifar29")
    with torch.inference_mode():
        for _ in range(2):
            assert difference(fuse(net)(x)[-1], net(x)[-1]) < 1e-5
    assert len(said) == 1
    assert message in said[0]
    assert "\n" not in said[0]
    assert not list(tmp_path.rglob("*.so"))
