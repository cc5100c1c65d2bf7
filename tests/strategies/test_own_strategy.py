"""A strategy of a user's own, named by its module and class: it is searched with, or refused in one line."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ean_core.errors import UserError
from ean_core.search.loop import search
from ean_core.strategies import Strategy, build_strategy, find_strategy
from ean_testing.documents import ROOT, files
from ean_testing.synthetic import BLOCKS, evaluate

CLIMBER = files((ROOT / "docs" / "own_modules.md").read_text(encoding="utf-8"))["my_strategy.py"]
MORE = """
class Slope(Climber):  # its loss is a must
    needs_gate_loss = True

    def __init__(self, blocks, *, seed, loss):
        super().__init__(blocks, seed=seed)
        self.loss = loss

    def ask(self, n):
        gates = torch.full((sum(self.blocks),), 0.5, requires_grad=True)
        (slope,) = torch.autograd.grad(self.loss(gates, 0), gates)
        return from_bits((slope < 0).expand(n, -1), self.blocks)


class Half:
    def __init__(self, blocks, *, seed=0):
        self.blocks = blocks

    def ask(self, n):
        return []

    def best(self):
        return None


class Seedless(Half):
    def __init__(self, blocks):
        super().__init__(blocks)
"""


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package ``mine`` on the path, with the strategy of docs/own_modules.md and a few more."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text(CLIMBER + MORE)
    (tmp_path / "mine" / "broken.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]


def run(work_dir: Path, steps: int, resume: bool = False) -> bytes:
    """A search with the documented strategy; its log."""
    strategy = build_strategy({"type": "mine.Climber"}, BLOCKS, seed=3)
    search(strategy, evaluate, steps, 3, work_dir, resume=resume, draw=False)
    return (work_dir / "search.jsonl").read_bytes()


def test_the_documented_strategy_searches_and_resumes(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", 12)
    run(tmp_path / "parts", 5)
    assert run(tmp_path / "parts", 12, resume=True) == whole
    result = json.loads((tmp_path / "whole" / "scheme.json").read_text())
    assert result["strategy"] == {"type": "mine.Climber", "seed": 3}
    entries = [json.loads(line) for line in whole.splitlines()]
    assert all(entry["scheme"].count("0") == 1 for entry in entries[:3])  # one block of the full scheme is changed
    assert result["reward"] > max(entry["reward"] for entry in entries[:3])


def test_what_declares_that_it_needs_gradients_gets_a_loss() -> None:
    wanted = torch.tensor([1.0, 0.0] * (sum(BLOCKS) // 2))

    def loss(gates: torch.Tensor, step: int) -> torch.Tensor:
        return (gates - wanted).square().sum()

    strategy: Any = build_strategy("mine.Slope", BLOCKS, gate_loss=loss)
    assert strategy.loss is loss
    assert strategy.config == {"type": "mine.Slope", "seed": 0}
    assert [scheme.bits for scheme in strategy.ask(2)] == [tuple(map(bool, wanted.tolist()))] * 2
    assert isinstance(build_strategy("mine.Climber", BLOCKS, gate_loss=loss), Strategy)  # has no argument for it
    with pytest.raises(UserError, match=r"strategy mine\.Slope: .*missing .*'loss'"):
        build_strategy("mine.Slope", BLOCKS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine.Half", "'mine.Half' is no search strategy: it lacks tell, state_dict, load_state_dict (see "),
        ("mine.Seedless", "strategy mine.Seedless: .*unexpected keyword argument 'seed'"),
        ("mine.Missing", "unknown strategy 'mine.Missing': known are .*your own as 'module.Class'"),
        ("missing.Climber", "unknown strategy 'missing.Climber': known are "),
    ],
)
def test_what_is_no_strategy_is_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("(", r"\(")) as refused:
        build_strategy(name, BLOCKS)
    assert "\n" not in str(refused.value)


def test_a_mistake_inside_the_module_shows_itself() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        find_strategy("mine.broken.Climber")
