"""tools/compare_strategies.py: budgets, ranks, statistics, and going on after an interruption."""

import csv
import json
import math
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from scipy import stats

from classification.toy_shapes import make_toy
from ean_core.figures import save_figure
from ean_core.figures.strategy_comparison import strategy_comparison
from ean_core.files import read_json_lines
from ean_core.scheme import ConnectionScheme
from ean_core.search.loop import search
from ean_core.strategies.base import STRATEGIES, build_strategy
from ean_core.verification import compare as module
from ean_core.verification.compare_report import best_so_far
from ean_testing.runs import new_name
from ean_testing.synthetic import BLOCKS, OPTIMUM, evaluate, reward

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs" / "search" / "se_cifar100.py")
OPTIONS = [
    "model.backbone.depth=20",
    "image_size=16",
    "held_out=4",
    "train_dataloader.batch_size=12",
    "val_dataloader.batch_size=12",
    "train_cfg.max_epochs=2",
    "optim_wrapper.optimizer.lr=0.05",
]
Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def run(tool: Callable, tmp_path_factory: pytest.TempPathFactory, light: None) -> Run:
    """``run(work_dir, *arguments)``: the tool on a network of six blocks, so 64 schemes; the written summary."""
    root = make_toy(tmp_path_factory.mktemp("data"), "cifar100", train=10, test=3)
    main = tool("compare_strategies")

    def compare(work_dir: Path, *more: str, options: tuple[str, ...] = ()) -> dict[str, Any]:
        arguments = ["--data-root", str(root), "--work-dir", str(work_dir), *more]
        main([CONFIG, *arguments, "--cfg-options", *OPTIONS, new_name(), *options])
        return json.loads((work_dir / "compare.json").read_text())

    return compare


@pytest.fixture(scope="module")
def finished(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All strategies with two seeds and twelve evaluations each, and the truth; tests leave it as it is."""
    work_dir = tmp_path_factory.mktemp("finished")
    run(work_dir, "--seeds", "2", "--evaluations", "12", "--exhaustive")
    return work_dir


def test_every_pick_is_ranked_among_all_schemes(finished: Path) -> None:
    result = json.loads((finished / "compare.json").read_text())
    everything = [e for log in finished.glob("compare/exhaustive-*/search.jsonl") for e in read_json_lines(log)]
    rewards = {entry["scheme"]: entry["reward"] for entry in everything}
    assert result["space"] == len(rewards) == len(everything) == 64
    assert set(result["summary"]) == set(STRATEGIES) - {"exhaustive"}
    assert [(r["strategy"], r["seed"]) for r in result["runs"]] == [(n, s) for s in (0, 1) for n in result["summary"]]
    for entry in result["runs"]:
        assert entry["reward"] == rewards[entry["scheme"]]
        assert entry["rank"] == 1 + sum(value > entry["reward"] for value in rewards.values())
        scheme = ConnectionScheme.parse(entry["scheme"], (2, 2, 2))
        assert entry["reward"] == pytest.approx(entry["accuracy"] + 2 * scheme.sparsity - 54)


def test_budget_is_kept_and_scores_are_not_measured_again(finished: Path) -> None:
    for entry in json.loads((finished / "compare.json").read_text())["runs"]:
        candidates = read_json_lines(Path(entry["log"]))
        seen = {candidate["scheme"] for candidate in candidates}
        assert len(seen) == entry["evaluations"] <= 12
        sampled = [candidate for candidate in candidates if not candidate.get("final")]
        last = {c["scheme"] for c in sampled if c["step"] == entry["steps"]}
        before = {c["scheme"] for c in sampled if c["step"] < entry["steps"]}
        assert last | before <= seen
        # it ended because one more step could have exceeded the budget, or at the longest run
        assert len(last | before) + 3 + 1 > 12 or entry["steps"] == 16
        assert entry["reward"] == max(c["reward"] for c in candidates)


def test_summary_and_table(finished: Path) -> None:
    result = json.loads((finished / "compare.json").read_text())
    rows = list(csv.DictReader((finished / "compare.csv").open()))
    assert len(rows) == len(result["runs"]) == 12
    for name, summary in result["summary"].items():
        own = [row for row in rows if row["strategy"] == name]
        for column in ("reward", "accuracy", "sparsity", "evaluations", "rank", "seconds"):
            values = [float(row[column]) for row in own]
            assert summary[column] == pytest.approx(sum(values) / 2)
            assert summary[f"{column} sd"] == pytest.approx(abs(values[0] - values[1]) / math.sqrt(2))
        assert summary["in the top 2 %"] == sum(int(row["rank"]) <= 1 for row in own)
        assert summary["worst rank"] == max(int(row["rank"]) for row in own)
    ranks = {name: [r["rank"] for r in result["runs"] if r["strategy"] == name] for name in result["summary"]}
    assert set(result["against random"]) == set(ranks) - {"random"}
    ps = {}
    for name, row in result["against random"].items():
        assert row["difference"] == pytest.approx(np.mean(ranks[name]) - np.mean(ranks["random"]))
        if np.ptp(ranks[name]) or np.ptp(ranks["random"]):
            ps[name] = row["p"]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of precision: hsp finds the same with every seed
                assert row["p"] == pytest.approx(stats.ttest_ind(ranks[name], ranks["random"], equal_var=False).pvalue)
        else:
            assert row["p"] is None
    for place, name in enumerate(sorted(ps, key=lambda name: ps[name])):  # the smallest of m is multiplied by m, ...
        least = min(1.0, (len(ps) - place) * ps[name])
        assert result["against random"][name]["holm"] >= least - 1e-12
    assert imread(finished / "compare.png").std() > 0.1


def test_a_stopped_comparison_goes_on_and_ends_the_same(
    finished: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    supernet = f"search.supernet={finished / 'supernet' / 'last.pth'}"
    arguments = ["--evaluations", "12", "--strategies", "policy_gradient", "random", "genetic"]
    calls = []

    def stop(strategy: Any, evaluator: Any, *rest: Any, **options: Any) -> dict[str, Any]:
        calls.append(strategy)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return search(strategy, evaluator, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, "search", stop)
        with pytest.raises(SystemExit) as stopped:
            run(tmp_path, "--seeds", "2", *arguments, options=(supernet,))
    assert stopped.value.code == 130
    assert len(read_json_lines(tmp_path / "compare.jsonl")) == 2
    capsys.readouterr()
    parts = run(tmp_path, "--seeds", "2", *arguments, options=(supernet,))
    out = capsys.readouterr().out
    assert "3/6  genetic seed 0" in out
    assert "1/6" not in out
    whole = json.loads((finished / "compare.json").read_text())
    wanted = {(r["strategy"], r["seed"]): r["scheme"] for r in whole["runs"]}
    assert all(wanted[r["strategy"], r["seed"]] == r["scheme"] for r in parts["runs"])
    assert "rank" not in parts["runs"][0]
    more = run(tmp_path, "--seeds", "3", *arguments, options=(supernet,))
    assert [r for r in more["runs"] if r["seed"] < 2] == parts["runs"]


def test_named_variants(finished: Path, run: Run, tmp_path: Path) -> None:
    options = (f"search.supernet={finished / 'supernet' / 'last.pth'}", "search.strategies.rare.type=random")
    options += ("search.strategies.rare.p=0.0",)
    result = run(tmp_path, "--seeds", "1", "--evaluations", "4", "--strategies", "rare", options=options)
    assert [r["scheme"] for r in result["runs"]] == ["00-00-00"]
    assert result["runs"][0]["evaluations"] == 1


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (["--strategies", "magic"], [], "unknown strategy 'magic': known are policy_gradient, "),
        (["--strategies", "exhaustive"], [], "unknown strategy 'exhaustive'"),
        (["--seeds", "0"], [], "at least one seed"),
        (["--evaluations", "3"], [], "more than the 3 evaluations of a step"),
        (["--steps", "0"], [], "at least one seed, one step"),
        (["--exhaustive"], ["model.backbone.depth=164"], "54 blocks have 18,014,398,509,481,984 schemes, and 4,096"),
        ([], ["search.strategies.odd.type=none"], "unknown strategy 'none'"),
        ([], ["search.strategies.odd.type=random", "search.strategies.odd.q=1"], "strategy random"),
    ],
)
def test_mistakes(
    run: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    options: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path / "new", *arguments, options=tuple(options))
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "new" / "supernet").exists()  # nothing was trained before


def test_exhaustive_asks_for_every_scheme_once() -> None:
    strategy = build_strategy("exhaustive", BLOCKS)
    asked = [scheme for _ in range(128) for scheme in strategy.ask(32)]
    assert len(set(asked)) == len(asked) == 2 ** sum(BLOCKS)
    strategy.tell(asked, [reward(scheme) for scheme in asked])
    assert strategy.best() == OPTIMUM
    with pytest.raises(ValueError, match="13 blocks have 8,192 schemes"):
        build_strategy("exhaustive", (13,))


def test_best_so_far_counts_different_schemes_and_skips_failures(tmp_path: Path) -> None:
    search(build_strategy("policy_gradient", BLOCKS, 1), evaluate, 60, 3, tmp_path, draw=False, show=False)
    entries = read_json_lines(tmp_path / "search.jsonl")
    curve = best_so_far(tmp_path / "search.jsonl")
    assert len(curve) == len({entry["scheme"] for entry in entries}) < len(entries)
    assert curve[-1] == max(entry["reward"] for entry in entries if not entry["failed"])
    assert all(b >= a for a, b in pairwise(curve) if not math.isnan(a))


@pytest.mark.parametrize("evaluations", [8, 20, 41])
def test_a_search_with_a_budget_never_exceeds_it(tmp_path: Path, evaluations: int) -> None:
    whole = search(build_strategy("random", BLOCKS, 1), evaluate, 90, 3, tmp_path / "a", draw=False, show=False)
    assert whole["evaluations"] > 41
    result = search(
        build_strategy("random", BLOCKS, 1), evaluate, 90, 3, tmp_path / "b", draw=False, evaluations=evaluations
    )
    assert evaluations - 3 <= result["evaluations"] <= evaluations
    lines = [(tmp_path / name / "search.jsonl").read_text() for name in "ab"]
    assert lines[0].startswith(lines[1])
    with pytest.raises(ValueError, match="evaluations are too few"):
        search(build_strategy("random", BLOCKS, 1), evaluate, 9, 3, tmp_path, evaluations=3)


def test_picture_of_ranks_or_rewards(tmp_path: Path) -> None:
    curves = {"a": [[math.nan, 1.0, 2.0], [0.5, 0.6]], "b": [[1.0], [1.5]]}
    save_figure(strategy_comparison(curves, {"a": [1, 4], "b": [2, 9]}, "rank", 512), tmp_path / "rank.png")
    save_figure(strategy_comparison(curves, {"a": [2.0], "b": [1.5]}, "reward", 512), tmp_path / "reward.png")
    assert all(imread(tmp_path / f"{name}.png").std() > 0.05 for name in ("rank", "reward"))
