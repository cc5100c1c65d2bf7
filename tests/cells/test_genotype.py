"""Genotypes as values and texts, and what is refused in one line."""

import json
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
import torch

from ean_core.cells import OPERATIONS, PUBLISHED, Edge, Genotype

SMALL = "normal: 0 sep_conv_3x3 SE, 1 skip_connect | 2 max_pool_3x3, 0 dil_conv_5x5 timm.layers.EcaModule\n"
SMALL += "reduce: 1 avg_pool_3x3, 0 sep_conv_5x5 | 0 skip_connect GE, 1 skip_connect"


@pytest.mark.parametrize("text", [*PUBLISHED, SMALL])
def test_texts_come_back(text: str) -> None:
    genotype = Genotype.load(text)
    assert Genotype.parse(str(genotype)) == genotype == Genotype.load(genotype)
    assert hash(Genotype.parse(str(genotype))) == hash(genotype)
    assert Genotype.parse(str(genotype).replace("\n", "; ")) == genotype


def test_the_text_is_what_one_reads() -> None:
    genotype = Genotype.parse(SMALL)
    assert str(genotype) == SMALL
    assert genotype.normal[1] == (Edge(2, "max_pool_3x3"), Edge(0, "dil_conv_5x5", "timm.layers.EcaModule"))
    assert genotype.reduce[0][0] == Edge(1, "avg_pool_3x3", None)
    with pytest.raises(FrozenInstanceError):
        genotype.normal = genotype.reduce  # type: ignore[misc]


def test_the_published_cell() -> None:
    # The list of the paper's figure, node by node: operation, source, attention.
    published = Genotype.load("att-darts")
    names = {"sep_conv_3x3": "sep3", "skip_connect": "skip", "max_pool_3x3": "max", "avg_pool_3x3": "avg"}
    names["dil_conv_3x3"] = "dil3"
    lines = [
        " | ".join(", ".join(f"{names[e.operation]} {e.source} {e.attention}" for e in pair) for pair in cell)
        for _, cell in published.cells()
    ]
    assert lines == [
        "sep3 0 A2, sep3 1 CBAM | sep3 0 CBAM, skip 2 CBAM | skip 0 CBAM, sep3 1 CBAM | skip 0 CBAM, skip 2 CBAM",
        "max 0 BAM, dil3 1 A2 | avg 0 BAM, skip 2 CBAM | skip 2 CBAM, avg 0 BAM | skip 2 CBAM, avg 0 BAM",
    ]


def test_another_attention_everywhere() -> None:
    genotype = Genotype.load("att-darts")
    plain, squeezed = genotype.with_attention(None), genotype.with_attention("SE")
    assert "CBAM" not in str(plain)
    assert str(squeezed).count("SE") == 16
    assert squeezed.with_attention(None) == plain


def test_files(tmp_path: Path) -> None:
    genotype = Genotype.parse(SMALL)
    text, whole = tmp_path / "cell.txt", tmp_path / "genotype.json"
    text.write_text(SMALL)
    whole.write_text(json.dumps({"genotype": genotype.as_dict(), "seed": 0}))
    assert Genotype.load(text) == Genotype.load(str(whole)) == genotype


def test_more_that_is_understood(tmp_path: Path) -> None:
    genotype = Genotype.parse(SMALL)
    assert Genotype.load(SMALL.replace(":", " :")) == genotype
    assert Genotype.load(SMALL.replace("1 skip_connect |", "1 skip_connect none |")) == genotype
    assert Genotype(list(genotype.normal), [list(map(tuple, pair)) for pair in genotype.reduce]) == genotype  # type: ignore[arg-type]
    (tmp_path / "genotype.json").write_text(json.dumps({"genotype": genotype.as_dict()}), encoding="utf-8-sig")
    assert Genotype.load(tmp_path) == genotype


def test_random_genotypes_are_drawn_from_all() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [Genotype.random(generator) for _ in range(200)]
    edges = [edge for genotype in drawn for _, cell in genotype.cells() for pair in cell for edge in pair]
    assert {edge.operation for edge in edges} == set(OPERATIONS) - {"none"}
    assert {edge.attention for edge in edges} == {None, "SE", "BAM", "CBAM", "GE", "A2"}
    # 3200 edges, one of 7 operations each: 457 expected, 20 standard deviation
    assert all(abs(sum(e.operation == name for e in edges) - 3200 / 7) < 100 for name in OPERATIONS[1:])
    assert Genotype.random(torch.Generator().manual_seed(0)) == drawn[0]


GOOD = "reduce: 0 skip_connect, 1 skip_connect"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (f"normal: 0 sep_conv_9x9, 1 skip_connect; {GOOD}", "normal cell, node 2: unknown operation 'sep_conv_9x9'"),
        (f"normal: 0 none, 1 skip_connect; {GOOD}", "node 2: unknown operation 'none'"),
        (f"normal: 0 skip_connect Foo, 1 skip_connect; {GOOD}", "node 2: unknown attention 'Foo', known are A2, BAM"),
        (f"normal: 0 skip_connect, 2 skip_connect; {GOOD}", "node 2: an edge comes from a state before it, 0 to 1"),
        (f"normal: 0 skip_connect; {GOOD}", "normal cell, node 2: a node has 2 edges, not 1"),
        (f"normal: 0 skip_connect, 1 skip_connect, 0 skip_connect; {GOOD}", "a node has 2 edges, not 3"),
        (f"normal: 0 skip_connect, 0 skip_connect; {GOOD}", "both edges come from state 0"),
        (f"normal: skip_connect 0, 1 skip_connect; {GOOD}", "an edge is 'SOURCE OPERATION"),
        (f"normal: ; {GOOD}", "an edge is 'SOURCE OPERATION"),
        (f"normal: 0 skip_connect, 1 skip_connect | 0 skip_connect, 2 skip_connect; {GOOD}", "2 nodes in the normal"),
        ("normal: 0 skip_connect, 1 skip_connect", "no genotype: expected 'normal: "),
        (f"what? normal: 0 skip_connect, 1 skip_connect; {GOOD}", "no genotype"),
        (f"normal: {'9' * 5000} skip_connect, 1 skip_connect; {GOOD}", "an edge is 'SOURCE OPERATION"),
        (f"normal: 0 skip_connect cbm, 1 skip_connect; {GOOD}", "unknown attention 'cbm' (did you mean CBAM?)"),
        (["normal: 0 skip_connect", "1 skip_connect"], "a genotype is a name, a text or a file, got list: on the"),
        ("pc-darts", "unknown genotype 'pc-darts': known are att-darts, darts-v2, a file"),
    ],
)
def test_mistakes_say_where(spec: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        Genotype.load(spec)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"scheme": "1-1", "blocks": [1, 1]}', "holds no genotype: is it the file of another search?"),
        (b'{"genotype": {"normal": 3, "reduce": ""}}', "holds no genotype"),
        (b'{"genotype": ', "it is no JSON"),
        (b"[" * 100_000, "no genotype"),
        (b'{"a":' + b"9" * 5000 + b"}", "it is no JSON"),
        (b'{"a":' * 100_000, "it is no JSON"),
        (b"\xff\xfe\x00", "it holds no text"),
        (b"1-01-1", "no genotype: expected"),
    ],
    ids=["scheme", "numbers", "cut", "deep", "long", "deeper", "binary", "text"],
)
def test_files_of_something_else(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "genotype.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        Genotype.load(path)
    assert str(caught.value).startswith(f"'{path}': ")
    assert message in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.json' does not exist"):
        Genotype.load(tmp_path / "none.json")
