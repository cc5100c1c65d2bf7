"""The strategies' method cards are true: every snippet runs, every strategy has a whole card with its own defaults."""

import inspect
import re
from ast import literal_eval
from importlib import import_module
from pathlib import Path

import pytest

import ean_core.strategies
from ean_core.strategies.base import STRATEGIES

README = Path(ean_core.strategies.__file__).with_name("README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
CARDS = {card.split("\n", 1)[0]: card for card in README.split("\n## ")[1:]}
ENTRIES = ["How to use", "Method", "Changed from the paper", "Hyperparameters", "Cost", "Attribution"]


def test_every_strategy_has_a_card_in_order() -> None:
    assert list(CARDS) == list(STRATEGIES)
    assert len(SNIPPETS) == len(CARDS) + 1


@pytest.mark.parametrize("name", CARDS)
def test_cards_are_whole(name: str) -> None:
    assert re.findall(r"^\*\*(.+?)\.\*\*", CARDS[name], flags=re.MULTILINE) == ENTRIES
    assert f'type="{name}"' in CARDS[name]
    assert f"[{name}](#{name})" in README


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippets_run(number: int) -> None:
    exec(compile(SNIPPETS[number], f"README.md, snippet {number + 1}", "exec"), {})


@pytest.mark.parametrize("name", CARDS)
def test_defaults_are_those_of_the_code(name: str) -> None:
    module, cls = STRATEGIES[name].rsplit(".", 1)
    parameters = inspect.signature(getattr(import_module(module), cls)).parameters
    text = CARDS[name].split("**Hyperparameters.**")[1].split("**Cost.**")[0]
    for option, value in re.findall(r"`(\w+)=(\([^)]*\)|[\w.\-]+)`", text):
        if option in parameters:
            assert parameters[option].default == literal_eval(value), option
