"""The config inside a checkpoint is read as data: nothing in it runs."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from ean_core.inference import load
from ean_core.inference.stored_config import check_types, parse_config, stored_config
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
