"""tools/benchmark.py on small networks."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from ean_core import EANCifarResNet
from ean_core.analysis.benchmark import short_names
from ean_core.analysis.complexity import count_parameters
from ean_core.figures.cost_bubbles import cost_bubbles

TEMPLATE = """task = "classification"
default_scope = "mmengine"
model = dict(
    type="ImageClassifier",
    num_classes=10,
    backbone=dict(type="ean_core.EANCifarResNet", depth=11, {options}),
)
"""
SE = 'attention=dict(type="SE", reduction=16)'
VARIANTS = {"org": "", "share_se": SE, "ean_se": f'{SE}, scheme="1-0-1"'}


@pytest.fixture
def configs(tmp_path: Path) -> list[str]:
    for name, options in VARIANTS.items():
        (tmp_path / f"small_{name}_x.py").write_text(TEMPLATE.format(options=options))
    return [str(tmp_path / f"small_{name}_x.py") for name in VARIANTS]


@pytest.mark.parametrize("options", [[], ["--fuse", "--channels-last"], ["--dtype", "bfloat16"]], ids=str)
def test_table_json_and_picture(
    tool: Callable, configs: list[str], tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "found"
    tool("benchmark")(["--list", *configs, "--batch", "2", "--repeats", "3", "--out", str(out), *options])
    record = json.loads(out.with_suffix(".json").read_text())
    rows = {row["name"]: row for row in record["rows"]}
    assert list(rows) == ["org", "share_se", "ean_se"]
    assert rows["org"]["increment"] == rows["org"]["low"] == rows["org"]["high"] == 0
    head = 256 * 10 + 10
    for name, scheme in (("share_se", "full"), ("ean_se", "1-0-1")):
        net = EANCifarResNet(11, attention={"type": "SE", "reduction": 16}, scheme=scheme)
        assert rows[name]["parameters"] == count_parameters(net) + head
        stages = (64, 128, 256) if scheme == "full" else (64, 256)
        assert rows[name]["macs"] - rows["org"]["macs"] == sum(2 * c * (c // 16) for c in stages)
        assert rows[name]["low"] <= rows[name]["increment"] <= rows[name]["high"]
    assert all(row["milliseconds"] > 0 and row["peak_bytes"] > 2 * 64 * 32 * 32 * 2 for row in rows.values())
    assert record["settings"]["fuse"] is ("--fuse" in options)
    assert "share_se" in capsys.readouterr().out
    with Image.open(out.with_suffix(".png")) as picture:
        assert picture.size[0] > 500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--list", "{1}"], "without attention"),
        (["--list", "nowhere.py"], "does not exist"),
        (["--list", "{0}", "--device", "abacus"], "device 'abacus'"),
        (["--list", "{0}", "--batch", "0"], "must be positive"),
        (["--list", "{0}", "--accuracy", "org"], "--accuracy"),
    ],
)
def test_mistakes(
    tool: Callable, configs: list[str], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        tool("benchmark")([argument.format(*configs) for argument in arguments])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_short_names() -> None:
    assert short_names(["r_org_cifar100", "r_ean_se_cifar100"]) == ["org", "ean_se"]
    assert short_names(["a", "a_b"]) == ["a", "a_b"]
    assert short_names(["same"]) == ["same"]


def test_the_picture_shows_accuracies_where_all_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr("matplotlib.axes.Axes.errorbar", lambda self, x, y, **_: drawn.append((x, y)))
    row = {"name": "a", "increment": 5.0, "low": 4.0, "high": 6.0, "parameters": 100, "macs": 2e9}
    cost_bubbles([{**row, "accuracy": 70.0}, {**row, "accuracy": 71.0}])
    cost_bubbles([{**row, "accuracy": 70.0}, {**row, "accuracy": None}])
    assert drawn == [(5.0, 70.0), (5.0, 71.0), (5.0, 2.0), (5.0, 2.0)]
