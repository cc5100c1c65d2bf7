"""The tab "Look inside": the numbers and pictures are those of Grad-CAM and of the masks' statistics."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from ean_core.analysis.attention_statistics import attention_statistics
from ean_core.analysis.gradcam import explain
from ean_core.inference import Predictor
from ean_core.plug import find_pluggable
from ean_testing.web import Web, encoded, picture, serving

pytest.importorskip("pytorch_grad_cam", reason="the extra vis is not installed")
IMAGE = picture()


def test_masks_and_heat(web: Web, predictors: dict[str, Predictor]) -> None:
    answer = web.send("/inside", encoded(IMAGE), network=["cls", "crowd"])
    assert answer.status == 200
    page = answer.data.decode()
    for name in ("cls", "crowd"):
        found = explain(predictors[name], IMAGE)
        assert f"{found.target}, {found.answer}" in page
        network = find_pluggable(predictors[name].model)
        rows = attention_statistics(network, [lambda name=name: predictors[name](IMAGE)])  # type: ignore[misc]
        table = page.split(f"this image? {name}")[1]
        shown = re.findall(r"<tr><th>([\d.]+)</th><td>([\d.]+)</td><td>([\d.]+)</td>", table)[: len(rows)]
        assert shown == [(f"{row.stage}.{row.block}", f"{row.mean:.3f}", f"{row.effect:.3f}") for row in rows]
    (word,) = answer.words
    for file in ("gradcam.png", "1-masks.png", "2-masks.png"):
        with Image.open(io.BytesIO(web.get(f"/kept/{word}/{file}").data)) as image:
            assert np.asarray(image.convert("L")).std() > 1


def test_a_target_and_a_stage(web: Web, predictors: dict[str, Predictor]) -> None:
    found = explain(predictors["cls"], IMAGE, "owl", 2)
    page = web.send("/inside", encoded(IMAGE), network=["cls"], target=["owl"], stage=["2"]).data.decode()
    assert f"owl, {found.answer}" in page
    answer = web.send("/inside", encoded(IMAGE), network=["cls"], target=["oil"])
    assert "cls, Grad-CAM: 'oil' is none of the 7 classes (such as 'owl')" in answer.text.replace("&#39;", "'")
    assert answer.text.count("as a table") == 1  # the masks are there all the same
    answer = web.send("/inside", encoded(IMAGE), network=["cls"], stage=["9"])
    assert "stage 9: the network uses stages 1 to 3" in answer.text
    assert web.send("/inside", encoded(IMAGE), network=["cls"], stage=["x"]).status == 422


def test_the_form_offers_the_classes(web: Web) -> None:
    page = web.get("/inside").data.decode()
    assert page.count("<option value=") == 1 + 7 + 21
    assert "<option>4</option>" in page
    assert "<option>5</option>" not in page


def test_names_with_braces_and_dollars(predictors: dict[str, Predictor]) -> None:
    name = "a {b} $c^{$"
    with serving({name: predictors["cls"]}, []) as web:
        answer = web.send("/inside", encoded(picture()), network=[name])
        assert answer.status == 200
        assert f"What does the attention do to this image? {name}" in answer.text
