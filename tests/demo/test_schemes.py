"""The tab "Schemes": counts against networks that are built, accuracies against the evaluator."""

import copy
import re
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import pytest
import torch

from ean_core.analysis.complexity import count_macs, count_parameters
from ean_core.demo.limits import Limits
from ean_core.demo.page import Page
from ean_core.demo.schemes import Lab
from ean_core.engine.models import build_model
from ean_core.errors import UserError
from ean_core.inference import Predictor
from ean_core.plug import find_pluggable
from ean_core.scheme import ConnectionScheme
from ean_testing import checkpoints
from ean_testing.web import Answer, Web


def post(web: Web, path: str, network: str, bits: str) -> Answer:
    fields = [("network", network), *(("block", i) for i, bit in enumerate(bits) if bit == "1")]
    kind = {"content-type": "application/x-www-form-urlencoded"}
    return web.ask("POST", path, urlencode(fields).encode(), kind)


@pytest.mark.parametrize(("network", "bits"), [("cls", "011"), ("seg", "00000110"), ("crowd", "10010000")])
def test_costs_are_those_of_the_network_that_is_built(
    web: Web, predictors: dict[str, Predictor], network: str, bits: str
) -> None:
    cfg = predictors[network].cfg
    blocks = find_pluggable(predictors[network].model).blocks
    scheme = ConnectionScheme.parse(bits, blocks)
    answer = post(web, "/schemes/costs", network, bits)
    assert f"scheme {scheme} {sum(scheme)} of {len(bits)} connected" in answer.text
    side = 32 if network == "cls" else 224
    assert f"One image of {side} x {side} pixels" in answer.text
    for label, chosen in (("none", "none"), ("this scheme", str(scheme)), ("full", "full")):
        own = copy.deepcopy(cfg)
        own.model.backbone.scheme = chosen
        model = build_model(own).eval()
        macs = count_macs(partial(model, torch.rand(1, 3, side, side)))
        line = re.search(rf"<th>{label}</th><td>([\d,]+)</td><td>[^<]*</td><td>([\d,.]+) M", answer.data.decode())
        assert line is not None
        assert int(line[1].replace(",", "")) == count_parameters(model)
        assert line[2] == f"{macs / 1e6:,.2f}"


def test_times(web: Web) -> None:
    answer = post(web, "/schemes/times", "cls", "010")
    rows = re.findall(r"<th>([a-z ]+)</th><td>([\d.]+)</td>", answer.data.decode())
    assert [label for label, _ in rows] == ["none", "this scheme", "full"]
    assert all(float(value) > 0 for _, value in rows)


def test_times_are_those_of_the_schemes(predictors: dict[str, Predictor], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that goes on by the number of connected blocks."""
    lab = Lab(predictors["cls"].cfg)
    connected = []

    def clock(calls, repeats, warmup, synchronize):
        seconds = {}
        for name, call in calls.items():
            call()
            connected.append(sum(find_pluggable(lab._model).scheme))
            seconds[name] = [0.1 * (1 + connected[-1])] * max(repeats, 1)
        return seconds

    monkeypatch.setattr("ean_core.demo.schemes.interleave", clock)
    schemes = [ConnectionScheme.parse(bits, lab.blocks) for bits in ("000", "010", "111")]
    times, rounds = lab.times(schemes)
    assert connected == [0, 1, 3] * 2
    assert rounds == int(3.0 / (0.1 + 0.2 + 0.4))
    assert [time.milliseconds for time in times] == pytest.approx([100, 200, 400])
    assert [time.increment for time in times] == [None, pytest.approx(100), pytest.approx(300)]


def test_the_page_shows_the_checkpoints_scheme_or_the_one_that_is_named(web: Web) -> None:
    def shown(path: str) -> str:
        boxes = re.findall(r'name="block" value="\d+"( checked)?', web.get(path).data.decode())
        return "".join("01"[bool(box)] for box in boxes)

    assert shown("/schemes") == "101"  # of the first checkpoint
    assert shown("/schemes?network=seg") == "10011110"
    assert shown("/schemes?network=cls&scheme=0-1-1") == "011"
    assert shown("/schemes?network=cls&scheme=0-1") == "101"  # it does not fit
    assert shown("/schemes?network=nothing") == "101"


def test_blocks_that_are_not_there(web: Web) -> None:
    answer = web.ask("POST", "/schemes/costs", b"network=cls&block=1&block=99&block=-1",
                     {"content-type": "application/x-www-form-urlencoded"})  # fmt: skip
    assert "scheme 0-1-0" in answer.text
    assert post(web, "/schemes/costs", "/etc/passwd", "1").status == 400
    assert post(web, "/schemes/scores", "cls", "010").text == "there is no supernet of this network"


def test_a_network_without_attention_is_not_offered() -> None:
    cfg = checkpoints.classification_config()
    cfg.model.backbone.attention = None
    with pytest.raises(UserError, match="no attention to connect"):
        Lab(cfg)


def test_accuracy_of_a_search(tmp_path: Path, tool, light: None, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """Of schemes that the log has, its values; of others what the evaluator says, whether or not the log has them."""
    from classification.toy_shapes import make_toy
    from ean_core.search.log import read_log
    from ean_testing.runs import new_name

    root = make_toy(tmp_path, "cifar100", train=8, test=4)
    options = ["model.backbone.depth=11", "image_size=16", "held_out=4", "train_dataloader.batch_size=12",
               "val_dataloader.batch_size=10", "train_cfg.max_epochs=1"]  # fmt: skip
    config = str(checkpoints.ROOT / "configs" / "search" / "se_cifar100.py")
    work_dir = tmp_path / "found"
    tool("search")([config, "--data-root", str(root), "--steps", "2", "--strategy", "random", "--work-dir",
                    str(work_dir), "--cfg-options", *options, new_name()])  # fmt: skip
    (work_dir / "scheme.json").unlink()  # as it is while the search runs
    (offer,) = Page({}, [tmp_path], Limits(), torch.device("cpu")).offered().items()
    assert (offer[0], offer[1][1]) == ("search found", work_dir)
    lab = Lab(*offer[1])
    known = {entry["scheme"]: entry["accuracy"] for entry in read_log(work_dir / "search.jsonl")}
    everything = [ConnectionScheme.parse(f"{i:03b}", lab.blocks) for i in range(8)]
    scores = {str(scheme): score["accuracy"] for scheme, score in zip(everything, lab.scores(everything), strict=True)}
    assert {scheme: scores[scheme] for scheme in known} == known
    assert len(known) < 8
    monkeypatch.setattr("ean_core.demo.schemes.read_log", lambda path: [])
    lab._scores.clear()
    again = {str(s): score["accuracy"] for s, score in zip(everything, lab.scores(everything), strict=True)}
    assert again == pytest.approx(scores)
