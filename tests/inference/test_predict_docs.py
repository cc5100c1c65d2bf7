"""The Python of docs/predict.md runs as written, with other paths."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ean_testing.checkpoints import ROOT, classification_config, save


def test_the_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```py\n(.*?)```", (ROOT / "docs" / "predict.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    place = Path(re.search(r'checkpoint="(.*?)"', block)[1])
    place.parent.mkdir(parents=True)
    save(place, classification_config(), "abcdefg")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save("photo.jpg")
    exec(compile(block, "predict.md", "exec"), {})
    assert capsys.readouterr().out.startswith("(20, 30) {'class_1': '")
    assert Image.open("drawn.png").size[0] > 300
