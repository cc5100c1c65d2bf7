"""The backbones' modes: freezing, checkpointing, copies, memory formats, mixed precision, compilation."""

import copy
import pickle

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ean_testing.tiny import KINDS, assert_equal, images, tiny


@pytest.mark.parametrize("frozen", [-1, 0, 1, 3])
def test_frozen_stages_stay_as_they_are(frozen: int) -> None:
    net = tiny(frozen_stages=frozen)
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    assert net.train() is net
    out = net(images())[-1]
    assert out.requires_grad == (frozen < 3)
    if out.requires_grad:
        out.sum().backward()
    prefixes = [("conv1.", "bn1."), ("layer1.",), ("layer2.",), ("layer3.",)][: frozen + 1]
    still = tuple(prefix for group in prefixes for prefix in group)
    for name, parameter in net.named_parameters():
        assert parameter.requires_grad != name.startswith(still), name
        assert (parameter.grad is None) == name.startswith(still), name
    for name, module in net.named_modules():
        if name:
            assert module.training != f"{name}.".startswith((*still, "relu.") if still else ()), name
    for name, buffer in net.named_buffers():
        assert torch.equal(buffer, before[name]) == name.startswith(still), name


def test_norm_eval_stops_the_statistics_but_not_the_learning() -> None:
    net = tiny(norm_eval=True)
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    assert net.train() is net
    net(images())[-1].sum().backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())
    for module in net.modules():
        assert module.training != isinstance(module, _BatchNorm)
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_eval_ends_training_everywhere() -> None:
    net = tiny(norm_eval=True, frozen_stages=1)
    assert net.train().eval() is net
    assert not any(module.training for module in net.modules())


@pytest.mark.parametrize("gates", ["101-011-110", torch.linspace(0.1, 0.9, 9, dtype=torch.float64)], ids=type)
@KINDS
def test_checkpointing_changes_nothing(kind: str, gates: str | torch.Tensor) -> None:
    results = []
    for with_cp in (False, True):
        net = tiny(kind, with_cp=with_cp).double()
        leaf = gates.clone().requires_grad_() if isinstance(gates, torch.Tensor) else gates
        net.set_scheme(leaf)
        x = images(dtype=torch.float64).requires_grad_()
        for _ in range(2):
            outs = net(x)
            sum(out.square().mean() for out in outs).backward()  # type: ignore[union-attr]
        gradients = {name: p.grad for name, p in net.named_parameters()} | {"input": x.grad}
        if isinstance(leaf, torch.Tensor):
            gradients["gates"] = leaf.grad
        results.append((outs, gradients, dict(net.named_buffers())))
    (outs, gradients, buffers), (cp_outs, cp_gradients, cp_buffers) = results
    assert_equal(cp_outs, outs)
    assert all(gradient is not None for gradient in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(cp_gradients[name], gradient, rtol=1e-12, atol=1e-14)
    assert all(torch.equal(cp_buffers[name], buffer) for name, buffer in buffers.items())
    assert int(cp_buffers["layer1.0.bn1.num_batches_tracked"]) == 2


@KINDS
def test_copies_and_pickles_are_the_same_network(kind: str) -> None:
    net = tiny(kind, scheme="101-011-000").eval()
    expected = net(images())
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other.scheme == net.scheme
        assert_equal(other(images()), expected)
        other.layer1.attention.requires_grad_(False).apply(lambda m: [p.zero_() for p in m.parameters()])
        assert_equal(net(images()), expected)  # nothing is shared with the original


@KINDS
def test_channels_last_changes_no_value(kind: str) -> None:
    net = tiny(kind).eval()
    expected = net(images())
    outs = net.to(memory_format=torch.channels_last)(images().to(memory_format=torch.channels_last))
    for out, other in zip(outs, expected, strict=True):
        torch.testing.assert_close(out, other, rtol=1e-4, atol=1e-5)
        assert out.is_contiguous(memory_format=torch.channels_last)


@KINDS
def test_bfloat16_autocast_trains_with_finite_numbers(kind: str) -> None:
    net = tiny(kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outs = net(images())
    assert all(out.isfinite().all() for out in outs)
    sum(out.float().mean() for out in outs).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("kind", ["SE", "DIA"])
def test_compiles_without_a_graph_break(kind: str) -> None:
    torch.compiler.reset()
    net = tiny(kind, depth=14, scheme="10-11-01").eval()
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    assert_equal(compiled(images()), net(images()))
