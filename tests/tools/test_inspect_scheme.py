"""tools/inspect_scheme.py: pictures of schemes, and the masks of a trained network over a folder."""

import csv
import json

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from ean_core.attention import SE
from ean_testing.references import attend, weights_of


@pytest.fixture(scope="module")
def inspect(tool):
    return tool("inspect_scheme")


def fails(main, arguments, capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert (stopped.value.code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_schemes_and_a_log(inspect, tmp_path, capsys):
    inspect(["paper/imagenet-sge", "full", "--out", str(tmp_path / "two.png")])
    assert capsys.readouterr().out == f"picture     {tmp_path / 'two.png'}\n"
    log = tmp_path / "search.jsonl"
    lines = [{"scheme": s, "reward": r, "step": 1, "failed": False} for s, r in (("10-1", 2.0), ("01-1", 1.0))]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    sizes = []
    for top in (0, 2):
        inspect([str(log), "--top", str(top), "--out", str(tmp_path / "log.png")])
        sizes.append(imread(tmp_path / "log.png").shape)
    assert sizes[1][0] > sizes[0][0]
    assert sizes[1][1] == sizes[0][1]


def test_a_trained_network(inspect, finished, small_voc, tmp_path, capsys):
    """The table of the first block is what the equation of SE gives for the images."""
    from ean_core.inference import load

    images = sorted((small_voc / "JPEGImages").glob("*.jpg"))[:4]
    out = tmp_path / "masks.png"
    model = ["--model", str(finished / "best.pth")]
    inspect([*model, "--images", str(small_voc / "JPEGImages"), "--limit", "4", "--out", str(out)])
    shown = capsys.readouterr().out
    rows = list(csv.DictReader(out.with_suffix(".csv").open()))
    assert [(int(r["stage"]), int(r["block"])) for r in rows] == [(s, b) for s in (1, 2, 3, 4) for b in (1, 2)]
    assert f"{float(rows[0]['mean']):.3f}" in shown
    assert str(out.with_suffix(".csv")) in shown

    predictor = load(checkpoint=finished / "best.pth", device="cpu")
    seen, masks = [], []
    stage = predictor.model.backbone.stages[0]
    stage.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    predictor([str(path) for path in images])
    with torch.no_grad():
        for x in seen:
            branch = stage.blocks[0].residual(x.clone()).numpy()
            masks.append(attend("SE", weights_of(stage.attention), branch)[0] / branch)
    values = np.stack([m[0].mean((1, 2)) for m in masks])  # (images, channels)
    assert float(rows[0]["mean"]) == pytest.approx(values.mean(), rel=1e-4)
    assert float(rows[0]["effect"]) == pytest.approx(np.abs(1 - values).mean(), rel=1e-4)
    assert float(rows[0]["over_channels"]) == pytest.approx(values.mean(0).std(), rel=1e-3)
    assert float(rows[0]["over_images"]) == pytest.approx(values.std(0).mean(), rel=1e-3, abs=1e-6)
    assert imread(out).std() > 0.1


def test_attention_that_adds_is_noted(inspect, finished, small_voc, tmp_path, capsys, monkeypatch):
    """A2 and GC have no mask: what statistics show of them has no bound."""
    monkeypatch.setattr(SE, "forward", lambda self, x, state=None: (x + 1, state))
    arguments = ["--images", str(small_voc / "JPEGImages"), "--limit", "1", "--out", str(tmp_path / "masks.png")]
    inspect(["--model", str(finished / "best.pth"), *arguments])
    assert "an effect above 1 is no weight" in capsys.readouterr().out


def test_mistakes(inspect, finished, tmp_path, capsys):
    out = tmp_path / "no.png"
    checkpoint = finished / "best.pth"
    for arguments, message in (
        ([], "name schemes to draw"),
        (["--model", checkpoint], "--images FOLDER"),
        (["full", "--model", checkpoint, "--images", tmp_path], "name schemes to draw"),
        (["full"], "add --blocks 3-4-6-3"),
        (["full", "--blocks", "3-x"], "--blocks '3-x' is not a number a stage"),
        (["10-1", "--out", tmp_path / "no.jpg"], "needs a .png"),
        (["paper/nothing", "--blocks", "1-1"], "is not a connection scheme"),
        ([tmp_path / "none.jsonl"], "does not exist"),
        ([tmp_path / "none.json"], "does not exist"),
        (["--model", tmp_path / "none.pth", "--images", tmp_path], "does not exist"),
        (["--model", checkpoint, "--images", tmp_path / "none"], "there is no image, folder or video"),
    ):
        assert message in fails(inspect, [*arguments, *([] if "--out" in arguments else ["--out", out])], capsys)
    assert not out.exists()
