"""What notebooks show: the drawings and tables as they are read back from their HTML."""

import base64
import json
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import resnet18

from ean_core import ConnectionScheme, load
from ean_core.notebook import BLUE, PALE, facts, picture, table
from ean_core.plug import find_points
from ean_core.search.found import Found
from ean_testing.fresh import run_program

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def read(html: str) -> ElementTree.Element:
    """The HTML as a tree: it is well-formed."""
    return ElementTree.fromstring(f"<div>{html.replace('xmlns=', 'data-xmlns=')}</div>")


def cells(tree: ElementTree.Element) -> list[list[str]]:
    """The texts of all tables, row by row."""
    return [[cell.text or "" for cell in row] for row in tree.iter("tr")]


@pytest.mark.parametrize("text", ["100-1011-010011-011", "1", "0-0", "000-11"])
def test_a_scheme_is_drawn_block_by_block(text: str) -> None:
    """The blocks' colours, read from left to right, are its bits; each connected one has a line up to its module."""
    stages = text.split("-")
    scheme = ConnectionScheme.parse(text, [len(stage) for stage in stages])
    tree = read(scheme._repr_html_())
    boxes = [box.attrib for box in tree.iter("rect")]
    blocks = sorted((box for box in boxes if box["fill"] != PALE), key=lambda box: int(box["x"]))
    assert "".join("1" if box["fill"] == BLUE else "0" for box in blocks) == text.replace("-", "")
    gaps = [int(b["x"]) - int(a["x"]) for a, b in pairwise(blocks)]
    ends = [sum(map(len, stages[: i + 1])) - 1 for i in range(len(stages) - 1)]
    assert [i for i, gap in enumerate(gaps) if gap > min(gaps, default=0)] == (ends if len(gaps) > len(ends) else [])
    modules = [box for box in boxes if box["fill"] == PALE]
    assert len(modules) == sum("1" in stage for stage in stages)
    lines = [int(path.attrib["d"][1:].split()[0]) for path in tree.iter("path")]
    assert len(lines) == text.count("1")
    for line in lines:
        assert sum(int(box["x"]) < line < int(box["x"]) + int(box["width"]) for box in modules) == 1
    width = int(next(tree.iter("svg")).attrib["width"])
    assert max(int(box["x"]) + int(box["width"]) for box in boxes) < width
    assert f"{text.count('1')} of {sum(map(len, stages))} blocks connected" in "".join(tree.itertext())


def test_a_scheme_is_shown_without_a_plotting_library(fresh: Any) -> None:
    code = "from ean_core import ConnectionScheme\nprint(ConnectionScheme.full((2, 2))._repr_html_())"
    ran = fresh.apply(run_program, (code,))
    assert ran.out.startswith("<svg ")
    assert not {"matplotlib", "PIL", "cv2"} & ran.modules


def test_points_are_a_table() -> None:
    points = find_points(resnet18(), torch.rand(1, 3, 32, 32))
    head, *rows = cells(read(points._repr_html_()))
    assert head == ["stage", "name", "channels", "stride"]
    channels, stride = (64, 128, 256, 512), (4, 8, 16, 32)
    expected = [
        [str(stage + 1), f"layer{stage + 1}.{block}.bn2", str(channels[stage]), str(stride[stage])]
        for stage in range(4)
        for block in range(2)
    ]
    assert rows == expected


def test_a_predictor_tells_what_it_is(finished: Path) -> None:
    model = load(checkpoint=finished / "best.pth", device="cpu")
    tree = read(model._repr_html_())
    shown = dict(cells(tree))
    parameters = sum(p.numel() for p in model.model.parameters()) / 1e6
    assert shown["checkpoint"] == str(finished / "best.pth")
    assert shown["task"] == "segmentation"
    assert shown["model"] == f"EncoderDecoder / EANResNet-18 / FCNHead, {parameters:.3f} M parameters"
    assert shown["scheme"] == "11-11-11-11 (8 of 8 blocks connected)"
    assert shown["classes"].startswith("background, aeroplane, ")
    assert sum(box.attrib["fill"] == BLUE for box in tree.iter("rect")) == 8


def test_a_search_shows_what_it_found(tmp_path: Path) -> None:
    content = {"scheme": "10-01", "blocks": [2, 2], "accuracy": 12.345678, "density": 0.5, "picked": "best seen"}
    found = Found(content, tmp_path / "search.png")
    assert found == content
    assert json.loads(json.dumps(found)) == content
    without = read(found._repr_html_())
    assert list(without.iter("img")) == []
    assert ["accuracy", "12.35"] in cells(without)
    assert sum(box.attrib["fill"] == BLUE for box in without.iter("rect")) == 2
    (tmp_path / "search.png").write_bytes(PNG)
    (image,) = read(found._repr_html_()).iter("img")
    kind, _, code = image.attrib["src"].partition(",")
    assert (kind, base64.b64decode(code)) == ("data:image/png;base64", PNG)


def test_a_search_for_cells_shows_its_cells(tmp_path: Path) -> None:
    content = {"genotype": {"normal": "a|b", "reduce": "c"}, "epoch": 3, "selection": "strength"}
    shown = dict(cells(read(Found(content, tmp_path / "none.png")._repr_html_())))
    assert shown == {"normal": "a|b", "reduce": "c", "epoch": "3", "selection": "strength"}


def test_what_users_write_is_text() -> None:
    rude = "<script>alert('&')</script>"
    for html in (facts({rude: rude}), table([rude], [[rude]]), picture(PNG, rude)):
        assert "<script" not in html
        tree = read(html)
        assert rude in [*tree.itertext(), *(image.attrib["alt"] for image in tree.iter("img"))]
