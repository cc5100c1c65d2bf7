"""The compiled loops against the equations in float64, and what happens where they cannot be compiled."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ean_core.attention import DIA, SE
from ean_core.deploy import fuse
from ean_core.deploy.cpu import kernels
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
    kernels.library.cache_clear()
    yield
    kernels.library.cache_clear()


@pytest.fixture(params=RUNS_HERE)
def architecture(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every set of instructions that this CPU has."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: request.param)
    assert kernels.library() is not None
    return str(request.param)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("groups", [None, 0, 1, 4, 12, 24, 96])
@pytest.mark.parametrize(("n", "p", "k", "c"), [(1, 1, 16, 96), (3, 7, 48, 192), (2, 391, 32, 96), (5, 6, 5, 96)])
def test_expand(n: int, p: int, k: int, c: int, groups: int | None, architecture: str) -> None:
    """Rows that fill no tile and chunks of rows, groups that are smaller, larger and across vectors."""
    identity, u, weight, bias = random(n, p, c), random(n, p, k), random(k, c), random(c)
    mask, full = None, torch.ones(1)
    if groups == 0:
        mask = random(n, c)
        full = mask[:, None]
    elif groups is not None:
        mask = torch.cat([random(n * p * groups), torch.full((kernels.LANES,), torch.nan)])[:-16].view(n, p, groups)
        full = mask.repeat_interleave(c // groups, dim=2)
    f = u.double() @ weight.double() + bias.double()
    for x, start in ((identity, identity.double()), (None, 0)):
        expected = (start + full.double() * f).relu()
        out = torch.full((n, p, c), torch.nan)
        kernels.expand(out, x, u, weight, bias, mask)
        assert torch.allclose(out.double(), expected, atol=1e-5, rtol=1e-5)
    kernels.expand(identity, identity, u, weight, bias, mask)
    assert torch.equal(identity, kernels_out(random(n, p, c), u, weight, bias, mask))


def kernels_out(x: torch.Tensor, *arguments: torch.Tensor | None) -> torch.Tensor:
    """The result in memory of its own."""
    out = torch.empty_like(x)
    kernels.expand(out, x, *arguments)  # type: ignore[arg-type]
    return out


@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_threads(threads: int) -> None:
    """Every element is summed in the same order, whoever does it."""
    x, u, weight, bias = random(3, 400, 64), random(3, 400, 16), random(16, 64), random(64)
    expected = kernels_out(x, u, weight, bias, None)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(kernels_out(x, u, weight, bias, None), expected)
    finally:
        torch.set_num_threads(before)


def test_not_a_number_stays_one() -> None:
    x = random(1, 8, 32)
    x[0, 3, 5] = torch.nan
    out = kernels_out(x, random(1, 8, 16), random(16, 32), random(32), None)
    assert torch.isnan(out).nonzero().tolist() == [[0, 3, 5]]


@pytest.mark.parametrize(("n", "p", "k"), [(1, 1, 16), (3, 7, 48), (2, 1030, 16)])
def test_squeeze(n: int, p: int, k: int, architecture: str) -> None:
    u, weight, bias = random(n, p, k), random(k, 96), random(96)
    relu = u.clamp_min(0)
    y = kernels.squeeze(u, weight, bias)
    assert torch.equal(u, relu)
    assert torch.allclose(y.double(), relu.double().mean(1) @ weight.double() + bias.double(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("n", "height", "width", "groups"), [(2, 3, 5, 4), (1, 4, 4, 32), (3, 1, 1, 4), (2, 2, 5, 24)])
def test_similarity(n: int, height: int, width: int, groups: int, architecture: str) -> None:
    """SGE as plain loops over the branch that the kernel never computes: G below, at and across a vector's width."""
    k, c = 16, 96
    u, weight, bias = random(n, height * width, k).relu(), random(k, c), random(c)
    scale, shift = random(groups), random(groups) + 1
    f = (u.double() @ weight.double() + bias.double()).transpose(1, 2).reshape(n, c, height, width).numpy()
    out = references.sge(f, {"weight": scale.double().numpy(), "bias": shift.double().numpy()})
    expected = np.divide(out, f)[:, :: c // groups].reshape(n, groups, -1).transpose(0, 2, 1)
    mask = kernels.similarity(u, weight, bias, scale, shift)
    assert mask.shape == (n, height * width, groups)
    assert np.abs(mask.double().numpy() - expected).max() < 1e-5


@pytest.mark.parametrize(("n", "c", "d"), [(1, 32, 1), (5, 96, 6), (3, 256, 16)])
def test_excite(n: int, c: int, d: int, architecture: str) -> None:
    """SE as plain loops; scores far beyond where a sigmoid is 0 or 1 in float32."""
    attention = SE(c, c // d).requires_grad_(False)
    references.randomize(attention)
    attention.fc2.bias[:8] = torch.tensor([-200.0, -87.5, -80.0, -20.0, 20.0, 80.0, 200.0, 0.0])
    u, weight, bias = random(n, 3, 16).relu(), random(16, c), random(c)
    y = u.double().mean(1) @ weight.double() + bias.double()
    expected = references.se(y.numpy()[:, :, None, None], references.weights_of(attention))[:, :, 0, 0]
    mask = kernels.excite(u, weight, bias, attention.fc1, attention.fc2)
    assert np.abs(mask.double().numpy() * y.numpy() - expected).max() < 1e-5
    assert torch.allclose(mask, attention.mask(y.float(), None)[0], atol=1e-30, rtol=1e-4)


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
    found = kernels.remember(attention.input_gates(y), attention.hidden_gates(state[0]), state[1])
    assert np.abs(found[0].double().numpy() - h).max() < 1e-6
    assert np.abs(found[1].double().numpy() - cell).max() < 1e-5
    zeros = torch.zeros(n, 4 * c)
    assert torch.allclose(kernels.remember(zeros, zeros, state[1])[1], state[1] / 2, rtol=1e-6)


@pytest.mark.parametrize("attention", ["none", "SE", "SGE", "DIA"])
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "resnet101"])
def test_same_function_without_them(name: str, attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a compiler."""
    monkeypatch.setattr(kernels, "library", lambda: None)
    net = build(name, attention, "half")
    x = images(name, 2)
    with torch.inference_mode():
        expected = reference(net, x)
        assert max(map(difference, fuse(net)(x), expected)) < tolerance(net, x, expected)


@pytest.mark.parametrize("attention", ["none", "SE", "DIA"])  # SGE has no answer to it, fused or not
def test_no_images(attention: str) -> None:
    """An empty batch has an empty answer."""
    net, x = build("cifar29", attention), torch.empty(0, 3, 17, 13)
    with torch.inference_mode():
        assert fuse(net)(x)[-1].shape == net(x)[-1].shape


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
    assert kernels.library() is not None
    made = list((tmp_path / "ean").iterdir())
    assert [path.suffix for path in made] == [".so"]  # nothing half-written beside it
    before = made[0].stat().st_mtime_ns
    kernels.library.cache_clear()
    assert kernels.library() is not None
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
    monkeypatch.setattr(kernels, "print_log", lambda text, *_: said.append(text))
    net, x = build("cifar29", "SE"), images("cifar29")
    with torch.inference_mode():
        for _ in range(2):
            assert difference(fuse(net)(x)[-1], net(x)[-1]) < 1e-5
    assert len(said) == 1
    assert message in said[0]
    assert "\n" not in said[0]
    assert not list(tmp_path.rglob("*.so"))
