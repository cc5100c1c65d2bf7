"""A plugged network is the network and its attention: equal to EANResNet, and its own parts untouched."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from ean_core import ConnectionScheme, EANResNet
from ean_core.errors import UserError
from ean_core.plug import Points, find_plugged, find_points, plug, unplug
from ean_testing.plugs import Small, handle, resnet, small
from ean_testing.references import randomize
from ean_testing.tiny import CONFIGS, images

SE, SGE, DIA = CONFIGS["SE"], CONFIGS["SGE"], CONFIGS["DIA"]
KINDS = pytest.mark.parametrize("attention", [SE, SGE, DIA], ids=["SE", "SGE", "DIA"])
SPARSE = "10-01-11-00"


@pytest.fixture(scope="module")
def points() -> Points:
    return find_points(torchvision.models.resnet18(), torch.zeros(1, 3, 64, 64))


@pytest.fixture(scope="module")
def bare() -> Any:
    """torchvision's ResNet-18; tests leave it as it is."""
    return resnet()


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def plugged(points: Points, attention: Any = SE, scheme: Any = "full", **options: Any) -> Any:
    model = plug(resnet(), attention, points, scheme, **options)
    randomize(handle(model), 1)
    return model


def as_ean(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The keys of a plugged torchvision ResNet, as EANResNet's."""
    found = {}
    for key, value in state.items():
        if key.startswith("plugged.stage"):
            owner, _, rest = key.removeprefix("plugged.stage").partition(".")
            stage, _, point = owner.partition("_")
            key = f"layer{stage}.{int(point) - 1}.attention.{rest}" if point else f"layer{stage}.attention.{rest}"
        if not key.startswith("fc.") and key != "plugged.recipe":
            found[key] = value
    return found


# The same numbers as EANResNet


def features(model: Any, x: torch.Tensor) -> torch.Tensor:
    """The feature maps before the pooling."""
    found: list[torch.Tensor] = []
    hook = model.layer4.register_forward_hook(lambda module, args, output: found.append(output))
    model(x)
    hook.remove()
    return found[0]


@pytest.mark.parametrize(
    ("attention", "sharing", "depth"),
    [(SE, "stage", 50), (SE, "point", 18), (SGE, "stage", 18), ({**DIA, "reduction": 20}, "stage", 18)],
    ids=["SE-stage-50", "SE-point-18", "SGE-stage-18", "DIA-stage-18"],
)
def test_torchvisions_resnet_equals_ours_training_step_included(
    attention: dict[str, Any], sharing: str, depth: int
) -> None:
    model = resnet(depth, num_classes=2)
    plug(model, attention, find_points(model, torch.zeros(1, 3, 64, 64)), sharing=sharing)
    randomize(handle(model), 1)
    ours = EANResNet(depth, attention=attention, sharing="block" if sharing == "point" else sharing, out_indices=(3,))
    ours.load_state_dict(as_ean(model.state_dict()))
    optimizers = [torch.optim.SGD(net.parameters(), 0.1, momentum=0.9) for net in (model, ours)]
    x = images(2, 32)
    for scheme in ("full", "010-0010-110011-001" if depth == 50 else SPARSE, "none"):
        handle(model).set_scheme(scheme)
        ours.set_scheme(scheme)
        model.train()
        ours.train()
        outs = features(model, x), ours(x)[-1]
        assert torch.equal(*outs)
        for out, optimizer in zip(outs, optimizers, strict=True):
            optimizer.zero_grad()
            out.square().mean().backward()
            nn.utils.clip_grad_value_([p for group in optimizer.param_groups for p in group["params"]], 0.1)
            optimizer.step()
        found, expected = as_ean(model.state_dict()), ours.state_dict()
        assert [key for key, value in expected.items() if not torch.equal(found[key], value)] == []
        assert all(value.isfinite().all() for value in expected.values())
        model.eval()
        ours.eval()
        with torch.no_grad():
            assert torch.equal(features(model, x), ours(x)[-1])


@KINDS
def test_gates_equal_ours_and_learn(attention: dict[str, Any], points: Points) -> None:
    model = plugged(points, attention).eval()
    ours = EANResNet(18, attention=attention, out_indices=(3,)).eval()
    ours.load_state_dict(as_ean(model.state_dict()))
    gradients = []
    for net, forward in ((handle(model), lambda x: features(model, x)), (ours, lambda x: ours(x)[-1])):
        gates = torch.linspace(0.1, 0.9, 8).requires_grad_()
        net.set_scheme(gates)
        assert net.scheme is None
        out = forward(images(2, 32))
        out.square().mean().backward()
        gradients.append((out, gates.grad))
    (a, grad_a), (b, grad_b) = gradients
    assert torch.equal(a, b)
    assert torch.equal(grad_a, grad_b)
    assert (grad_a != 0).all()
    with torch.no_grad():
        for scheme in (SPARSE, "full", "none"):
            handle(model).set_scheme(torch.tensor(ConnectionScheme.parse(scheme, points.blocks).bits).float())
            by_gates = model(images(2, 32))
            handle(model).set_scheme(scheme)
            assert torch.equal(by_gates, model(images(2, 32)))
    for gates in (torch.ones(7), torch.ones(8, dtype=torch.int64), torch.ones(2, 4)):
        with pytest.raises(UserError, match="gates must be a float tensor"):
            handle(model).set_scheme(gates)


# Its own keys, values and class


@pytest.mark.parametrize("options", [{}, {"sharing": "point"}, {"start": "identity"}, {"scheme": "none"}], ids=str)
def test_own_keys_and_values_are_untouched(bare: Any, points: Points, options: dict[str, Any]) -> None:
    model = bare
    before = {key: value.clone() for key, value in model.state_dict().items()}
    parameters, names, cls = list(model.parameters()), set(vars(model)), type(model)
    assert plug(model, SE, points, **options) is model
    after = model.state_dict()
    assert [key for key in after if not key.startswith("plugged.")] == list(before)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert type(model) is cls
    assert set(vars(model)) == names
    new = list(handle(model).parameters())
    assert [id(p) for p in model.parameters()] == [id(p) for p in [*parameters, *new]]
    assert not {id(p) for p in new} & {id(p) for p in parameters}
    assert find_plugged(nn.ModuleDict({"backbone": model})) is handle(model)
    assert unplug(model) is model
    assert find_plugged(model) is None
    assert list(model.state_dict()) == list(before)
    assert set(vars(model)) == names
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(UserError, match=r"^ResNet is not plugged$"):
        unplug(model)


def test_parameters_are_those_of_the_formula(bare: Any, points: Points) -> None:
    model = bare

    def count(**options: Any) -> int:
        plug(model, {"type": "SE", "reduction": 16}, points, **options)
        number = sum(p.numel() for p in handle(model).parameters())
        unplug(model)
        return number

    se = {c: 2 * c * (c // 16) + c // 16 + c for c in (64, 128, 256, 512)}
    assert count() == sum(se.values())
    assert count(sharing="point") == 2 * sum(se.values())
    assert count(scheme=SPARSE) == se[64] + se[128] + se[256]
    assert count(scheme=SPARSE, sharing="point") == se[64] + se[128] + 2 * se[256]
    assert count(scheme="none") == 0
    assert count(start="identity") == sum(se.values()) + 4


@KINDS
def test_weights_load_before_or_after(bare: Any, points: Points, attention: dict[str, Any]) -> None:
    weights = bare.state_dict()
    first = torchvision.models.resnet18()
    first.load_state_dict(weights)
    plug(first, attention, points)
    randomize(handle(first), 1)
    second = plug(torchvision.models.resnet18(), attention, points)
    missing, unexpected = second.load_state_dict(weights, strict=False)
    assert not unexpected
    assert not missing
    handle(second).load_state_dict(handle(first).state_dict())
    x = images(1, 32)
    assert torch.equal(first.eval()(x), second.eval()(x))
    third = plug(torchvision.models.resnet18(), attention, find_points(first, torch.zeros(1, 3, 224, 224)))
    third.load_state_dict(first.state_dict())
    assert torch.equal(first(x), third.eval()(x))


def test_mode_device_and_type_are_the_networks(points: Points) -> None:
    model = plug(resnet().eval().double(), DIA, points)
    assert not any(module.training for module in model.modules())
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert model(images(1, 32).double()).dtype == torch.float64
    model.half().train()
    assert {p.dtype for p in handle(model).parameters()} == {torch.float16}
    assert all(module.training for module in handle(model).modules())
    with torch.device("meta"):
        meta = plug(torchvision.models.resnet18(), SE, points)
    assert {p.device.type for p in meta.parameters()} == {"meta"}


def test_a_frozen_network_learns_its_attention_alone(points: Points) -> None:
    model = resnet().requires_grad_(False)
    plug(model, SE, points)
    model(images(2, 32)).square().mean().backward()
    assert all(p.grad is not None for p in handle(model).parameters())
    assert all((p.grad is None) == (not name.startswith("plugged.")) for name, p in model.named_parameters())


class Children(nn.Module):
    """Runs all its children in turn, as feature extractors do."""

    def __init__(self, *children: nn.Module) -> None:
        super().__init__()
        for i, child in enumerate(children):
            self.add_module(str(i), child)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for child in self.children():
            x = child(x)
        return x


@pytest.mark.parametrize("cls", [nn.Sequential, Children])
def test_networks_that_run_their_children_in_turn(cls: Any) -> None:
    alone = small(DIA, "110-1").eval()
    model = cls(Small(), nn.ReLU()).eval()
    plug(model, DIA, find_points(model, images()), "110-1")
    handle(model).load_state_dict(handle(alone).state_dict())
    assert torch.equal(model(images()), alone(images()).relu())


def test_timms_feature_extractor() -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("resnet18", features_only=True).eval()
    randomize(model)
    found = find_points(model, torch.zeros(1, 3, 32, 32))
    assert found.blocks == (2, 2, 2, 2)
    before = model(images(1, 32))
    plug(model, SE, found)
    after = model(images(1, 32))
    assert [map.shape for map in after] == [map.shape for map in before]
    assert torch.equal(after[0], before[0])
    assert not any(torch.equal(a, b) for a, b in zip(after[1:], before[1:], strict=True))


# start="identity"


@KINDS
def test_identity_at_first_and_then_it_learns(attention: dict[str, Any]) -> None:
    bare = Small()
    model = small(attention, start="identity")
    for module in handle(model).children():
        assert module.scale.shape == ()
        module.scale.data.zero_()
    for training in (True, False):
        assert torch.equal(model.train(training)(images()), bare.train(training)(images()))
    model.train()
    optimizer = torch.optim.SGD(handle(model).parameters(), 0.01)
    before = copy.deepcopy(handle(model).state_dict())
    for _ in range(2):
        optimizer.zero_grad()
        model(images()).square().mean().backward()
        assert all(p.grad is not None for p in handle(model).parameters())
        assert all(module.scale.grad != 0 for module in handle(model).children())
        optimizer.step()
    after = handle(model).state_dict()
    learned = [key for key in before if key.startswith("stage1") or key.endswith("scale")]
    assert [key for key in learned if torch.equal(after[key], before[key])] == []
    # With s = 1 it is the attention.
    paper = small(attention)
    for module in handle(model).children():
        module.scale.data.fill_(1)
    inner = {key.replace(".", ".attention.", 1): value for key, value in handle(paper).state_dict().items()}
    handle(model).load_state_dict(inner, strict=False)
    model.load_state_dict(Small().state_dict(), strict=False)
    torch.testing.assert_close(model.eval()(images()), paper.eval()(images()), rtol=1e-4, atol=1e-5)


def test_a_fresh_one_starts_at_zero(points: Points) -> None:
    model, bare = plug(resnet(), SE, points, start="identity"), resnet()  # whose statistics change
    assert all(module.scale.item() == 0 for module in handle(model).children())
    assert torch.equal(model(images(2, 32)), bare(images(2, 32)))


# Schemes


def test_schemes() -> None:
    model = small(SE, "101-0", sharing="point")
    plugs = handle(model)
    assert (plugs.blocks, str(plugs.scheme), plugs.sharing, plugs.out_channels) == ((3, 1), "101-0", "point", [8, 16])
    assert list(plugs._modules) == ["stage1_1", "stage1_3"]
    with pytest.raises(UserError, match=r"'blocks.1' has no attention to connect: plug with scheme='full' to change"):
        plugs.set_scheme("110-0")
    with pytest.raises(UserError, match=r"'blocks.1' has no attention"):
        plugs.set_scheme(torch.ones(4))
    with pytest.raises(ValueError):
        plugs.set_scheme("11-0")
    assert str(plugs.scheme) == "101-0"
    assert [connection.gate for connection in plugs.connections()] == [True, False, True, False]
    assert [connection.stage for connection in plugs.connections()] == [0, 0, 0, 1]
    assert [connection.attention is None for connection in plugs.connections()] == [False, True, False, True]
    plugs.set_scheme("000-0")
    bare = Small()
    assert torch.equal(model.eval()(images()), bare.eval()(images()))


def test_a_disconnected_point_runs_no_code() -> None:
    model = small(SE)
    calls: list[nn.Module] = []
    for module in handle(model).children():
        module.register_forward_hook(lambda module, *_: calls.append(module))
    for scheme, number in (("full", 4), ("010-0", 1), ("none", 0)):
        calls.clear()
        handle(model).set_scheme(scheme)
        model(images())
        assert len(calls) == number
    assert sum(len(module._forward_hooks) for module in small(SE, "010-0", sharing="point").modules()) == 1
    assert sum(len(module._forward_hooks) for module in small(SE, "none").modules()) == 0


# What does not fit


def state_of(model: nn.Module) -> Any:
    return (
        {key: value.clone() for key, value in model.state_dict().items()},
        [
            (name, id(module), sorted(vars(module)), list(module._forward_hooks))
            for name, module in model.named_modules()
        ],
        {id(p): p._version for p in model.parameters()},
    )


def assert_unchanged(model: nn.Module, before: Any) -> None:
    state, *rest = state_of(model)
    assert list(state) == list(before[0])
    assert all(torch.equal(value, before[0][key]) for key, value in state.items())
    assert rest == list(before[1:])


def renamed(points: Points, **changes: Any) -> Points:
    return Points((*points.points[:-1], replace(points.points[-1], **changes)))


BAD: dict[str, tuple[Callable[[Points], dict[str, Any]], str]] = {
    "attention": (lambda p: {"attention": {"type": "SEE"}}, "unknown attention 'SEE': known are "),
    "option": (lambda p: {"attention": {"type": "SE", "ratio": 4}}, "attention SE: .*'ratio'"),
    "reduction": (lambda p: {"attention": {"type": "SE", "reduction": 128}}, "leaves no hidden unit for 64 channels"),
    "groups": (lambda p: {"attention": {"type": "SGE", "groups": 128}}, "SGE: .*64"),
    "not plain": (lambda p: {"attention": {"type": "SE", "reduction": 4, "bias": object()}}, "plain values only"),
    "scheme": (lambda p: {"scheme": "11-1"}, "scheme '11-1' does not fit: expected 8 bits, 2-2-2-2 a stage"),
    "sharing": (lambda p: {"sharing": "block"}, r"sharing is one of \('stage', 'point'\).*got 'block'"),
    "start": (lambda p: {"start": "zero"}, "start one of .*'zero'"),
    "no points": (lambda p: {"points": Points(())}, "there are no points to plug into"),
    "another network's": (
        lambda p: {"points": renamed(p, name="layer5.0.bn2")},
        "ResNet has no module 'layer5.0.bn2': the",
    ),
    "channels of a norm": (
        lambda p: {"points": renamed(p, channels=256)},
        "'layer4.1.bn2' has 512 channels and not 256",
    ),
    "channels of a convolution": (
        lambda p: {"points": renamed(p, name="conv1")},
        "'conv1' has 64 channels and not 512",
    ),
    "channels of a sequence": (
        lambda p: {"points": renamed(p, name="layer2.0.downsample")},
        "has 128 channels and not 512",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_changes_nothing(bare: nn.Module, points: Points, name: str) -> None:
    options, text = BAD[name]
    model = bare
    before = state_of(model)
    with pytest.raises(UserError, match=text) as caught:
        plug(model, **{"attention": SE, "points": points, **options(points)})
    assert "\n" not in str(caught.value)
    assert_unchanged(model, before)
    assert not hasattr(model, "plugged")


def test_plugging_twice_is_refused(points: Points) -> None:
    model = plugged(points)
    before = state_of(model)
    for outer in (model, nn.Sequential(model)):
        with pytest.raises(UserError, match=r"is plugged already: unplug\(model\) first$"):
            plug(outer, SE, points)
    assert_unchanged(model, before)
    plug(unplug(model), DIA, points)
    own = Small()
    own.plugged = nn.Identity()
    with pytest.raises(UserError, match=r"^Small has something called 'plugged' of its own$"):
        plug(own, SE, find_points(own, images()))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_scripted_and_compiled_networks_are_refused() -> None:
    found = find_points(Small(), images())
    traced = torch.jit.trace(Small().eval(), images())
    for model in (traced, torch.jit.freeze(traced), torch.compile(Small()), nn.DataParallel(Small())):
        with pytest.raises(UserError, match=r"scripted or compiled|before it is wrapped") as caught:
            plug(model, SE, found)
        assert "\n" not in str(caught.value)
        assert not hasattr(model, "plugged")
    in_place = Small()
    in_place.compile()
    with pytest.raises(UserError, match="scripted or compiled"):
        plug(in_place, SE, found)
    part = Small()
    part.last = torch.jit.script(part.last)
    part.blocks[2] = torch.jit.freeze(torch.jit.script(part.blocks[2].eval()))
    before = [name for name, _ in part.named_modules()]
    with pytest.raises(UserError, match=r"^'blocks.2' is scripted: attention cannot be plugged behind it$"):
        plug(part, SE, found)
    assert [name for name, _ in part.named_modules()] == before


def test_own_hooks_stay(points: Points) -> None:
    model = resnet().eval()
    seen: list[torch.Tensor] = []
    model.layer1[0].bn2.register_forward_hook(lambda module, args, output: seen.append(output.clone()))
    model(images(1, 32))
    plug(model, SE, points)
    randomize(handle(model), 1)
    model(images(1, 32))
    assert torch.equal(seen[0], seen[1])  # a hook from before sees the branch as it was
    unplug(model)
    assert len(model.layer1[0].bn2._forward_hooks) == 1
