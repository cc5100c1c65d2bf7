"""Pretrained weights: every format loads completely or not at all, and files are read and written safely."""

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.nn import functional as F

from ean_core import ConnectionScheme, EANResNet
from ean_core.backbones.weights import (
    attention_keys,
    convert_state_dict,
    detect_attention,
    fold_conv_biases,
    load_backbone,
    load_pretrained,
)
from ean_core.checkpoint import read_checkpoint, write_checkpoint

State = dict[str, torch.Tensor]
BLOCKS = (3, 4, 6, 3)


# The layout of the authors' ImageNet networks, written anew: what a converted network is compared with.
class TheirSE(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.fc2(self.fc1(F.adaptive_avg_pool2d(x, 1)).relu()).sigmoid()


class TheirSGE(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, 64, 1, 1))
        self.bias = nn.Parameter(torch.empty(1, 64, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        groups = x.reshape(n * 64, c // 64, h, w)
        t = (groups * F.adaptive_avg_pool2d(groups, 1)).sum(1).reshape(n * 64, h * w)
        t = t - t.mean(1, keepdim=True)
        t = (t / (t.std(1, keepdim=True) + 1e-5)).reshape(n, 64, h, w) * self.weight + self.bias
        return (groups * t.reshape(n * 64, 1, h, w).sigmoid()).reshape(n, c, h, w)


class TheirLinears(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            nn.Linear(channels, channels // 20), nn.ReLU(), nn.Linear(channels // 20, 4 * channels)
        )


class TheirLSTM(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.w_ih = nn.ModuleList([TheirLinears(channels)])
        self.w_hh = nn.ModuleList([TheirLinears(channels)])

    def forward(self, y: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        i, f, g, o = (self.w_ih[0].seq(y) + self.w_hh[0].seq(h)).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.sigmoid(), c


class TheirBlock(nn.Module):
    def __init__(self, inplanes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inplanes, planes, 1), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = nn.Conv2d(planes, planes, 3, stride, 1), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, 4 * planes, 1), nn.BatchNorm2d(4 * planes)
        if inplanes != 4 * planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, 4 * planes, 1, stride), nn.BatchNorm2d(4 * planes))


class TheirStage(nn.Module):
    def __init__(self, attention: str, inplanes: int, planes: int, blocks: int, stride: int) -> None:
        super().__init__()
        first = TheirBlock(inplanes, planes, stride)
        self.ModuleList = nn.ModuleList([first, *(TheirBlock(4 * planes, planes, 1) for _ in range(blocks - 1))])
        if attention == "dia":
            self.lstm = TheirLSTM(4 * planes)
        else:
            self.share_fc = {"se": TheirSE, "sge": TheirSGE}[attention](4 * planes)

    def forward(self, x: torch.Tensor, code: int) -> torch.Tensor:
        h = c = x.new_zeros(())
        for i, block in enumerate(self.ModuleList):
            out = block.bn1(block.conv1(x)).relu()
            out = block.bn2(block.conv2(out)).relu()
            out = block.bn3(block.conv3(out))
            if code >> (len(self.ModuleList) - 1 - i) & 1:
                if hasattr(self, "lstm"):
                    y = out.mean((2, 3))
                    h, c = self.lstm(y, h.expand_as(y), c.expand_as(y))
                    out = out * h[:, :, None, None]
                else:
                    out = self.share_fc(out)
            x = (out + (block.downsample(x) if hasattr(block, "downsample") else x)).relu()
        return x


class TheirNetwork(nn.Module):
    def __init__(self, attention: str) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3), nn.BatchNorm2d(64)
        self.layer1 = TheirStage(attention, 64, 64, 3, 1)
        self.layer2 = TheirStage(attention, 256, 128, 4, 2)
        self.layer3 = TheirStage(attention, 512, 256, 6, 2)
        self.layer4 = TheirStage(attention, 1024, 512, 3, 2)
        self.last_linear = nn.Linear(2048, 2)

    def forward(self, x: torch.Tensor, codes: tuple[int, ...]) -> torch.Tensor:
        x = F.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        for stage, code in zip((self.layer1, self.layer2, self.layer3, self.layer4), codes, strict=True):
            x = stage(x, code)
        return x


def randomise(network: nn.Module) -> nn.Module:
    """Every number random, so that a tensor left out or put elsewhere shows; the activations' scale is kept."""
    for name, value in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        if value.dim() > 1 and len(value) > 1:
            value.normal_(0, value[0].numel() ** -0.5)
        else:
            value.uniform_(0.5, 1.5) if name.endswith(("running_var", "weight")) else value.uniform_(-0.3, 0.3)
    return network.eval()


@pytest.fixture(scope="module", autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def deterministic() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def resnet18() -> State:
    return torchvision.models.resnet18().state_dict()


@pytest.fixture(scope="module")
def resnet50() -> nn.Module:
    return randomise(torchvision.models.resnet50(num_classes=2))


@pytest.mark.parametrize("attention", ["se", "sge", "dia"])
def test_an_authors_network_keeps_its_output(attention: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        theirs = TheirNetwork(attention)
    theirs = randomise(theirs.to_empty(device="cpu").double())
    state = {f"module.{key}": value for key, value in theirs.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 90, "arch": "resnet", "best_acc1": torch.tensor(77.0)}, tmp_path / "x")

    source = read_checkpoint(tmp_path / "x")
    config = detect_attention(source)
    ours = EANResNet(50, attention=config).double().eval()
    report = load_backbone(ours, source)
    assert (report.missing, report.unused) == ([], [])
    assert set(report.loaded) == set(ours.state_dict())
    x = torch.randn(2, 3, 40, 40, dtype=torch.double)
    with torch.no_grad():
        for codes in [(7, 15, 63, 7), (2, 2, 51, 1)]:
            ours.set_scheme(ConnectionScheme.from_codes(codes, BLOCKS))
            expected = theirs(x, codes)
            assert expected.std() > 0.1
            torch.testing.assert_close(ours(x)[0], expected, rtol=1e-9, atol=1e-9)


def test_detected_options() -> None:
    assert detect_attention({"module.layer1.share_fc.fc1.weight": torch.ones(16, 256, 1, 1)}) == {
        "type": "SE",
        "reduction": 16,
    }
    assert detect_attention({"layer3.share_fc.weight": torch.ones(1, 64, 1, 1)}) == {"type": "SGE", "groups": 64}
    assert detect_attention({"layer4.lstm.w_ih.0.seq.0.weight": torch.ones(12, 256)}) == {
        "type": "DIA",
        "reduction": 20,
    }
    own = EANResNet(18, attention={"type": "SE"}, sharing="block")
    assert detect_attention({"state_dict": own.state_dict()}) == {"type": "SE", "reduction": 16}
    assert detect_attention(EANResNet(18).state_dict()) is None


def test_torchvision_features_bit_for_bit(resnet50: nn.Module, deterministic: None) -> None:
    ours = EANResNet(50, attention={"type": "SE"}, scheme="none", out_indices=(0, 1, 2, 3)).eval()
    report = load_backbone(ours, resnet50.state_dict())
    assert (report.missing, report.unused) == ([], [])
    x = torch.randn(1, 3, 40, 40)
    with torch.no_grad():
        theirs = resnet50.maxpool(resnet50.relu(resnet50.bn1(resnet50.conv1(x))))
        for i, out in enumerate(ours(x)):
            theirs = getattr(resnet50, f"layer{i + 1}")(theirs)
            assert torch.equal(out, theirs)


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items() if not key.startswith("fc.")}


@pytest.mark.parametrize("layout", ["torchvision", "mmpretrain", "segmentor", "data parallel"])
def test_formats_load_completely(layout: str, resnet18: State) -> None:
    head = {"head.fc.weight": torch.ones(2, 512), "head.fc.bias": torch.ones(2)}
    seg = {"decode_head.conv_seg.weight": torch.ones(2, 512, 1, 1), "loss.weight": torch.ones(2)}
    source: dict[str, Any] = {
        "torchvision": resnet18,
        "mmpretrain": {"state_dict": prefixed(resnet18, "backbone.") | head, "meta": {"epoch": 100}},
        "segmentor": {
            "meta": {"dataset_meta": {"classes": ("a", "b"), "palette": [[0, 0, 0], [1, 1, 1]]}, "iter": 3},
            "state_dict": prefixed(resnet18, "backbone.") | seg | {"data_preprocessor.mean": torch.ones(3)},
            "optimizer": {"state": {}, "param_groups": []},
        },
        "data parallel": {"model": prefixed(resnet18, "module.backbone.") | prefixed(head, "module.")},
    }[layout]
    backbone = EANResNet(18, attention={"type": "SE"}, scheme="full")
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    report = load_backbone(backbone, source)
    after = backbone.state_dict()
    attention = attention_keys(backbone)
    assert len(attention) == 4 * 4
    assert set(report.missing) == attention
    assert report.unused == []
    assert set(report.loaded) == set(before) - attention
    assert not torch.equal(after["layer4.1.conv2.weight"], before["layer4.1.conv2.weight"])
    assert all(torch.equal(after[key], resnet18[key]) for key in report.loaded)
    assert all(torch.equal(after[key], before[key]) for key in attention)


def test_deep_stem(resnet18: State) -> None:
    stem: State = {}
    for i, (inputs, outputs) in enumerate([(3, 32), (32, 32), (32, 64)]):
        stem[f"stem.{3 * i}.weight"] = torch.randn(outputs, inputs, 3, 3)
        norm = {f"stem.{3 * i + 1}.{key}": value for key, value in nn.BatchNorm2d(outputs).state_dict().items()}
        stem.update(norm)
    body = {key: value for key, value in resnet18.items() if key.startswith("layer")}
    backbone = EANResNet(18, deep_stem=True)
    report = load_backbone(backbone, {"state_dict": prefixed(stem | body, "backbone."), "meta": {}})
    assert (report.missing, report.unused) == ([], [])
    assert torch.equal(backbone.stem[6].weight, stem["stem.6.weight"])
    with pytest.raises(ValueError, match=r"first 'stem.0.weight'"):
        load_backbone(backbone, resnet18)


def test_old_files_without_batch_counters(resnet18: State) -> None:
    old = {key: value for key, value in resnet18.items() if not key.endswith("num_batches_tracked")}
    report = load_backbone(EANResNet(18), old)
    assert (report.missing, report.unused) == ([], [])


def test_what_is_left_over_is_reported(resnet18: State) -> None:
    backbone = EANResNet(18, attention={"type": "SE"}, scheme="00-00-00-01")
    other = {"layer1.attention.fc1.weight": torch.ones(4, 64), "layer1.0.se.fc1.weight": torch.ones(4, 64)}
    report = load_backbone(backbone, resnet18 | other)
    assert report.unused == list(other)
    assert str(report) == (
        "loaded 120 tensors, unused 2 (layer1.attention.fc1.weight, layer1.0.se.fc1.weight), missing 4 "
        "(layer4.attention.fc1.weight, layer4.attention.fc1.bias, layer4.attention.fc2.weight, "
        "layer4.attention.fc2.bias)"
    )


@pytest.mark.parametrize(
    ("depth", "message"),
    [
        (34, r"does not cover the backbone: 80 of 180 tensors are missing, first 'layer1.2.conv1.weight'"),
        (50, r"does not cover the backbone: \d+ of 265 tensors are missing"),
    ],
)
def test_another_depth_is_refused(depth: int, message: str, resnet18: State) -> None:
    backbone = EANResNet(depth)
    before = backbone.conv1.weight.clone()
    with pytest.raises(ValueError, match=message) as error:
        load_backbone(backbone, resnet18)
    assert "\n" not in str(error.value)
    assert torch.equal(backbone.conv1.weight, before)


def test_a_deeper_checkpoint_is_refused() -> None:
    with pytest.raises(ValueError, match="larger network: the backbone lacks 96 of its tensors"):
        load_backbone(EANResNet(18), EANResNet(34).state_dict())


def test_other_attention_options_are_refused() -> None:
    source = EANResNet(18, attention={"type": "SE", "reduction": 8}).state_dict()
    with pytest.raises(ValueError, match=r"12 tensors have another shape, first 'layer1.attention.fc1.weight'"):
        load_backbone(EANResNet(18, attention={"type": "SE", "reduction": 16}), source)


@pytest.mark.parametrize("source", [{}, {"state_dict": {"conv1": torch.ones(1)}}, {"a": 1, "2": torch.ones(1)}])
def test_no_resnet_is_refused(source: dict[Any, Any]) -> None:
    with pytest.raises(ValueError, match=r"100 of 100 tensors are missing, first 'conv1.weight'"):
        load_backbone(EANResNet(18), source)


def test_a_state_dict_must_be_one() -> None:
    with pytest.raises(ValueError, match="holds no state dict"):
        convert_state_dict({"state_dict": 3})


@pytest.mark.parametrize("deep_stem", [False, True])
def test_folding_biases_is_exact(deep_stem: bool) -> None:
    biased = randomise(EANResNet(18, conv_bias=True, deep_stem=deep_stem).double())
    plain = EANResNet(18, deep_stem=deep_stem).double().eval()
    report = load_backbone(plain, biased.state_dict())
    assert (report.missing, report.unused) == ([], [])
    assert not any(key.endswith("conv1.bias") for key in fold_conv_biases(biased.state_dict()))
    x = torch.randn(2, 3, 40, 40, dtype=torch.double)

    def same() -> None:
        torch.testing.assert_close(plain(x)[0], biased(x)[0], rtol=1e-9, atol=1e-9)

    same()
    plain.train()
    biased.train()
    same()  # the batch statistics cancel the biases
    plain.eval()
    biased.eval()
    same()  # and the running ones have moved alike


def test_biases_stay_where_the_backbone_has_them() -> None:
    source, target = EANResNet(18, conv_bias=True), EANResNet(18, conv_bias=True)
    load_backbone(target, source.state_dict())
    assert all(torch.equal(value, target.state_dict()[key]) for key, value in source.state_dict().items())


def test_init_cfg_loads_the_weights(resnet18: State, tmp_path: Path) -> None:
    write_checkpoint(resnet18, tmp_path / "r18.pth")
    init_cfg = {"type": "Pretrained", "checkpoint": str(tmp_path / "r18.pth")}
    backbone = EANResNet(18, init_cfg=init_cfg)
    assert not torch.equal(backbone.conv1.weight, resnet18["conv1.weight"])
    backbone.init_weights()
    assert all(torch.equal(value, resnet18[key]) for key, value in backbone.state_dict().items())
    with pytest.raises(ValueError, match="does not cover the backbone"):
        EANResNet(34, init_cfg=init_cfg).init_weights()


def test_missing_file() -> None:
    with pytest.raises(FileNotFoundError, match=r"'nowhere/r18.pth' does not exist"):
        load_pretrained(EANResNet(18), "nowhere/r18.pth")


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_url(*args: Any, **kwargs: Any) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", load_url)
    with pytest.raises(FileNotFoundError, match=r"'torchvision://resnet18' could not be downloaded .*path") as error:
        load_pretrained(EANResNet(18), "torchvision://resnet18")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="no pretrained weights named 'torchvision://resnet19'"):
        load_pretrained(EANResNet(18), "torchvision://resnet19")


def test_torchvision_weights_by_name(monkeypatch: pytest.MonkeyPatch, resnet18: State) -> None:
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *args, **kwargs: resnet18)
    backbone = EANResNet(18)
    load_pretrained(backbone, "torchvision://resnet18")
    assert torch.equal(backbone.conv1.weight, resnet18["conv1.weight"])


class Foreign:
    """Runs code when it is unpickled by a loader that is not careful."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["truncated", "text", "empty", "list", "pickle", "torch", "torch legacy"])
def test_bad_files_are_refused_in_one_line(how: str, tmp_path: Path) -> None:
    path, ran = tmp_path / "x.pth", tmp_path / "ran"
    torch.save({"w": torch.ones(1000)}, path)
    message = "cannot be read: it is truncated, or not a checkpoint"
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:3000])
    elif how == "text":
        path.write_text("hello world\n")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "list":
        torch.save([1, 2], path)
        message = "holds a list"
    elif how == "pickle":
        path.write_bytes(pickle.dumps({"w": Foreign(ran)}, protocol=2))
        message = "contains 'posix.mkdir', which is neither a tensor nor a plain value"
    else:
        torch.save({"w": Foreign(ran)}, path, _use_new_zipfile_serialization=how == "torch")
        message = "contains 'posix.mkdir'"
    with pytest.raises(ValueError, match=message.replace("posix", "(posix|nt)")) as error:
        read_checkpoint(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert not ran.exists()


def test_any_bytes_end_in_a_value_error(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    rng = np.random.default_rng(0)
    lines = set()
    torch.save({"w": torch.ones(3), "v": {"a": [1, 2.0, "x"]}}, path, _use_new_zipfile_serialization=False)
    valid = path.read_bytes()
    for _ in range(300):
        data = np.frombuffer(valid, np.uint8).copy()
        data[rng.integers(len(data), size=3)] = rng.integers(256, size=3)
        path.write_bytes(data.tobytes())
        try:
            read_checkpoint(path)
        except ValueError as error:  # any other error fails this test
            lines.add(str(error).count("\n"))
    assert lines == {0}


class Tiny(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, *x: torch.Tensor, mode: str = "loss") -> dict[str, torch.Tensor]:
        return {"loss": self.linear(torch.stack(x)).mean()}


class Data(torch.utils.data.Dataset):
    metainfo = {"classes": ("cat", "dog"), "palette": np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8)}  # noqa: RUF012

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> torch.Tensor:
        return torch.full((2,), float(i))


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    runner = Runner(
        model=Tiny(),
        work_dir=str(tmp_path),
        train_dataloader={"dataset": Data(), "sampler": {"type": "DefaultSampler"}, "batch_size": 2},
        train_cfg={"by_epoch": True, "max_epochs": 1},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.01, "momentum": 0.9}},
        param_scheduler=[
            {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 2},
            {"type": "MultiStepLR", "milestones": [1, 2]},
            {"type": "PolyLR", "power": 0.9},
        ],
        default_hooks={"checkpoint": None},
        experiment_name=f"weights-{tmp_path.name}",
    )
    runner.train()
    return runner


NUMPY_FUNCTIONS = [np.zeros(1).__reduce__()[0], np.float64(1).__reduce__()[0]]  # _reconstruct and scalar


def test_a_runners_checkpoint_needs_no_trust(runner: Runner, tmp_path: Path) -> None:
    hub = runner.message_hub
    hub.update_scalar("train/numpy", np.float64(0.5))
    for i, value in enumerate([np.float32(1), np.float64(2), np.int32(3), np.int64(4), np.bool_(True), np.str_("x")]):
        hub.update_info(f"value{i}", value)
    runner.save_checkpoint(str(tmp_path), "last.pth", meta={"score": np.float32(0.25)})
    before = set(torch.serialization.get_safe_globals())
    # As a user who loads MMEngine's files with torch.load would: the names that the stand-ins have here, too.
    torch.serialization.add_safe_globals([getattr, np.ndarray, np.dtype, HistoryBuffer, *NUMPY_FUNCTIONS])
    allowed = set(torch.serialization.get_safe_globals())
    try:
        checkpoint = read_checkpoint(tmp_path / "last.pth")
        assert set(torch.serialization.get_safe_globals()) == allowed, "reading has side effects"
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(list(before))
    assert set(checkpoint) == {"meta", "state_dict", "message_hub", "optimizer", "param_schedulers"}
    assert checkpoint["meta"]["score"] == 0.25
    assert checkpoint["meta"]["dataset_meta"]["classes"] == ("cat", "dog")
    assert checkpoint["meta"]["dataset_meta"]["palette"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert len(checkpoint["param_schedulers"]) == 3
    assert torch.equal(checkpoint["state_dict"]["linear.weight"], runner.model.linear.weight)
    loaded = MessageHub(f"loaded-{tmp_path.name}")
    loaded.load_state_dict(checkpoint["message_hub"])
    assert [loaded.get_info(f"value{i}") for i in range(6)] == [1, 2, 3, 4, True, "x"]
    history = loaded.get_scalar("train/loss")
    assert np.array_equal(history.data, hub.get_scalar("train/loss").data)
    assert history.statistics("mean") == hub.get_scalar("train/loss").mean()


def test_a_history_from_numpy_1(tmp_path: Path) -> None:
    """NumPy 1 wrote `numpy.core` where NumPy 2 writes `numpy._core`."""
    path = tmp_path / "x"
    state = {"h": HistoryBuffer([1.0, 3.0], [1, 1]), "s": np.float64(2)}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"cnumpy.core.multiarray\nscalar" in data
    path.write_bytes(data)
    checkpoint = read_checkpoint(path)
    assert (checkpoint["h"].mean(), checkpoint["s"]) == (2, 2)


def test_getattr_reaches_nothing_else(tmp_path: Path) -> None:
    class Reach:
        def __reduce__(self) -> Any:
            return getattr, (HistoryBuffer, "__init__")

    torch.save({"x": Reach()}, tmp_path / "x")
    with pytest.raises(ValueError, match="it is not loaded, because that can run code"):
        read_checkpoint(tmp_path / "x")


def test_writing_replaces_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "x.pth"
    write_checkpoint({"a": 1}, path)
    write_checkpoint({"a": 2}, str(path))
    assert read_checkpoint(path) == {"a": 2}

    def fail(obj: Any, file: BinaryIO) -> None:
        file.write(b"half")
        raise RuntimeError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        write_checkpoint({"a": 3}, path)
    assert read_checkpoint(path) == {"a": 2}
    assert [file.name for file in path.parent.iterdir()] == ["x.pth"]
