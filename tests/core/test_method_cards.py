"""The method cards are true: every snippet runs, every module has a whole card, every count can be recomputed."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import ean_core.attention
from ean_core import EANCifarResNet, EANResNet
from ean_core.attention import ATTENTION

README = Path(ean_core.attention.__file__).with_name("README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
CARDS = {card.split("\n", 1)[0]: card for card in README.split("\n## ")[1:]}
ENTRIES = ("How to use", "Equation", "Changed from the paper", "Hyperparameters", "Cost", "Attribution")


def test_every_module_has_a_card() -> None:
    assert set(CARDS) == set(ATTENTION.module_dict)


@pytest.mark.parametrize("name", CARDS)
def test_cards_are_whole(name: str) -> None:
    assert re.findall(r"^\*\*(.+?)\.\*\*", CARDS[name], flags=re.MULTILINE) == list(ENTRIES)
    assert f'type="{name}"' in CARDS[name]
    assert re.search(r"https://(arxiv\.org/abs/|proceedings\.mlr\.press/v\d)", CARDS[name])
    assert f"[{name}](#{name.lower()})" in README


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippets_run(number: int) -> None:
    exec(compile(SNIPPETS[number], f"README.md, snippet {number + 1}", "exec"), {})


def test_there_is_a_snippet_a_card_and_one_before() -> None:
    assert len(SNIPPETS) == len(CARDS) + 1


def test_every_cost_is_looked_at() -> None:
    (mark,) = (mark for mark in test_costs_are_what_the_networks_have.pytestmark if mark.name == "parametrize")
    assert {name for name, *_ in mark.args[1]} == set(CARDS)


@pytest.mark.parametrize(
    ("name", "imagenet", "cifar"),
    [
        ("SE", {"reduction": 16}, {"reduction": 16}),
        ("SGE", {"groups": 64}, {"groups": 4}),
        ("DIA", {}, {"reduction": 4}),
        ("CBAM", {}, {}),
        ("BAM", {}, {}),
        ("ECA", {}, {}),
        ("GE", {"size": {256: 56, 512: 28, 1024: 14, 2048: 7}}, {"size": {64: 32, 128: 16, 256: 8}}),
        ("A2", {}, {}),
        ("SimAM", {}, {}),
        ("CoordAtt", {}, {}),
        ("GC", {}, {}),
    ],
)
def test_costs_are_what_the_networks_have(name: str, imagenet: dict[str, Any], cifar: dict[str, Any]) -> None:
    def cost(cls: Any, options: dict[str, Any], **rest: Any) -> str:
        with torch.device("meta"):
            net = cls(attention={"type": name, **options}, **rest)
        return f"{sum(p.numel() for key, p in net.named_parameters() if 'attention' in key):,}"

    text = " ".join(CARDS[name].split())
    assert f"{cost(EANResNet, imagenet, depth=50)} in a shared ResNet-50" in text
    assert f"{cost(EANCifarResNet, cifar, depth=164)} in a shared ResNet-164" in text
    if "per block)" in text:
        assert f"({cost(EANResNet, imagenet, depth=50, sharing='block')} with a module per block)" in text
