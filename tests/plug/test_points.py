"""Points of other people's networks, as many as they have blocks, and of small ones made to mislead."""

import contextlib
import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.functional import interpolate, relu

from ean_core import EANResNet
from ean_core.errors import UserError
from ean_core.plug import PlugPoint, Points, find_points, plug

# Networks and their numbers of residual blocks. With names of classes instead of a number: the blocks are counted, of
# these classes, whose attribute behind a colon, if there is one, says that their input is added.
NETWORKS: dict[str, int | str] = {
    "torchvision:resnet18": 8,
    "torchvision:resnet34": 16,
    "torchvision:resnet50": 16,
    "torchvision:resnext50_32x4d": 16,
    "torchvision:wide_resnet50_2": 16,
    "torchvision:regnet_x_400mf": 1 + 2 + 7 + 12,
    "torchvision:regnet_y_400mf": 16,
    "torchvision:mobilenet_v2": 10,
    "torchvision:mobilenet_v3_large": 10,
    "torchvision:mobilenet_v3_small": "InvertedResidual:use_res_connect",
    "torchvision:efficientnet_b0": 9,
    "torchvision:efficientnet_v2_s": "MBConv:use_res_connect FusedMBConv:use_res_connect",
    "torchvision:convnext_tiny": 18,
    "torchvision:mnasnet1_0": 10,
    "timm:resnet50": 16,
    "timm:seresnet50": 16,
    "timm:skresnet18": 8,
    "timm:regnety_004": 16,
    "timm:nf_regnet_b1": 2 + 4 + 7 + 7,
    "timm:convnext_nano": 14,
    "timm:convnextv2_nano": 14,
    "timm:convmixer_768_32": 32,
    "timm:inception_next_atto": "MetaNeXtBlock",
    "timm:efficientnet_b0": 9,
    "timm:mobilenetv3_large_100": 10,
    "timm:mixnet_s": "InvertedResidual:has_skip DepthwiseSeparableConv:has_skip",
    "timm:mobilenetv4_conv_small": 10,
    "timm:mobileone_s0": "MobileOneBlock:identity",
    "timm:ghostnet_100": 16,
    "timm:ghostnetv2_100": 16,
    "timm:cspresnet50": 13,
    "timm:cspdarknet53": 23,
    "timm:darknet53": 23,
    "timm:resnetv2_50": 16,
    "timm:res2net50_26w_4s": 16,
    "timm:resnest50d": 16,
    "timm:nfnet_f0": 12,
    "timm:hrnet_w18_small": "BasicBlock Bottleneck",
    "timm:repvgg_a0": "RepVggBlock:identity",
    "timm:legacy_xception": 12,
    "mmseg:ResNetV1c(50)": 16,
    "mmseg:ResNeXt(50)": 16,
    "mmseg:ResNeSt(50)": 16,
    "mmseg:HRNet": "BasicBlock Bottleneck",
    "mmseg:MobileNetV2": "InvertedResidual:use_res_connect",
}


def build(name: str) -> nn.Module:
    library, _, name = name.partition(":")
    if library == "torchvision":
        return torchvision.models.get_model(name, weights=None)
    if library == "timm":
        return pytest.importorskip("timm").create_model(name)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from mmseg.models import backbones
    if name == "UNet":
        return backbones.UNet(base_channels=16, upsample_cfg={"type": backbones.unet.InterpConv})
    if name == "HRNet":
        stages = [(1, "BOTTLENECK", (1,), (16,))] + [(1, "BASIC", (2,) * n, (8, 16, 32, 64)[:n]) for n in (2, 3, 4)]
        keys = ("num_modules", "block", "num_blocks", "num_channels")
        extra = {f"stage{i}": dict(zip(keys, s, strict=True), num_branches=len(s[2])) for i, s in enumerate(stages, 1)}
        return backbones.HRNet(extra)
    cls, _, depth = name.removesuffix(")").partition("(")
    return getattr(backbones, cls)(**({"depth": int(depth)} if depth else {}))


def number_of(blocks: str, model: nn.Module) -> int:
    kinds = dict(kind.partition(":")[::2] for kind in blocks.split())
    adds = [getattr(m, kinds[type(m).__name__] or "forward") for m in model.modules() if type(m).__name__ in kinds]
    return sum(attribute is not None and attribute is not False for attribute in adds)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def image(size: int = 64) -> torch.Tensor:
    return torch.zeros(1, 3, size, size)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_residual_block_is_a_point(name: str) -> None:
    model = build(name)
    expected = NETWORKS[name]
    points = find_points(model, image())
    assert len(points) == (expected if isinstance(expected, int) else number_of(expected, model))
    assert points.left_out == ()
    assert sum(points.blocks) == len(points) == len({point.name for point in points})


def test_resnet50() -> None:
    points = find_points(build("torchvision:resnet50"), image(224))
    assert points.blocks == (3, 4, 6, 3)
    expected = [
        PlugPoint(stage, f"layer{stage + 1}.{i}.bn3", 256 * 2**stage, 4 * 2**stage)
        for stage, blocks in enumerate((3, 4, 6, 3))
        for i in range(blocks)
    ]
    assert list(points) == expected
    assert points == Points(tuple(expected))
    lines = str(points).splitlines()
    assert lines[0].split() == ["stage", "name", "channels", "stride"]
    assert lines[1].split() == ["1", "layer1.0.bn3", "256", "4"]
    assert lines[-1].split() == ["4", "layer4.2.bn3", "2048", "32"]
    assert len(lines) == 17
    with pytest.raises(AttributeError):
        points.points = ()  # type: ignore[misc]


def test_what_is_pluggable_already_has_the_same_points() -> None:
    ours, theirs = find_points(EANResNet(18), image()), find_points(build("torchvision:resnet18"), image())
    assert ours == theirs
    model = build("torchvision:resnet18")
    assert find_points(plug(model, {"type": "SE"}, theirs), image()) == theirs


@pytest.mark.parametrize(
    ("name", "match", "blocks"),
    [
        ("torchvision:densenet121", [f"features.denseblock{i}" for i in range(1, 5)], (1, 1, 1, 1)),
        ("torchvision:vgg11", r"features\.(3|6|8|11|13|16|18)", (1, 2, 2, 2)),
        ("torchvision:shufflenet_v2_x1_0", r"stage[234]\.[0-3]", (4, 4, 4)),
        ("mmseg:UNet", r"encoder\.[0-4]", (1, 1, 1, 1, 1)),
    ],
    ids=str,
)
def test_networks_without_residual_branches(name: str, match: Any, blocks: tuple[int, ...]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.nn.init.normal_", lambda weight, *_, **__: weight)  # VGG's large layers
        patch.setattr("torch.nn.init.uniform_", lambda weight, *_, **__: weight)
        model = build(name)
    with pytest.raises(UserError, match=rf"^{type(model).__name__} has no residual branch: name points.*convolutions"):
        find_points(model, image())
    assert find_points(model, image(), {"type": "named", "match": match}).blocks == blocks
    wide = find_points(model, image(), {"type": "convolutions", "min_channels": 128})
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups == 1]
    assert len(wide) == sum(min(m.in_channels, m.out_channels) >= 128 for m in convolutions) > 0


class Net(nn.Module):
    """A stem, and blocks one after the other."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x


class Block(nn.Module):
    """``add(x, f(x), block)`` for a branch ``f`` of two convolutions."""

    def __init__(self, add: Callable[[torch.Tensor, torch.Tensor, Any], torch.Tensor], **parts: Any) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.add, self.scale = add, nn.Parameter(torch.ones(8, 1, 1))
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f = self.bn1(self.conv1(x)).relu()
        f = self.bn2(self.conv2(f))
        return self.add(x, f, self)


class Add(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b


def in_place(x: torch.Tensor, f: torch.Tensor, _: Any) -> torch.Tensor:
    f += x
    return f


def stochastic_depth() -> nn.Module:
    return torchvision.ops.StochasticDepth(0.5, "row")


ADDITIONS: dict[str, tuple[Callable[[torch.Tensor, torch.Tensor, Any], torch.Tensor], dict[str, Any]]] = {
    "x + f": (lambda x, f, _: x + f, {}),
    "f + x": (lambda x, f, _: f + x, {}),
    "f += x": (in_place, {}),
    "f.add_(x)": (lambda x, f, _: f.add_(x), {}),
    "x.add_(f)": (lambda x, f, _: x.add_(f), {}),
    "torch.add": (lambda x, f, _: torch.add(x, f), {}),
    "torch.add, alpha": (lambda x, f, _: torch.add(x, f, alpha=0.1), {}),
    "sum": (lambda x, f, _: sum([x, f]), {}),
    "then relu": (lambda x, f, _: (x + f).relu_(), {}),
    "number": (lambda x, f, _: x + f * 0.1, {}),
    "number in place": (lambda x, f, _: x + f.mul_(0.1), {}),
    "division": (lambda x, f, _: x + f / 3, {}),
    "weight": (lambda x, f, b: x + b.scale * f, {}),
    "both sides scaled": (lambda x, f, b: 0.5 * x + b.scale * f, {}),
    "stochastic depth": (lambda x, f, b: x + b.drop(f), {"drop": stochastic_depth()}),
    "weight and stochastic depth": (lambda x, f, b: x + b.drop(f * b.scale), {"drop": stochastic_depth()}),
    "dropout": (lambda x, f, b: x + b.drop(f), {"drop": nn.Dropout(0.5)}),
    "projection": (lambda x, f, b: b.down(x) + f, {"down": nn.Conv2d(8, 8, 1)}),
    "FloatFunctional": (lambda x, f, b: b.ff.add(x, f), {"ff": torch.ao.nn.quantized.FloatFunctional()}),
    "a module that adds": (lambda x, f, b: b.sum(x, f), {"sum": Add()}),
    "a module that adds, then relu": (lambda x, f, b: b.act(b.sum(x, f)), {"sum": Add(), "act": nn.ReLU()}),
}


@pytest.mark.parametrize("name", ADDITIONS)
def test_ways_to_add(name: str) -> None:
    add, parts = ADDITIONS[name]
    points = find_points(Net(Block(add, **parts), nn.Conv2d(8, 16, 3, 2, 1)), image())
    assert list(points) == [PlugPoint(0, "blocks.0.bn2", 8, 2)]
    assert points.left_out == ()


def test_the_outermost_module_that_ends_a_branch_is_its_point() -> None:
    body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Sequential(nn.BatchNorm2d(8)), nn.Identity())

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.body(x)

    assert [p.name for p in find_points(Net(nn.Sequential(Around())), image())] == ["blocks.0.0.body"]


OPERATIONS: dict[str, tuple[Callable[[torch.Tensor, torch.Tensor, Any], torch.Tensor], str]] = {
    "cat": (lambda x, f, _: x + torch.cat([f[:, :4], f[:, 4:]], 1), "cat"),
    "relu": (lambda x, f, _: x + relu(f), "relu"),
    "slice": (lambda x, f, _: x[:, :4] + f[:, 4:], "slice"),
    "gate": (lambda x, f, _: x + f * f.mean((2, 3), keepdim=True).sigmoid(), "mul"),
    "two branches": (lambda x, f, b: x + (f + b.conv1(x)), "add"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_branch_that_ends_in_an_operation_is_reported(name: str) -> None:
    add, operation = OPERATIONS[name]
    other = Block(lambda x, f, _: x + f)
    line = f"the branch added in 'blocks.{{}}' ends in {operation}, which is no module"
    points = find_points(Net(other, Block(add)), image())
    assert [point.name for point in points] == ["blocks.0.bn2"]
    assert points.left_out == (line.format(1),)
    assert str(points).splitlines()[-1] == f"no point: {line.format(1)}"
    with pytest.raises(UserError, match=f"^Net has no residual branch to plug: {line.format(0)}$"):
        find_points(Net(Block(add)), image())


class Lambda(nn.Module):
    """A forward pass with parts."""

    def __init__(self, function: Callable[..., torch.Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)
        self.weight = nn.Parameter(torch.ones(8, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x, *self.parts)


def conv(kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(8, 8, kernel, stride, kernel // 2)


def grn(self: Lambda, x: torch.Tensor) -> torch.Tensor:
    norm = x.norm(dim=(2, 3), keepdim=True)
    return self.weight * (x * (norm / (norm.mean(1, keepdim=True) + 1e-6))) + self.weight + x


def pyramid(self: Lambda, x: torch.Tensor, down: nn.Module, lateral: nn.Module, top: nn.Module) -> torch.Tensor:
    return lateral(x) + interpolate(top(relu(down(x))), scale_factor=2.0)


NOT_RESIDUAL: dict[str, Lambda] = {
    "GRN": Lambda(grn),
    "gated arithmetic": Lambda(lambda self, x: x + x * torch.sigmoid(x.mean(1, keepdim=True))),
    "positions": Lambda(lambda self, x: x + self.weight.expand_as(x)),
    "parallel branches": Lambda(lambda self, x, a, b: a(x) + b(x), conv(3), conv(1)),
    "three parallel branches": Lambda(lambda self, x, a, b, c: a(x) + b(x) + c(x), conv(3), conv(1), conv(1)),
    "pyramid": Lambda(pyramid, conv(3, 2), conv(1), conv(1)),
    "pyramid with a transposed convolution": Lambda(
        lambda self, x, down, up: x + up(down(x)), conv(3, 2), nn.ConvTranspose2d(8, 8, 2, 2)
    ),
    "twice the same": Lambda(lambda self, x, a: (y := a(x)) + y, conv()),
}


@pytest.mark.parametrize("name", NOT_RESIDUAL)
def test_other_additions_are_no_points(name: str) -> None:
    with pytest.raises(UserError, match=r"^Net has no residual branch: name points"):
        find_points(Net(NOT_RESIDUAL[name]), image())
    # Nor are they inside a branch.
    branch = nn.Sequential(conv(), NOT_RESIDUAL[name], conv())
    points = find_points(Net(Lambda(lambda self, x, f: x + f(x), branch)), image())
    assert [point.name for point in points] == ["blocks.0.parts.0"]
    assert points.left_out == ()


def test_fusions_of_the_outputs_of_other_modules_are_no_points() -> None:
    blocks = [Block(lambda x, f, _: x + f) for _ in range(2)]
    fused = Lambda(lambda self, x, a, b: a(x) + b(relu(x)), *blocks)
    names = [point.name for point in find_points(Net(fused), image())]
    assert names == ["blocks.0.parts.0.bn2", "blocks.0.parts.1.bn2"]


def test_an_upsampled_gate_does_not_make_a_branch_a_fusion() -> None:
    def branch(self: Lambda, x: torch.Tensor, a: nn.Module, down: nn.Module, last: nn.Module) -> torch.Tensor:
        return x + last(a(x) * interpolate(down(x), scale_factor=2.0).sigmoid())

    points = find_points(Net(Lambda(branch, conv(), conv(3, 2), conv())), image())
    assert [point.name for point in points] == ["blocks.0.parts.2"]


def test_stages_are_runs_of_equal_channels_and_strides() -> None:
    blocks = [Block(lambda x, f, _: x + f) for _ in range(5)]
    wide = nn.Sequential(nn.Conv2d(8, 16, 1), nn.Conv2d(16, 8, 1))
    points = find_points(Net(*blocks[:2], conv(3, 2), blocks[2], wide, *blocks[3:]), image(66))
    assert points.blocks == (2, 3)
    assert [point.stride for point in points] == [2, 2, 4, 4, 4]
    named = find_points(Net(*blocks[:2], wide, blocks[2]), image(), {"type": "named", "match": [".bn2", "blocks.2.0"]})
    assert [(p.stage, p.name, p.channels) for p in named] == [
        (0, "blocks.0.bn2", 8),
        (0, "blocks.1.bn2", 8),
        (1, "blocks.2.0", 16),
        (2, "blocks.3.bn2", 8),
    ]
    assert named.blocks == (2, 1, 1)


def test_points_are_in_the_order_of_the_forward_pass() -> None:
    def crossed(self: Lambda, x: torch.Tensor, a: nn.Module, b: nn.Module) -> torch.Tensor:
        first, second = a(x), b(x)
        return (x + second) + first

    points = find_points(Net(Lambda(crossed, Block(lambda x, f, _: f), conv())), image())
    assert [point.name for point in points] == ["blocks.0.parts.0", "blocks.0.parts.1"]


def test_convolutions() -> None:
    # As others have counted: 42 of ResNet-50's 53 convolutions and 13 of ResNet-18's 20 are that wide.
    wide = {"type": "convolutions", "min_channels": 128}
    assert len(find_points(build("torchvision:resnet18"), image(), wide)) == 13
    assert len(find_points(build("torchvision:resnet18"), image(32), wide)) == 13  # though the last see one pixel
    resnet50 = build("torchvision:resnet50")
    assert len(find_points(resnet50, image(), wide)) == 42
    plug(resnet50, {"type": "ean_testing.plugs.Wide"}, find_points(resnet50, image()))
    assert len(find_points(resnet50, image(), wide)) == 42
    mobilenet = find_points(build("torchvision:mobilenet_v3_large"), image(), wide)
    assert not [point.name for point in mobilenet if ".fc" in point.name]  # of its own SE modules
    assert "features.13.block.3.0" in [point.name for point in mobilenet]
    with pytest.raises(UserError, match=r"^ResNet has no convolution with 4096 channels or more on both sides$"):
        find_points(resnet50, image(), {"type": "convolutions", "min_channels": 4096})


def test_named() -> None:
    model = build("torchvision:resnet18")

    def names(match: Any) -> list[str]:
        return [point.name for point in find_points(model, image(), {"type": "named", "match": match})]

    assert names(r"layer[12]\.\d\.bn2") == ["layer1.0.bn2", "layer1.1.bn2", "layer2.0.bn2", "layer2.1.bn2"]
    assert names(["layer4.1.bn2", ".1.bn1"]) == [
        "layer1.1.bn1", "layer2.1.bn1", "layer3.1.bn1", "layer4.1.bn1", "layer4.1.bn2",
    ]  # fmt: skip
    assert names("layer1") == ["layer1"]
    assert names(["conv1", "conv1"]) == ["conv1"]
    for match, text in {
        r"layer1\.0\.bn9": r"'layer1\\.0\\.bn9' matches no module of ResNet; near: layer1.0.bn",
        "ayer1": "'ayer1' matches no module of ResNet; near: layer1",
        "(": r"'\(' is no regular expression: ",
        "fc": r"'fc' gives \(1, 1000\), and attention is for \(N, C, H, W\)",
    }.items():
        with pytest.raises(UserError, match=text):
            names(match)
    with pytest.raises(UserError, match=r"'bn2' matches no module of ResNet; near: "):
        names([".bn2", "bn2"])


def test_training_only_branches_are_no_points() -> None:
    model = torchvision.models.googlenet(weights=None, init_weights=False).train()
    with pytest.raises(UserError, match=r"'aux1.conv' does not run in evaluation mode"):
        find_points(model, image(), {"type": "named", "match": ["aux1.conv"]})
    auxiliary = Lambda(lambda self, x, a, b: a(x) + b(x) if self.training else a(x), conv(), conv())
    points = find_points(Net(Block(lambda x, f, _: x + f), auxiliary).train(), image())
    assert [point.name for point in points] == ["blocks.0.bn2"]


def test_shared_modules_are_refused_by_name() -> None:
    shared = Block(lambda x, f, _: x + f)
    other = Block(lambda x, f, _: x + f)
    with pytest.raises(UserError, match=r"^'blocks.0.bn2' is one module with 'blocks.2.bn2': a shared module cannot"):
        find_points(Net(shared, other, shared), image())
    norms = Net(shared, other)
    other.bn1 = shared.bn2
    with pytest.raises(UserError, match=r"^'blocks.0.bn2' is one module with 'blocks.1.bn1'"):
        find_points(norms, image())
    twice = Lambda(lambda self, x, f: f(f(x)), Block(lambda x, f, _: x + f))
    with pytest.raises(UserError, match=r"^'blocks.0.parts.0.bn2' is called more than once in a forward pass"):
        find_points(Net(twice), image())
    with pytest.raises(UserError, match=r"^'blocks.0.parts.0.conv1' is called more than once in a forward pass"):
        find_points(Net(twice), image(), {"type": "named", "match": [".conv1"]})
    # A module that does nothing may be called as often as it likes.
    parts = (conv(), nn.Identity(), conv())
    idle = Lambda(lambda self, x, a, drop, b: (y := x + drop(a(x).relu())) + drop(b(y)), *parts)
    points = find_points(Net(idle), image())
    assert [point.name for point in points] == ["blocks.0.parts.2"]
    assert points.left_out == ("the branch added in 'blocks.0' ends in relu, which is no module",)


def test_channels_last_networks_are_told_so() -> None:
    with pytest.raises(UserError, match=r"^SwinTransformer .* 'features.1.0.attn' has its channels last: attention is"):
        find_points(build("torchvision:swin_t"), image())
    with pytest.raises(UserError, match=r"^'features.1' gives \(1, 16, 16, 96\), and attention is for \(N, C, H, W\)"):
        find_points(build("torchvision:swin_t"), image(), {"type": "named", "match": ["features.1"]})
    mixed = Lambda(lambda self, x, f: x + f(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), nn.Linear(8, 8))
    points = find_points(Net(Block(lambda x, f, _: x + f), mixed), image())
    assert points.left_out == ("the branch added in 'blocks.1' ends in permute, which is no module",)
    # The memory format of that name is another thing.
    model = build("torchvision:resnet18").to(memory_format=torch.channels_last)
    assert len(find_points(model, image().to(memory_format=torch.channels_last))) == 8


def snapshot(model: nn.Module) -> dict[str, Any]:
    """All that a network is."""
    hooks = [attribute for attribute in vars(model) if "hook" in attribute]
    return {
        name: (
            type(module),
            module.training,
            {key: dict(value) for key in hooks if isinstance(value := vars(module).get(key), dict)},
            {key: (id(p), p.requires_grad, p.grad, p._version) for key, p in module.named_parameters(recurse=False)},
            {key: (id(b), b.clone()) for key, b in module.named_buffers(recurse=False)},
            sorted(vars(module)),
        )
        for name, module in model.named_modules()
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


class Stubborn(nn.BatchNorm2d):
    """Counts what is asked of it."""

    asked = 0

    def train(self, mode: bool = True) -> "Stubborn":
        self.asked += 1
        return super().train(mode)


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_left_as_it_was(fails: bool) -> None:
    def add(x: torch.Tensor, f: torch.Tensor, block: Any) -> torch.Tensor:
        if fails:
            raise RuntimeError("a forward pass\nfails")
        return x + f

    model = Net(Block(lambda x, f, _: x + f), Block(add), Stubborn(8))
    seen: list[bool] = []
    model.blocks[0].register_forward_hook(lambda module, args, out: seen.append(module.training))
    model.blocks[0].bn1.eval()
    model.blocks[1].requires_grad_(False)
    before, state = snapshot(model), torch.random.get_rng_state()
    if fails:
        with pytest.raises(UserError, match=r"^Net does not run on an example of .*: 'blocks.1': a forward pass$"):
            find_points(model, image())
    else:
        assert len(find_points(model, image())) == 2
    assert same(snapshot(model), before)
    assert model.blocks[2].asked == 0
    assert torch.equal(torch.random.get_rng_state(), state)
    assert seen == [False]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_modes_around_do_not_matter(mode: Callable[[], Any]) -> None:
    model = Net(Block(in_place))
    with mode():
        points = find_points(model, image())
    assert [point.name for point in points] == ["blocks.0.bn2"]
    assert model(image()).requires_grad


def bad_examples() -> Sequence[tuple[Any, str]]:
    return [
        (torch.zeros(3, 64, 64), r"an example is a tensor \(N, 3, H, W\), got \(3, 64, 64\)"),
        ("image.png", r"an example is a tensor \(N, 3, H, W\), got 'image.png'"),
        (torch.zeros(1, 4, 64, 64), r"^Net does not run on an example of shape \(1, 4, 64, 64\): 'stem': "),
        (torch.zeros(1, 3, 0, 0), r"^Net does not run on an example of shape \(1, 3, 0, 0\): 'stem': "),
        (torch.zeros(1, 3, 8, 8, dtype=torch.float64), r"^Net does not run on an example .*: 'stem': "),
    ]


@pytest.mark.parametrize(("example", "text"), bad_examples())
def test_examples_that_do_not_fit(example: Any, text: str) -> None:
    with pytest.raises(UserError, match=text) as caught:
        find_points(Net(Block(in_place)), example)
    assert "\n" not in str(caught.value)


def test_an_example_that_is_too_small_for_the_network() -> None:
    model = pytest.importorskip("timm").create_model("inception_resnet_v2")
    with pytest.raises(UserError, match=r"shape \(1, 3, 64, 64\): 'mixed_7a.branch0.1.conv': "):
        find_points(model, image())


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("resdiual", "unknown rule for points 'resdiual': known are residual, convolutions, named"),
        ({"match": "x"}, "unknown rule for points None"),
        (["bn2"], r"a rule for points is a name or a dict, got \['bn2'\]"),
        (None, "a rule for points is a name or a dict, got None"),
        ({"type": ["named"]}, r"unknown rule for points \['named'\]"),
        ("named", "points 'named': .*match"),
        ({"type": "named", "match": 5}, "points 'named': "),
        ({"type": "residual", "min_channels": 8}, "points 'residual': .*min_channels"),
        ({"type": "convolutions", "min_channels": "8"}, "points 'convolutions': "),
    ],
)
def test_rules_that_are_none(rule: Any, text: str) -> None:
    with pytest.raises(UserError, match=text):
        find_points(Net(Block(in_place)), image(), rule)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_scripted_and_compiled_networks_are_refused() -> None:
    model = Net(Block(in_place))
    for other in (torch.jit.trace(Net(conv()), image()), torch.compile(model)):
        with pytest.raises(UserError, match="is scripted or compiled: find the points of what it was made from"):
            find_points(other, image())
    scripted = torch.jit.trace(conv(), torch.zeros(1, 8, 16, 16))
    points = find_points(Net(Block(lambda x, f, _: x + f), scripted), image())
    assert [point.name for point in points] == ["blocks.0.bn2"]
