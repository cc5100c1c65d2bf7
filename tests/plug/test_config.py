"""``ean_core.Plugged`` in configs: any backbone, its weights, the search on it, schemes that belong to its points."""

import copy
import json
from collections.abc import Callable
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from classification.datasets import build_dataset
from classification.toy_shapes import make_toy
from ean_core import ConnectionScheme, EANResNet, load
from ean_core.checkpoint import read_checkpoint, write_checkpoint
from ean_core.engine import load_config
from ean_core.engine.models import blueprint, build_model, feature_channels
from ean_core.errors import UserError
from ean_core.files import read_json_lines
from ean_core.plug import find_pluggable, find_plugged, output_channels
from ean_testing.fresh import ROOT, run_program
from ean_testing.references import randomize
from ean_testing.runs import new_name
from segmentation.stack import import_mmseg

X = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
SE = {"type": "SE", "reduction": 4}
RESNET18 = {"type": "torchvision", "name": "resnet18"}
# The config, the points of each stage, the channels of each map.
NETWORKS: dict[str, tuple[dict[str, Any], tuple[int, ...], list[int]]] = {
    "torchvision": ({**RESNET18, "out_indices": (2, 4)}, (2, 2, 2, 2), [128, 512]),
    "timm": ({"type": "timm", "name": "test_convnext"}, (1, 2, 4, 2), [24, 32, 48, 64]),
    "ours": ({"type": "ean_core.EANResNet", "depth": 18}, (2, 2, 2, 2), [512]),
    "mmseg": ({"type": "mmseg.ResNetV1c", "depth": 18, "out_indices": (0, 3)}, (2, 2, 2, 2), [64, 512]),
    "mmseg's MobileNetV2": ({"type": "mmseg.MobileNetV2", "out_indices": (1, 4)}, (1, 2, 3, 2, 2), [24, 96]),
    "mmseg's timm": (
        {"type": "mmseg.TIMMBackbone", "model_name": "test_resnet", "pretrained": False},
        (1, 1, 1, 1),
        [32, 32, 48, 192, 96],
    ),
    "mmpretrain": ({"type": "mmpretrain.ResNet", "depth": 18}, (2, 2, 2, 2), [512]),
}


@pytest.fixture(scope="module", autouse=True)
def _mmseg() -> None:
    import_mmseg()


def plugged(network: dict[str, Any] = RESNET18, attention: dict[str, Any] | None = SE, **options: Any) -> Any:
    cfg = {"type": "ean_core.Plugged", "network": network, "attention": attention, "size": 64, **options}
    return MODELS.build(cfg)


def run(network: nn.Module) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        network.eval()  # which MMSegmentation's do not return
        return tuple(network(X))


# What is built


@pytest.mark.parametrize("name", NETWORKS)
def test_any_backbone(name: str) -> None:
    """Its class, keys and maps are those of the network alone; heads are told its channels."""
    network, blocks, channels = NETWORKS[name]
    alone, plain, full = MODELS.build(network), plugged(network, None), plugged(network)
    randomize(alone)
    for backbone in (plain, full):
        assert type(backbone) is type(alone)
        assert find_pluggable(backbone) is backbone.plugged
        assert backbone.plugged.blocks == blocks
        assert backbone.load_state_dict(alone.state_dict(), strict=False).unexpected_keys == []
        assert [output_channels(backbone, i, "") for i in range(len(channels))] == channels
    assert list(plain.state_dict()) == list(alone.state_dict())
    assert {key for key in full.state_dict() if not key.startswith("plugged.")} == set(alone.state_dict())
    assert plain.plugged.attention is None
    expected = run(alone)
    full.plugged.set_scheme("none")
    for maps in (run(plain), run(full), run(copy.deepcopy(full))):
        assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))
    full.plugged.set_scheme("full")
    assert not torch.equal(run(full)[-1], expected[-1])
    cfg = {"type": "ean_core.Plugged", "network": network, "attention": SE}
    assert {p.device.type for p in blueprint(cfg).parameters()} == {"meta"}
    assert feature_channels(cfg) == channels


def test_equals_the_same_resnet_of_ours() -> None:
    """With the same weights, to the bit, through a training step."""
    scheme = "10-01-11-00"
    theirs, ours = plugged(scheme=scheme, out_indices=(4,)), EANResNet(18, attention=SE, scheme=scheme)
    randomize(theirs)
    state = theirs.state_dict()
    names = {key: key.replace("plugged.stage", "layer").replace(".fc", ".attention.fc") for key in state}
    del names["plugged.recipe"]
    ours.load_state_dict({name: state[key] for key, name in names.items()})
    for mode in (False, True):
        (a,), (b,) = theirs.train(mode)(X), ours.train(mode)(X)
        assert torch.equal(a, b)
    for features in (a, b):
        features.square().mean().backward()
    gradients = dict(ours.named_parameters())
    for key, parameter in theirs.named_parameters():
        assert torch.equal(parameter.grad, gradients[names[key]].grad), key


FOREIGN = """
import sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import mmseg, torch
from mmengine.config import Config
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules

register_all_modules()
assert "ean_core" not in sys.modules
cfg = Config.fromfile(Path(mmseg.__file__).parent / ".mim" / "configs" / "_base_" / "models" / "fcn_r50-d8.py")
cfg.model.pretrained = None
cfg.model.backbone = dict(
    type="ean_core.Plugged", network=dict(cfg.model.backbone), attention=dict(type="SE"), scheme="010-0010-110011-001"
)
model = MODELS.build(cfg.model).eval()
with torch.no_grad():
    print(type(model.backbone).__name__, model.backbone.plugged.scheme, tuple(model(torch.randn(1, 3, 33, 47)).shape))
"""


def test_in_mmsegmentations_own_config(tmp_path: Path, fresh: Pool) -> None:
    ran = fresh.apply(run_program, (FOREIGN,), {"folder": tmp_path})
    assert ran.out.splitlines()[-1] == "ResNetV1c 010-0010-110011-001 (1, 19, 5, 6)"


# Weights


@pytest.mark.filterwarnings("ignore:Default ``avg_non_ignore``:UserWarning")
def test_a_segmentors_checkpoint_loads(tmp_path: Path) -> None:
    """Into the model that has the plugged backbone: its own keys are all there."""
    with DefaultScope.overwrite_default_scope("mmseg"):
        head = {"type": "FCNHead", "in_channels": 512, "in_index": 3, "channels": 8, "num_classes": 3, "num_convs": 1,
                "concat_input": False, "norm_cfg": {"type": "BN"}}  # fmt: skip
        network = {"type": "ResNetV1c", "depth": 18}
        theirs, ours = (
            MODELS.build({"type": "EncoderDecoder", "backbone": backbone, "decode_head": head, "test_cfg": {}})
            for backbone in (network, {"type": "ean_core.Plugged", "network": network, "attention": SE})
        )
    randomize(theirs)
    missing = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert missing.unexpected_keys == []
    assert all(key.startswith("backbone.plugged.") for key in missing.missing_keys)
    # and its backbone alone, from the file
    write_checkpoint({"state_dict": theirs.state_dict(), "meta": {"epoch": 1}}, tmp_path / "segmentor.pth")
    backbone = plugged({"type": "mmseg.ResNetV1c", "depth": 18}, init_cfg=pretrained(tmp_path / "segmentor.pth"))
    backbone.init_weights()
    assert_loaded(backbone, theirs.backbone)


def pretrained(path: Path) -> dict[str, Any]:
    return {"type": "Pretrained", "checkpoint": str(path)}


def assert_loaded(backbone: nn.Module, source: nn.Module) -> None:
    state = source.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in backbone.state_dict().items() if not k.startswith("plugged."))


def test_the_networks_own_init_cfg(tmp_path: Path) -> None:
    file, other = tmp_path / "weights.pth", tmp_path / "other.pth"
    for network in ({"type": "torchvision", "name": "mobilenet_v3_small"}, {"type": "mmseg.MobileNetV2"}):
        source, second = MODELS.build(network), MODELS.build(network)
        randomize(source)
        write_checkpoint(source.state_dict(), file)
        write_checkpoint(second.state_dict(), other)
        backbone = plugged({**network, "init_cfg": pretrained(file)})
        backbone.init_weights()
        assert_loaded(backbone, source)
        backbone = plugged({**network, "init_cfg": pretrained(file)}, init_cfg=pretrained(other))
        backbone.init_weights()  # the outer one counts
        assert_loaded(backbone, second)


@pytest.mark.parametrize("name", ["torchvision", "mmseg", "ours"])
def test_other_weights_are_refused(name: str, tmp_path: Path) -> None:
    write_checkpoint(torchvision.models.mobilenet_v3_small().state_dict(), tmp_path / "other.pth")
    backbone = plugged(NETWORKS[name][0], init_cfg=pretrained(tmp_path / "other.pth"))
    with pytest.raises(UserError, match="the checkpoint does not cover the backbone"):
        backbone.init_weights()


def test_frozen() -> None:
    """Only the attention learns; statistics stay; start='identity' changes nothing at first."""
    backbone = plugged(frozen=True, start="identity", out_indices=(4,))
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    plain = plugged(attention=None, out_indices=(4,))
    assert plain.load_state_dict(before, strict=False).missing_keys == []
    assert torch.equal(run(backbone)[0], run(plain)[0])
    backbone.train()
    new = set(backbone.plugged.modules())
    assert {module.training for module in set(backbone.modules()) - new} == {False}
    assert {module.training for module in new} == {True}
    optimizer = torch.optim.SGD(backbone.parameters(), lr=1.0, weight_decay=0.1)
    for _ in range(2):  # in the first step only the scale has a gradient
        optimizer.zero_grad()
        backbone(X)[0].square().mean().backward()
        optimizer.step()
    changed = {key for key, value in backbone.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert all(key.startswith("plugged.stage") for key in changed)
    norms = plugged(norm_eval=True).train()
    assert {module.training for module in norms.modules() if isinstance(module, nn.BatchNorm2d)} == {False}
    assert norms.training
    assert all(parameter.requires_grad for parameter in norms.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": {"name": "resnet18"}}, "network is the config of a backbone, with its type"),
        ({"points": {"type": "named", "match": "layer9.*"}}, "'layer9.*' matches no module"),
        ({"points": "somewhere"}, "unknown rule for points 'somewhere'"),
        ({"scheme": "11-11"}, "expected 8 bits, 2-2-2-2 a stage"),
        ({"attention": {"type": "SE", "reduction": 4, "speed": 1}}, "unexpected keyword argument 'speed'"),
        ({"sharing": "block"}, "sharing is one of"),
        ({"network": {"type": "torchvision", "name": "squeezenet1_1"}}, "Features has no residual branch: name points"),
    ],
)
def test_mistakes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        plugged(**options)
    assert "\n" not in str(error.value)


# The configs


SHIPPED = {
    "cls/ean_eca_regnet_imagenet": ("regnet_x_400mf", "1-01-0101010-101010101010"),
    "cls/finetune_se_regnet_imagenet": ("regnet_x_400mf", "1-11-1111111-111111111111"),
    "seg/ean_se_convnext_voc": ("convnext_tiny", "101-010-101010101-010"),
    "crowd/ean_se_mobilenetv3_shb": ("mobilenet_v3_large", "1-0-10-101-0-10"),
    "search/se_regnet_imagenet": ("regnet_x_400mf", "1-11-1111111-111111111111"),
    "search/finetune_se_regnet_imagenet": ("regnet_x_400mf", "1-11-1111111-111111111111"),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configs(name: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """They build as they are and as toys, and the configs beside them are the same network without attention."""
    network, scheme = SHIPPED[name]
    monkeypatch.chdir(tmp_path_factory.getbasetemp())  # for the generated data
    cfg = load_config(ROOT / "configs" / f"{name}.py", toy=True)
    assert cfg.model.backbone.network.name == network
    plugs = find_plugged(build_model(cfg))
    assert plugs is not None
    assert str(plugs.scheme) == scheme
    if "search" not in cfg:
        plain = name.split("_")[0].replace("ean", "org").replace("finetune", "org") + "_" + name.split("_", 2)[2]
        assert "attention" not in Config.fromfile(ROOT / "configs" / f"{plain}.py").model.backbone


# Search and training


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy(tmp_path_factory.mktemp("data"), "folder", train=6, test=2)


OPTIONS = [
    "model.backbone.network.name=mobilenet_v3_small",
    "image_size=32",
    "held_out=2",
    "train_dataloader.batch_size=8",
    "train_dataloader.num_workers=0",
    "val_dataloader.num_workers=0",
    "val_dataloader.batch_size=5",
    "test_dataloader.num_workers=0",
    "train_cfg.max_epochs=1",
]
Run = Callable[..., Path]


@pytest.fixture(scope="module")
def tools(tool: Callable, data: Path, light: None) -> Run:
    """``tools(name, config, work_dir, *arguments, options=...)``."""

    def main(name: str, config: str, work_dir: Path, *more: str, options: tuple[str, ...] = ()) -> Path:
        changes = ["--cfg-options", *OPTIONS, new_name(), *options]
        path = str(ROOT / "configs" / f"{config}.py")
        tool(name)([path, "--data-root", str(data), "--work-dir", str(work_dir), *more, *changes])
        return work_dir

    return main


@pytest.fixture(scope="module")
def searched(tools: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tools("search", "search/se_regnet_imagenet", tmp_path_factory.mktemp("search"), "--steps", "3")


def test_search(searched: Path, data: Path) -> None:
    """Every accuracy is that of the network, evaluated on D_val by a plain loop; the file names the points."""
    result = json.loads((searched / "scheme.json").read_text())
    names = [f"features.{i}.block" for i in (3, 5, 6, 8, 10, 11)]
    assert (result["points"], result["blocks"]) == (names, [1, 2, 1, 2])
    cfg = Config.fromfile(searched / "supernet" / "se_regnet_imagenet.py")
    model = build_model(cfg).eval()
    model.load_state_dict(read_checkpoint(searched / "supernet" / "last.pth")["state_dict"])
    d_val = build_dataset(str(data), "search_val", "folder", 32, held_out=2, in_memory=False)
    images, labels = (
        torch.stack([item[key] for item in map(d_val.__getitem__, range(12))]) for key in ("inputs", "labels")
    )
    assert len(d_val) == 12
    plugs: Any = find_plugged(model)
    for entry in read_json_lines(searched / "search.jsonl"):
        plugs.set_scheme(entry["scheme"])
        with torch.no_grad():
            predicted = model(**model.data_preprocessor({"inputs": images})).argmax(1)
        assert entry["accuracy"] == pytest.approx(100 * float((predicted == labels).float().mean()))


def test_resume(searched: Path, tools: Run) -> None:
    before = {name: (searched / name).read_bytes() for name in ("search.jsonl", "scheme.json", "supernet/last.pth")}
    tools("search", "search/se_regnet_imagenet", searched, "--steps", "3", "--resume")
    assert {name: (searched / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("strategy", ["random", "hsp", "genetic", "enas", "darts"])
def test_strategies(strategy: str, searched: Path, tools: Run, tmp_path: Path) -> None:
    named = (f"search.supernet={searched / 'supernet' / 'last.pth'}",)
    tools("search", "search/se_regnet_imagenet", tmp_path, "--steps", "2", "--strategy", strategy, options=named)
    result = json.loads((tmp_path / "scheme.json").read_text())
    assert result["strategy"]["type"] == strategy
    ConnectionScheme.parse(result["scheme"], (1, 2, 1, 2))


def test_the_scheme_is_for_these_points(searched: Path, tools: Run, tmp_path: Path) -> None:
    """Trained with it; refused for other points, with the difference, wherever it is applied."""
    attention = ("model.backbone.attention.type=SE", "model.backbone.attention.reduction=4")
    file = str(searched / "scheme.json")
    tools("train", "cls/org_regnet_imagenet", tmp_path, "--scheme", file, options=attention)
    scheme = json.loads((searched / "scheme.json").read_text())["scheme"]
    assert Config.fromfile(tmp_path / "org_regnet_imagenet.py").model.backbone.scheme == scheme
    predictor = load(checkpoint=tmp_path / "last.pth")  # with the config that it holds
    plugs = find_plugged(predictor.model)
    assert plugs is not None
    assert str(plugs.scheme) == scheme

    options = {"model.backbone.network.name": "mobilenet_v3_large", "model.backbone.attention": SE}
    message = (
        "at 6 points, and this network has 10: 10 differ, first point 1, which was 'features.3.block' and is 'feat"
    )
    with pytest.raises(UserError, match=message):
        load_config(ROOT / "configs" / "cls" / "org_regnet_imagenet.py", scheme=file, options=options)
    small = {"type": "torchvision", "name": "mobilenet_v3_small"}
    five = {"type": "named", "match": [f"features.{i}.block" for i in (3, 5, 6, 8, 10)]}
    with pytest.raises(UserError, match=r"1 differ, first point 6, which was 'features.11.block' and is missing"):
        plugged(small, points=five, scheme=file)
    assert str(plugged(small, scheme=file).plugged.scheme) == scheme


def test_a_checkpoint_names_what_it_may(tools: Run, tmp_path: Path) -> None:
    """timm's attention and named points are read from a checkpoint; functions of the library are not."""
    options = (
        "model.backbone.scheme=full",
        "model.backbone.points.type=named",
        r"model.backbone.points.match=.*\.\d\.block",
    )
    tools("train", "cls/ean_eca_regnet_imagenet", tmp_path, options=options)
    predictor = load(checkpoint=tmp_path / "last.pth")
    plugs = find_plugged(predictor.model)
    assert plugs is not None
    assert plugs.points.names == [f"features.{i}.block" for i in range(1, 10)]
    checkpoint = read_checkpoint(tmp_path / "last.pth")
    for bad in ("timm.create_model", "timm.layers.nothing", "timm.models.torch.nn.Linear"):
        changed = copy.deepcopy(checkpoint)
        changed["meta"]["cfg"] = changed["meta"]["cfg"].replace("timm.layers.EcaModule", bad)
        write_checkpoint(changed, tmp_path / "bad.pth")
        with pytest.raises(UserError, match=f"builds '{bad}', which is not a registered model part"):
            load(checkpoint=tmp_path / "bad.pth")


def test_fine_tuning_search(searched: Path, tools: Run, tmp_path: Path) -> None:
    """The network's weights come from a file and stay; the command to go on names it."""
    weights = searched / "supernet" / "last.pth"
    named = (f"model.backbone.network.weights={weights}",)
    tools("search", "search/finetune_se_regnet_imagenet", tmp_path / "found", "--steps", "1", options=named)
    before, after = (
        read_checkpoint(path)["state_dict"] for path in (weights, tmp_path / "found" / "supernet" / "last.pth")
    )
    own = [key for key in before if key.startswith("backbone.") and ".plugged." not in key]
    assert all(torch.equal(before[key], after[key]) for key in own)
    scales = [float(value) for key, value in after.items() if key.endswith(".scale")]
    assert len(scales) == 4
    assert any(scales)
    scheme = ["--scheme", str(tmp_path / "found" / "scheme.json")]
    tools("train", "cls/finetune_se_regnet_imagenet", tmp_path / "tuned", *scheme, options=named)
    tuned = read_checkpoint(tmp_path / "tuned" / "last.pth")["state_dict"]
    assert not any(torch.equal(before[key], tuned[key]) for key in own if key == "backbone.features.0.0.weight")
