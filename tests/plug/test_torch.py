"""A plugged network in what torch makes of networks: copies, graphs, mixed precision, several processes."""

import copy
import pickle
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ean_core.errors import UserError
from ean_core.plug import find_plugged, find_points, plug, unplug
from ean_testing.plugs import Small, handle, small
from ean_testing.references import randomize
from ean_testing.tiny import CONFIGS, images
from ean_testing.versions import exports

SE, SGE, DIA = CONFIGS["SE"], CONFIGS["SGE"], CONFIGS["DIA"]
KINDS = pytest.mark.parametrize("attention", [SE, SGE, DIA], ids=["SE", "SGE", "DIA"])
SE_DIA = pytest.mark.parametrize("attention", [SE, DIA], ids=["SE", "DIA"])


@KINDS
def test_copies_and_pickles_are_networks_of_their_own(attention: dict[str, Any]) -> None:
    model = small(attention, "101-1", sharing="point").eval()
    x = images()
    expected = model(x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), expected)
        assert handle(other).network is other
        assert handle(other).scheme == handle(model).scheme
        handle(other).set_scheme("none")
        assert not torch.equal(other(x), expected)
        assert torch.equal(model(x), expected)
        handle(other).set_scheme("101-1")
        randomize(handle(other), 2)
        assert torch.equal(model(x), expected)
        unplug(other)
        assert not any(module._forward_hooks for module in other.modules())
        assert not hasattr(other, "plugged")
        assert torch.equal(model(x), expected)


def test_copies_while_a_pass_is_under_way() -> None:
    model = small(DIA)
    copies: list[Any] = []
    model.blocks[1].register_forward_hook(lambda *_: copies.append(copy.deepcopy(handle(model))))
    model(images())
    assert copies[0].carried is None


@KINDS
def test_state_dict_round_trip(attention: dict[str, Any], tmp_path: Path) -> None:
    model = small(attention, "101-1").eval()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    other = plug(Small(), attention, find_points(Small(), images()), "101-1").eval()
    assert not torch.equal(other(images()), model(images()))
    other.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True))
    assert torch.equal(other(images()), model(images()))
    wrapped = nn.ModuleDict({"backbone": copy.deepcopy(model)})
    wrapped.load_state_dict({f"backbone.{key}": value for key, value in other.state_dict().items()})
    assert "backbone.plugged.recipe" in wrapped.state_dict()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@SE_DIA
def test_compiles_without_a_graph_break(attention: dict[str, Any]) -> None:
    torch.compiler.reset()
    model = small(attention).eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for mode in (torch.no_grad, torch.enable_grad):
        with mode():
            for scheme in ("full", "010-1", "full"):
                handle(model).set_scheme(scheme)
                assert torch.equal(compiled(images()), model(images())), scheme
    with torch._dynamo.config.patch(error_on_recompile=True):
        compiled(images())
        compiled(images() + 1)
    gates = torch.linspace(0.1, 0.9, 4).requires_grad_()
    handle(model).set_scheme(gates)
    out = compiled(images())
    assert torch.equal(out, model(images()))
    out.sum().backward()
    assert (gates.grad != 0).all()


def test_compiled_training_steps_equal_eager_ones() -> None:
    torch.compiler.reset()
    models = [small(DIA, start="identity") for _ in range(2)]
    compiled = torch.compile(models[0], fullgraph=True, backend="aot_eager")
    for forward, model in ((compiled, models[0]), (models[1], models[1])):
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        for step in range(3):
            optimizer.zero_grad()
            forward(images() + step).square().mean().backward()
            optimizer.step()
    a, b = (model.state_dict() for model in models)
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-4, atol=1e-5)


@exports
@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")
@pytest.mark.parametrize("strict", [False, True])
@SE_DIA
def test_torch_export(attention: dict[str, Any], strict: bool) -> None:
    model = small(attention, "101-1").eval()
    program = torch.export.export(model, (images(),), strict=strict)
    assert torch.equal(program.module()(images()), model(images()))
    assert handle(model).carried is None
    with torch.no_grad():
        assert torch.equal(torch.export.export(model, (images(),)).module()(images()), model(images()))
    assert torch.equal(model(images()), program.module()(images()))
    assert set(program.state_dict) == {key for key in model.state_dict() if not key.endswith("recipe")}


@pytest.mark.filterwarnings("ignore")
@SE_DIA
def test_onnx(attention: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model = small(attention, "101-1").eval()
    path = tmp_path / "model.onnx"
    torch.onnx.export(model, (images(),), str(path), dynamo=True, verbose=False)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {session.get_inputs()[0].name: images().numpy()})
    torch.testing.assert_close(torch.from_numpy(out), model(images()).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
@KINDS
def test_torch_jit_trace(attention: dict[str, Any]) -> None:
    model = small(attention, "101-1").eval()
    traced = torch.jit.trace(model, images())
    other = images(3) + 1
    assert torch.allclose(traced(other), model(other), rtol=1e-5)


@KINDS
def test_bfloat16_autocast_trains_with_finite_numbers(attention: dict[str, Any]) -> None:
    model = small(attention)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(images())
    assert out.dtype == torch.bfloat16
    out.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.fixture
def process_group() -> Any:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    "options", [{"scheme": "101-0"}, {"scheme": "101-1", "sharing": "point"}, {"start": "identity"}], ids=str
)
def test_ddp_finds_no_unused_parameters(process_group: Any, options: dict[str, Any]) -> None:
    model = small(DIA, **options)
    alone = copy.deepcopy(model)
    parallel = nn.parallel.DistributedDataParallel(model)
    for _ in range(2):  # the second pass fails if the first left a parameter without a gradient
        for net in (parallel, alone):
            net(images()).square().mean().backward()
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(model.parameters(), alone.parameters(), strict=True))
    assert find_plugged(parallel) is handle(model)
    before = list(parallel.state_dict())
    with pytest.raises(UserError, match=r"^DistributedDataParallel: plug into the network before it is wrapped"):
        plug(parallel, SE, find_points(Small(), images()))
    assert list(parallel.state_dict()) == before


def test_ddp_of_a_supernet(process_group: Any) -> None:
    model = small(SE)
    parallel = nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
    for scheme in ("full", "000-1", "none", "110-0"):
        handle(model).set_scheme(scheme)
        parallel(images()).square().mean().backward()


def test_averaged_copies() -> None:
    model = small(DIA, "101-1")
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5), use_buffers=True
    )
    timms = pytest.importorskip("timm.utils").ModelEmaV3(model, decay=0.5)
    before = copy.deepcopy(model)
    for _ in range(2):
        average.update_parameters(model)
    timms.update(model)
    randomize(handle(model), 3)
    randomize(model.stem, 3)
    average.update_parameters(model)
    timms.update(model)
    for other in (average, timms):
        assert find_plugged(other) is not handle(model)
        assert find_plugged(other).network is other.module
        assert other(images()).shape == model(images()).shape
        for name, p in other.module.named_parameters():
            old, new = before.get_parameter(name), model.get_parameter(name)
            torch.testing.assert_close(p, (old + new) / 2)
        assert torch.equal(other.module.state_dict()["plugged.recipe"], model.state_dict()["plugged.recipe"])


def test_optimizers_made_before_and_after() -> None:
    model = Small()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    plug(model, SE, find_points(model, images()))
    optimizer.add_param_group({"params": handle(model).parameters(), "lr": 1.0})
    groups = torch.optim.SGD([{"params": handle(model).parameters()}, {"params": []}], 0.1)
    assert {id(p) for p in groups.param_groups[0]["params"]} == {id(p) for p in handle(model).parameters()}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model(images()).square().mean().backward()
    optimizer.step()
    for name, p in model.named_parameters():
        rate = 1.0 if name.startswith("plugged.") else 0.1
        torch.testing.assert_close(p.detach(), before[name] - rate * p.grad)


# The state of a stage


def test_two_passes_are_independent() -> None:
    model = small(DIA).eval()
    first = model(images())
    assert handle(model).carried is None
    model(images() + 1)
    assert torch.equal(model(images()), first)
    with torch.no_grad():
        model(images() + 1)
        assert handle(model).carried is None
        assert torch.equal(model(images()), first)
    failing = model.blocks[1].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(images() + 1)
    failing.remove()
    assert torch.equal(model(images()), first)


def test_two_threads_interleaved() -> None:
    model = small(DIA).eval()
    inputs = [images(), images() + 1]
    expected = [model(x) for x in inputs]
    turns = threading.Barrier(2, timeout=60)

    def wait(*_: Any) -> None:
        turns.wait()

    for block in (*model.blocks, model.last):
        block.register_forward_hook(wait)
        block.register_forward_pre_hook(wait)
    found: list[Any] = [None, None]

    def run(i: int) -> None:
        found[i] = model(inputs[i])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert handle(model)._states == {}


def checkpointed(**options: Any) -> Callable[..., torch.Tensor]:
    return lambda block, x: checkpoint(block, x, **options)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("attention", [SE, SGE], ids=["SE", "SGE"])
def test_checkpointing_changes_nothing_without_a_state(attention: dict[str, Any], reentrant: bool) -> None:
    gradients = []
    for through in (None, checkpointed(use_reentrant=reentrant)):
        model = small(attention, through=through)
        model(images()).square().mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("which", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_checkpointing_of_parts_of_a_stage_is_refused_or_right(reentrant: bool, which: tuple[int, ...]) -> None:
    """Refused by name, when its activations are recomputed or earlier."""

    def through(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
        chosen = any(block is model.blocks[i] for i in which)
        return checkpoint(block, x, use_reentrant=reentrant) if chosen else block(x)

    expected = small(DIA)
    expected(images()).square().mean().backward()
    model = small(DIA, through=through)
    if reentrant or which != (0,):
        with pytest.raises(
            UserError, match=r"^'blocks.[12]' runs without 'blocks.[01]'.*: activation checkpointing and"
        ):
            model(images()).square().mean().backward()
    else:  # the first block needs no state
        model(images()).square().mean().backward()
        for p, q in zip(model.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_of_a_whole_network_keeps_the_state(reentrant: bool) -> None:
    models = [small(DIA), small(DIA)]
    for model in models:
        model.requires_grad_()
    x = images().requires_grad_()
    models[0](x).square().mean().backward()
    checkpoint(models[1], x, use_reentrant=reentrant).square().mean().backward()
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-5)


def test_part_of_a_stage_alone_is_refused() -> None:
    model = small(DIA)
    with pytest.raises(UserError, match=r"^'blocks.1' runs without 'blocks.0' before it, whose state DIA needs: "):
        model.blocks[1](torch.zeros(1, 8, 6, 6))
    assert model.blocks[0](torch.zeros(1, 8, 6, 6)).shape == (1, 8, 6, 6)
