"""Many schemes of a plugged network: what each computes alone, to the bit, and the network as it was."""

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from ean_core import ConnectionScheme
from ean_core.deploy import fuse
from ean_core.plug import find_points, forward_schemes, plug
from ean_testing.plugs import Small, handle, small
from ean_testing.references import randomize
from ean_testing.tiny import CONFIGS, images

KINDS = pytest.mark.parametrize("attention", CONFIGS.values(), ids=list(CONFIGS))


def draw(blocks: tuple[int, ...], number: int = 6) -> list[ConnectionScheme]:
    """Distinct schemes, neighbours among them."""
    generator = torch.Generator().manual_seed(0)
    found = {ConnectionScheme.random(blocks, 0.5, generator): None for _ in range(number)}
    last = list(next(iter(found)).bits)
    for i in (0, len(last) // 2, len(last) - 1):
        last[i] = not last[i]
        found[ConnectionScheme.parse("".join("01"[bit] for bit in last), blocks)] = None
    return [*found, ConnectionScheme.full(blocks)]


def alone(model: Any, x: torch.Tensor, schemes: list[ConnectionScheme]) -> dict[ConnectionScheme, torch.Tensor]:
    before = handle(model).scheme
    outs = {}
    for scheme in schemes:
        handle(model).set_scheme(scheme)
        outs[scheme] = model(x)
    handle(model).set_scheme(before or "full")
    return outs


def network(name: str, attention: dict[str, Any]) -> Any:
    if name.startswith("timm:"):
        model = pytest.importorskip("timm").create_model(name.removeprefix("timm:"))
    else:
        model = torchvision.models.get_model(name, weights=None)
    plug(model, attention, find_points(model, torch.zeros(1, 3, 64, 64)))
    randomize(model)
    return model.eval()


NETWORKS = [(name, kind) for name in ("resnet18", "mobilenet_v2", "timm:convnext_atto") for kind in CONFIGS]


@pytest.mark.parametrize(("name", "kind"), [*NETWORKS, ("timm:hrnet_w18_small", "DIA")])
def test_outputs_equal_those_of_each_network_alone(name: str, kind: str) -> None:
    model = network(name, CONFIGS[kind])
    schemes = draw(handle(model).blocks)
    x = images(2, 32)
    for mode in (torch.inference_mode, torch.enable_grad):
        with mode():
            expected = alone(model, x, schemes)
            found = dict(forward_schemes(handle(model), x, schemes))
        assert set(found) == set(schemes)
        assert [scheme for scheme in schemes if not torch.equal(found[scheme], expected[scheme])] == []
        assert len({out.sum().item() for out in found.values()}) == len(schemes)
        assert all(out.isfinite().all() for out in found.values())


ALL = [ConnectionScheme.parse(f"{i:04b}", (3, 1)) for i in range(16)]


@KINDS
def test_work_is_shared(attention: dict[str, Any]) -> None:
    model = small(attention).eval()
    calls = dict.fromkeys(("stem", "blocks.0.0", "blocks.1.0", "blocks.2.0", "down", "last.0"), 0)

    def count(name: str) -> Any:
        return lambda *_: calls.update({name: calls[name] + 1})

    for name in calls:
        part = model.get_submodule(name)
        part.forward = _counted(part.forward, count(name))
    expected = alone(model, images(), ALL)
    assert set(calls.values()) == {16}
    calls.update(dict.fromkeys(calls, 0))
    found = dict(forward_schemes(handle(model), images(), ALL))
    assert all(torch.equal(found[scheme], expected[scheme]) for scheme in ALL)
    assert list(found) == sorted(ALL, key=lambda scheme: scheme.bits)
    assert calls["stem"] == 1 + 1  # and one of the probe with one sample
    assert calls["down"] == 8 + 1  # one for each of the schemes of the first stage
    assert "forward" in vars(model.stem)  # it was replaced before, and is again


def test_a_branch_is_computed_once_for_both_states_of_its_connection() -> None:
    """Also where a ReLU or the addition changes in place what its convolutions returned."""
    model = fuse(network("resnet18", CONFIGS["SE"]))
    schemes = [ConnectionScheme.parse(f"{i:08b}", (2, 2, 2, 2)) for i in range(16)]
    calls = {name: 0 for name, part in model.named_modules() if isinstance(part, nn.Conv2d) and "plugged" not in name}

    def count(name: str) -> Any:
        return lambda *_: calls.update({name: calls[name] + 1})

    for name in calls:
        part = model.get_submodule(name)
        part.forward = _counted(part.forward, count(name))
    found = dict(forward_schemes(handle(model), images(2, 32), schemes))
    computed = {name: number for name, number in calls.items() if "conv" in name and name != "conv1"}
    blocks = [f"layer{stage}.{block}" for stage in range(1, 5) for block in range(2)]
    for block, ways in zip(blocks, (1, 1, 1, 1, 1, 2, 4, 8), strict=True):  # to connect what is before it; and a probe
        assert {number for name, number in computed.items() if name.startswith(block)} == {ways + 1}, block
    expected = alone(model, images(2, 32), schemes)
    assert all(torch.equal(found[scheme], expected[scheme]) for scheme in schemes)


def _counted(forward: Any, count: Any) -> Any:
    def counted(*args: Any) -> Any:
        count()
        return forward(*args)

    return counted


def parts(model: nn.Module) -> Any:
    return [(name, sorted(vars(module)), list(module._forward_hooks)) for name, module in model.named_modules()]


def test_the_network_is_as_it_was_between_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(CONFIGS["DIA"]).eval()
    handle(model).set_scheme("010-1")
    before, out = parts(model), model(images())
    with torch.inference_mode():
        walk = forward_schemes(handle(model), images(), ALL)
        for number, (scheme, _) in enumerate(walk):
            assert str(handle(model).scheme) == "010-1"
            assert parts(model) == before
            assert torch.equal(model(images()), out), scheme
            if number == 5:
                break
        walk.close()
    assert parts(model) == before
    assert handle(model).carried is None
    assert torch.equal(model(images()), out)

    failing = model.down.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        next(forward_schemes(handle(model), images(), ALL))
    failing.remove()
    assert parts(model) == before
    assert str(handle(model).scheme) == "010-1"
    assert torch.equal(model(images()), out)


def test_gates_and_sparse_networks_keep_theirs() -> None:
    model = small(CONFIGS["SE"]).eval()
    gates = torch.linspace(0.1, 0.9, 4).requires_grad_()
    handle(model).set_scheme(gates)
    list(forward_schemes(handle(model), images(), ALL[3:5]))
    assert handle(model).scheme is None
    model(images()).sum().backward()
    assert (gates.grad != 0).all()
    sparse = small(CONFIGS["SE"], "101-0", sharing="point").eval()
    schemes = [ConnectionScheme.parse(text, (3, 1)) for text in ("100-0", "001-0")]
    found = dict(forward_schemes(handle(sparse), images(), schemes))
    assert all(torch.equal(found[scheme], out) for scheme, out in alone(sparse, images(), schemes).items())
    assert str(handle(sparse).scheme) == "101-0"


def test_outputs_and_inputs_that_are_changed_by_their_owner() -> None:
    model = small(CONFIGS["DIA"]).eval()
    expected = alone(model, images(), ALL)
    x = images()
    for scheme, out in forward_schemes(handle(model), x, ALL):
        assert torch.equal(out, expected[scheme])
        out.zero_()
    assert torch.equal(x, images())


class Unkind(Small):
    """Calls modules twice, and changes in place what they returned."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.norm = nn.ReLU(), nn.BatchNorm2d(8)
        self.twice = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
        randomize(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.mul_(2)  # its input
        x = self.twice(self.stem(x))
        x.add_(1)
        for block in self.blocks:
            y = self.norm(self.act(x))
            y += block(x)
            x = self.twice(y)
            x.relu_()
            x[:, :4].mul_(0.5)
        x = self.down(x)
        x += self.last(x)
        return x


@KINDS
def test_modules_called_twice_and_changes_in_place(attention: dict[str, Any]) -> None:
    model: Any = Unkind().eval()
    plug(model, attention, find_points(model, images(), {"type": "named", "match": r"blocks\.\d|last"}))
    randomize(handle(model), 1)
    with torch.no_grad():
        expected = {scheme: out for scheme in ALL for _, out in [(scheme, alone(model, images(), [scheme])[scheme])]}
        x = images()
        found = dict(forward_schemes(handle(model), x, ALL))
    assert all(torch.equal(found[scheme], expected[scheme]) for scheme in ALL)
    assert len({out.sum().item() for out in found.values()}) == 16
    assert torch.equal(x, images())


class View(nn.Module):
    """Returns a part of its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :4]


class Aliases(Small):
    """Uses what a module has changed in its input, and what was changed through a module's view of it."""

    def __init__(self) -> None:
        super().__init__()
        self.view, self.branch = View(), nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(8, 8, 1))
        randomize(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks[0](self.stem(x))
        self.view(x).mul_(2)
        x = self.blocks[1](x) + x
        y = self.branch(x)
        return self.last(self.down(self.blocks[2](x) + y))


@KINDS
def test_changes_of_inputs_are_made_again(attention: dict[str, Any]) -> None:
    model: Any = Aliases().eval()
    plug(model, attention, find_points(model, images(), {"type": "named", "match": r"blocks\.\d|last"}))
    randomize(handle(model), 1)
    with torch.no_grad():
        expected = alone(model, images(), ALL)
        found = dict(forward_schemes(handle(model), images(), ALL))
    assert [scheme for scheme in ALL if not torch.equal(found[scheme], expected[scheme])] == []


def test_schemes_that_do_not_fit_are_refused_first() -> None:
    model = small(CONFIGS["SE"]).eval()
    with pytest.raises(ValueError):
        next(forward_schemes(handle(model), images(), [ConnectionScheme.full((2, 2, 2))]))
    assert list(forward_schemes(handle(model), images(), [])) == []
