"""The example of docs/from_python.md runs as written, and leaves the configs that it passes as they were."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import ean_core
from ean_testing.documents import ROOT

SEARCH, TRAIN = "configs/search/se_cifar100.py", "configs/cls/resnet164_share_se_cifar100.py"


def test_the_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], light: None
) -> None:
    (block,) = re.findall(r"```py\n(.*?)```", (ROOT / "docs" / "from_python.md").read_text(), re.DOTALL)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(block, "from_python.md", "exec"), names)

    shared = {"toy": True, "options": names["small"]}
    plan = ean_core.load_config(SEARCH, work_dir="work_dirs/py_search", **shared)
    cfg = ean_core.load_config(TRAIN, work_dir="work_dirs/py_train", scheme="work_dirs/py_search/scheme.json", **shared)
    assert names["plan"].to_dict() == plan.to_dict()
    assert names["cfg"].to_dict() == cfg.to_dict()

    found = json.loads(Path("work_dirs/py_search/scheme.json").read_text())
    assert names["found"] == found
    assert str(names["runner"].model.backbone.scheme) == found["scheme"]
    assert json.loads(Path("work_dirs/py_train/metrics.json").read_text())["best"]["top1"] == names["metrics"]["top1"]
    assert names["metrics"]["top1"] > 50  # of six classes
    printed = capsys.readouterr().out.splitlines()[-10:]
    classes = {"cross", "disc", "ring", "square", "star", "triangle"}
    assert {line.split()[0] for line in printed[1:9]} <= classes
    assert float(printed[9].removeprefix("difference ")) < 1e-4
