"""The config inside a checkpoint is read as data: nothing in it runs."""

import math
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config

from ean_core.errors import UserError
from ean_core.inference import load
from ean_core.inference.admission import check_types
from ean_core.inference.stored_config import parse_config, stored_config
from ean_testing.checkpoints import CLS, SEG, classification_config, save, segmentation_config


@pytest.mark.parametrize("path", [SEG, CLS])
def test_reads_what_mmengine_writes(path: str) -> None:
    """Equal to MMEngine's own reader, which executes the text, on our configs."""
    cfg = Config.fromfile(path)
    assert parse_config(cfg.pretty_text) == Config.fromstring(cfg.pretty_text, ".py").to_dict()


def test_values() -> None:
    text = "a = -1.5\nb = dict(c=[1, (2,)], d=None)\ne = {'x y': True, 3: 'z'}\nf = float_ = inf\ng = -inf\nh = nan"
    found = parse_config(text)
    assert math.isnan(found.pop("h"))
    assert found == {
        "a": -1.5,
        "b": {"c": [1, (2,)], "d": None},
        "e": {"x y": True, 3: "z"},
        "f": math.inf,
        "float_": math.inf,
        "g": -math.inf,
    }


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "a = open('b')",
        "a = dict(b=__import__('os').system('true'))",
        "a = [i for i in range(9)]",
        "a = dict([('b', 1)])",
        "a = dict(**{'b': 1})",
        "a = {**{}}",
        "a = (lambda: 1)()",
        "a = f'{1}'",
        "a.b = 1",
        "a, b = 1, 2",
        "print(1)",
        "a = 9**9**9",
        "a = b",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        parse_config(text)


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        (None, "holds no config"),
        ({}, "holds no config"),
        ({"cfg": "import os"}, r"not plain values \(line 1"),
        ({"cfg": "a = ("}, "not plain values"),
        ({"cfg": "a = " + "[" * 5000}, "not plain values"),
        ({"cfg": "model = dict()"}, "of the task None"),
        ({"cfg": "task = 'antigravity'"}, "of the task 'antigravity'"),
    ],
)
def test_checkpoints_without_a_usable_config(meta: dict[str, Any] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        stored_config({"state_dict": {}} if meta is None else {"meta": meta}, "x.pth")
    assert "config file before it" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("config", [segmentation_config, classification_config])
def test_our_models_pass(config: Any) -> None:
    check_types(config().model, "x.pth")


@pytest.mark.parametrize(
    "kind", ["os.system", "subprocess.run", "builtins.exec", "antigravity", "ean_core.files.shutil.rmtree", "os.SE"]
)
def test_a_type_that_would_run_something_is_refused(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's checkpoint whose config calls a function: MMEngine alone would import and call it."""
    cfg = classification_config()
    path = save(tmp_path / "x.pth", cfg, "abcdefg")
    content = torch.load(path, weights_only=True)
    cfg.model.backbone.attention = {"type": kind, "command": "touch ran"}
    content["meta"]["cfg"] = cfg.dump()
    torch.save(content, path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"builds '{kind}', which is not a registered model part"):
        load(checkpoint=path)
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]


def text_of(cfg: Config) -> str:
    """What ``cfg.dump()`` says, without its formatting, which takes a second."""
    return "\n".join(f"{key} = {value!r}" for key, value in cfg.to_dict().items())


def stored(folder: Path, change: Callable[[Config], None]) -> Path:
    """A checkpoint whose stored config is changed, and whose weights are those of the config before."""
    cfg = classification_config()
    path = save(folder / "x.pth", cfg, ())
    content = torch.load(path, weights_only=True)
    change(cfg)
    content["meta"]["cfg"] = text_of(cfg)
    torch.save(content, path)
    return path


def refusal(folder: Path, change: Callable[[Config], None], make: Callable[[], Config] = classification_config) -> str:
    """The one line that refuses a stored config; nothing runs, is fetched, or is written."""
    cfg, path = make(), folder / "x.pth"
    change(cfg)
    torch.save({"meta": {"cfg": text_of(cfg)}, "state_dict": {}}, path)  # it does not come to the weights
    loaded = set(sys.modules)
    with pytest.raises(UserError) as error:
        load(checkpoint=path)
    assert [p.name for p in folder.iterdir() if p.name != "secret.pkl"] == ["x.pth"]
    assert not {"antigravity", "this"} & (set(sys.modules) - loaded)
    line = str(error.value)
    assert str(path) in line
    assert "\n" not in line
    return line


class Touch:
    """Unpickling it makes a file."""

    def __reduce__(self) -> Any:
        return open, ("ran", "w")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, without a network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("network"))
    return tmp_path


def put(place: str, value: Any) -> Callable[[Config], None]:
    """Set an entry of a config, by its dotted name."""

    def change(cfg: Config) -> None:
        *path, last = place.split(".")
        for word in path:
            cfg = cfg[word]
        cfg[last] = value

    return change


HEAD = "model.decode_head."


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("model.type", "os.system", "builds 'os.system', which is not a registered"),
        ("model.type", ["os.system"], "which is not a registered"),
        ("model.type", {"type": "os.system"}, "which is not a registered"),
        ("model.type", 7, "builds '7', which is not a registered"),
        ("model.type", "antigravity", "builds 'antigravity'"),
        ("model.type", "mmengine.fileio.ImageClassifier", "builds 'mmengine.fileio.ImageClassifier'"),
        ("model.backbone.type", "timm.create_model", "builds 'timm.create_model'"),
        ("model.backbone.type", "torch.hub.load", "builds 'torch.hub.load'"),
        ("model.backbone.type", "ean_core.files.write_atomic", "builds 'ean_core.files.write_atomic'"),
        ("model.backbone._scope_", "antigravity", "names the scope 'antigravity'"),
        ("model.backbone.extra", [[{"a": ({"type": "os.system"},)}]], "builds 'os.system'"),
        ("model.data_preprocessor.type", "os.system", "builds 'os.system'"),
        ("model.backbone.norm_cfg", {"type": "os.system"}, "builds 'os.system'"),
        ("model.backbone.attention", {"type": "timm.layers.antigravity"}, "builds 'timm.layers.antigravity'"),
        ("model.backbone.attention", {"type": "antigravity"}, "builds 'antigravity'"),
        ("model.backbone.scheme", "secret.json", "would read scheme = 'secret.json'"),
        ("model.backbone", {"type": "timm", "name": "resnet18", "checkpoint_path": "weights"}, "checkpoint_path"),
        ("model.backbone", {"type": "timm", "name": "resnet18", "pretrained_cfg": {"url": "a"}}, "pretrained_cfg"),
        ("model.backbone", {"type": "timm", "name": "hf-hub:a/b", "pretrained": True}, "timm has no network"),
        ("model.backbone", {"type": "timm", "name": "os.system"}, "timm has no network 'os.system'"),
        ("model.backbone", {"type": "ean_core.CellNetwork", "genotype": "/etc/hostname"}, "no genotype"),
        ("model.backbone", {"type": "ean_core.Plugged", "network": {"type": "os.system"}}, "builds 'os.system'"),
        ("default_scope", "antigravity", "names the scope 'antigravity'"),
        ("default_scope", ["mmseg"], "names the scope"),
        ("model", None, "has no model"),
        ("model", 3, "has no model"),
        ("model.backbone", None, "cannot be built"),
        ("model.backbone", {"depth": 11}, "cannot be built"),
        ("model.backbone.depth", "x", "cannot be built"),
        ("model.nothing", 1, "nothing"),
        ("image_size", "16", "has the image_size 16, which is no size"),
        ("image_size", 10**9, "which is no size"),
        ("heads", {"a": {}}, "its heads are still to be chosen"),
        ("task", "os", "of the task 'os'"),
    ],
)
def test_whatever_a_stored_config_builds_is_checked(offline: Path, place: str, value: Any, words: str) -> None:
    assert words in refusal(offline, put(place, value))


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (HEAD + "loss_decode.class_weight", "secret.pkl", "would read class_weight = 'secret.pkl'"),
        (HEAD + "loss_decode.class_weight", "http://127.0.0.1/secret.pkl", "would read class_weight = 'http:"),
        (HEAD + "norm_cfg", {"type": "os.system"}, "builds 'os.system'"),
        (HEAD + "act_cfg", {"type": "os.system"}, "builds 'os.system'"),
        (HEAD + "conv_cfg", {"type": "os.system"}, "builds 'os.system'"),
        (HEAD + "sampler", {"type": "os.system"}, "builds 'os.system'"),
        ("model.neck", {"type": "TIMMBackbone", "model_name": "resnet18"}, "reads files or fetches weights"),
        ("model.neck", {"type": "mmseg.TIMMBackbone", "model_name": "resnet18"}, "reads files or fetches weights"),
        ("model.neck", {"type": "VPD", "diffusion_cfg": {"base_path": "x.py"}}, "reads files or fetches weights"),
        ("model.test_cfg", 3, "has a test_cfg of no known mode"),
        ("model.test_cfg", {"mode": "slide", "crop_size": "x"}, "has the crop_size x, which is no size"),
    ],
)
def test_parts_of_mmsegmentation_are_checked(offline: Path, place: str, value: Any, words: str) -> None:
    """Its losses unpickle a file that ``class_weight`` names, from an address too."""
    (offline / "secret.pkl").write_bytes(pickle.dumps(Touch()))
    assert words in refusal(offline, put(place, value), segmentation_config)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("model.backbone.init_cfg", {"type": "Pretrained", "checkpoint": "http://127.0.0.1/x.pth"}),
        ("model.backbone.init_cfg", {"type": "os.system", "command": "touch ran"}),
        ("model.init_cfg", [{"type": "Pretrained", "checkpoint": "nowhere.pth"}]),
        ("custom_imports", {"imports": ["antigravity"], "allow_failed_imports": False}),
        ("custom_hooks", [{"type": "os.system"}]),
        ("test_pipeline", [{"type": "os.system"}]),
        ("tta_model", {"type": "os.system"}),
        ("test_dataloader", {"dataset": {"type": "os.system"}}),
        ("visualizer", {"type": "os.system"}),
        ("load_from", "nowhere.pth"),
    ],
)
def test_what_a_prediction_does_not_build_may_say_anything(offline: Path, place: str, value: Any) -> None:
    path = stored(offline, put(place, value))
    assert load(checkpoint=path)(np.zeros((8, 8, 3), np.uint8)).scores.shape == (7,)
    assert [p.name for p in offline.iterdir()] == ["x.pth"]
    assert "antigravity" not in sys.modules


def test_types_that_the_user_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stranger.py").write_text(
        "from torch import nn\n"
        "class Half(nn.Module):\n"
        "    def __init__(self, channels):\n"
        "        super().__init__()\n"
        "    def forward(self, x):\n"
        "        return x / 2\n"
        "class Third(Half):\n"
        "    pass\n"
    )
    cfg = classification_config()
    cfg.model.backbone.attention = {"type": "stranger.Half"}
    monkeypatch.syspath_prepend(tmp_path)
    path = save(tmp_path / "x.pth", cfg, ())
    sys.modules.pop("stranger")
    words = (
        r"builds 'stranger\.Half', which is not .*: if you trust it, --trust stranger\.Half, or name its config file"
    )
    for trust in ((), ("stranger",), ("stranger.Third",), ("stranger.*",)):
        with pytest.raises(UserError, match=words):
            load(checkpoint=path, trust=trust)
    assert "stranger" not in sys.modules  # not even imported
    with pytest.raises(UserError, match="trust is a list of types"):
        load(checkpoint=path, trust="stranger.Half")
    result = load(checkpoint=path, trust=("other.Thing", "stranger.Half"))(np.zeros((8, 8, 3), np.uint8))
    assert result.scores.shape == (7,)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "-" * 100_000 + "1",
        "a = " + "(" * 1000 + "1" + ",)" * 1000,
        "a = " + "dict(a=" * 5000 + "1" + ")" * 5000,
        "a = " + "1+" * 100_000 + "1j",
        "a = " + "9" * 10_000,
        "a = {[]: 1}",
        "a = -'x'",
        "a = '\0'",
        "filename = 3",
        "x = " + "[1, " * 90_000,
    ],
    ids=lambda text: text[:12],
)
def test_texts_that_are_hard_to_read(text: str) -> None:
    with pytest.raises(UserError, match="is not plain values") as error:
        stored_config({"meta": {"cfg": text}}, "x.pth")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_a_text_of_50_megabytes_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ast.parse", lambda *_: pytest.fail("parsed"))
    with pytest.raises(UserError, match="has 50000000 characters, more than 1000000"):
        stored_config({"meta": {"cfg": "a = 1\n" + "#" * 49_999_994}}, "x.pth")


@pytest.mark.parametrize(
    "meta", [3, {"classes": 3}, {"classes": [1, 2]}, {"classes": ["a"], "palette": ["red"]}, {"palette": [[1e9] * 3]}]
)
def test_class_names_of_another_form(tmp_path: Path, meta: Any) -> None:
    path = save(tmp_path / "x.pth", classification_config(), ())
    content = torch.load(path, weights_only=True)
    content["meta"]["dataset_meta"] = meta
    torch.save(content, path)
    with pytest.raises(UserError, match="holds class names that are no list of texts, or colours that are no RGB"):
        load(checkpoint=path)


@pytest.mark.parametrize("make", [classification_config, segmentation_config])
def test_another_number_of_class_names(tmp_path: Path, make: Callable[[], Config]) -> None:
    model = load(checkpoint=save(tmp_path / "x.pth", make(), ("a", "b", "c")))
    with pytest.raises(UserError, match="the checkpoint names 3 classes, and its network has"):
        model(np.zeros((8, 8, 3), np.uint8))


def test_the_stored_config_of_a_training_names_no_scheme_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config file may name a ``scheme.json``; the config as run has what it says."""
    from classification.toy_shapes import make_toy
    from ean_core.engine import load_config

    (tmp_path / "scheme.json").write_text('{"scheme": "1-0-1", "blocks": [1, 1, 1]}')
    root = make_toy(tmp_path / "data", "cifar100", train=4, test=2)
    (tmp_path / "mine.py").write_text(
        f"_base_ = {CLS!r}\nmodel = dict(backbone=dict(depth=11, scheme={str(tmp_path / 'scheme.json')!r}))\n"
    )
    assert load_config(tmp_path / "mine.py", data_root=root).model.backbone.scheme == "1-0-1"
