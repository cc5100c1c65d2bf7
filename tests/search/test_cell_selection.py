"""From probabilities to cells, by hand."""

import math
from typing import Any

import pytest

from ean_core.cells import Genotype
from ean_core.search.cell_perturbation import Question, derive
from ean_core.search.cell_plan import Plan, Stop
from ean_core.search.cell_selection import Space, count_skips, entropies, limit_skips, operation_weights, select
from ean_core.search.cells import good_epoch, stop_reason

EDGES = ((2, 0), (2, 1), (3, 0), (3, 1), (3, 2))
SPACE = Space(EDGES, operations=("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"), attentions=("none", "SE"))
NORMAL = [
    [0.1, 0.2, 0.6, 0.1],  # 0 -> 2: skip
    [0.7, 0.1, 0.1, 0.1],  # 1 -> 2: none is the largest, then max_pool, the first of equals
    [0.2, 0.1, 0.5, 0.2],  # 0 -> 3: skip
    [0.1, 0.4, 0.3, 0.2],  # 1 -> 3: max_pool
    [0.0, 0.0, 0.45, 0.55],  # 2 -> 3: sep_conv, the strongest
]
REDUCE = [[0.1, 0.2, 0.3, 0.4]] * 5
BETA = [[0.4, 0.6], [0.5, 0.5], [0.3, 0.7], [0.6, 0.4], [0.9, 0.1]]


def probabilities(**more: Any) -> dict[str, Any]:
    return {
        "operations": {"normal": NORMAL, "reduce": REDUCE},
        "attentions": {"normal": BETA, "reduce": BETA},
        **more,
    }


def text(genotype: Genotype) -> list[str]:
    return [part.strip() for part in genotype.as_dict()["normal"].split("|")]


def test_the_two_strongest_edges_of_every_node() -> None:
    """The stronger first; ``none`` counts nowhere, and of equals the first source wins."""
    genotype = select(probabilities(), SPACE)
    assert text(genotype) == ["0 skip_connect SE, 1 max_pool_3x3", "2 sep_conv_3x3, 0 skip_connect SE"]
    assert genotype.as_dict()["reduce"] == "0 sep_conv_3x3 SE, 1 sep_conv_3x3 | 0 sep_conv_3x3 SE, 1 sep_conv_3x3"
    assert count_skips(genotype) == {"normal": 2, "reduce": 0}


def test_weights_of_edges_count() -> None:
    """0.5 x 0.2 = 0.1, 0.4 x 0.7 = 0.28, 0.55 x 0.1 = 0.055 are the strengths of the edges into node 3."""
    edges = {"normal": [0.5, 0.5, 0.2, 0.7, 0.1], "reduce": [0.5, 0.5, 0.1, 0.2, 0.7]}
    genotype = select(probabilities(edges=edges), SPACE)
    assert text(genotype)[1] == "1 max_pool_3x3, 0 skip_connect SE"
    assert genotype.as_dict()["reduce"].endswith("| 2 sep_conv_3x3, 1 sep_conv_3x3")


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (None, ["0 skip_connect SE, 1 max_pool_3x3", "2 sep_conv_3x3, 0 skip_connect SE"]),
        (2, ["0 skip_connect SE, 1 max_pool_3x3", "2 sep_conv_3x3, 0 skip_connect SE"]),
        # 0 -> 3 is the weaker (0.5): without it that edge has 0.2, and 1 -> 3 with 0.4 takes its place.
        (1, ["0 skip_connect SE, 1 max_pool_3x3", "2 sep_conv_3x3, 1 max_pool_3x3"]),
        # 0 -> 2 falls back to its next best.
        (0, ["0 max_pool_3x3 SE, 1 max_pool_3x3", "2 sep_conv_3x3, 1 max_pool_3x3"]),
    ],
)
def test_skip_connections_of_the_normal_cell_are_limited(most: int | None, expected: list[str]) -> None:
    assert text(select(probabilities(), SPACE, most)) == expected


def test_the_weakest_goes_first_and_only_from_the_normal_cell() -> None:
    table = probabilities()
    table["operations"]["reduce"] = NORMAL
    genotype = select(table, SPACE, 0)
    assert count_skips(genotype) == {"normal": 0, "reduce": 2}


def test_a_skip_connection_that_nothing_can_replace_stays() -> None:
    """Into node 2 lead two edges, and one of them has no other candidate left."""
    rows = [[0.0, 0.0, 1.0, 0.0], [0.2, 0.3, 0.4, 0.1], *NORMAL[2:]]
    table = {"operations": {"normal": rows, "reduce": rows}, "attentions": {"normal": BETA, "reduce": BETA}}
    found = text(select(table, SPACE, 0))
    assert found == ["0 skip_connect SE, 1 max_pool_3x3", "2 sep_conv_3x3, 1 max_pool_3x3"]
    weights = operation_weights(table, SPACE, "normal")
    assert limit_skips(weights, Space(EDGES, operations=("a", "b", "c", "d"), attentions=()), 0) == weights


def test_entropies_lie_between_0_and_1() -> None:
    """The mean over the edges of both cells; what is left out counts neither above nor below the line."""
    even, sure, half = [0.25] * 4, [0.0, 0.0, 0.0, 1.0], [0.5, 0.0, 0.0, 0.5]
    table = {
        "operations": {"normal": [even, sure], "reduce": [half, half]},
        "attentions": {"normal": [[0.9, 0.1]] * 2, "reduce": [[1.0, 0.0]] * 2},
    }
    found = entropies(table)
    assert found["entropy_alpha"] == pytest.approx((1 + 0 + 1 + 1) / 4)
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) / math.log(2)
    assert found["entropy_beta"] == pytest.approx(entropy / 2)


def test_a_genotype_from_decisions() -> None:
    """The edges that hurt most, first; the attention of an edge that is gone was never asked for."""
    decisions = []
    for cell in ("normal", "reduce"):
        answers = {("operations", e): ["sep_conv_3x3" if e % 2 else "skip_connect"] for e in range(5)}
        answers |= {("sources", 2): [1, 0], ("sources", 3): [4, 2]}
        answers |= {("attentions", e): ["SE" if e < 2 else "none"] for e in (0, 1, 2, 4)}
        decisions += [
            {**Question(kind, cell, place)._asdict(), "kept": kept, "losses": {}}
            for (kind, place), kept in answers.items()
        ]
    cell = "1 sep_conv_3x3 SE, 0 skip_connect SE | 2 skip_connect, 0 skip_connect"
    assert derive(decisions, SPACE).as_dict() == {"normal": cell, "reduce": cell}


def entry(epoch: int, skips: int, learned: bool = True, **more: Any) -> dict[str, Any]:
    return {"epoch": epoch, "skips": skips, "learning_architecture": learned, "genotype": {}, **more}


def test_the_epoch_of_the_genotype() -> None:
    stop = Stop(skips=2)
    assert good_epoch([entry(1, 1), entry(2, 2), entry(3, 3, stopped="skips")], stop)["epoch"] == 2
    assert good_epoch([entry(1, 1), entry(2, 4), entry(3, 3)], stop)["epoch"] == 3  # it ended by itself
    assert good_epoch([entry(1, 1), entry(2, 2), entry(3, 2, stopped="patience")], stop)["epoch"] == 3


def test_the_genotype_is_of_no_epoch_that_does_not_count() -> None:
    """At most of the last one before those that count; without a good one the search goes on."""
    plan = Plan(architecture_optimizer={}, warmup=1, stop=Stop(skips=2, after=3))
    for history, good in (
        ([entry(1, 0, False), entry(2, 1), entry(3, 4), entry(4, 4)], None),
        ([entry(1, 0, False), entry(2, 1), entry(3, 4), entry(4, 4), entry(5, 2), entry(6, 3)], 5),
        ([entry(1, 0, False), entry(2, 1), entry(3, 2), entry(4, 4)], 3),
    ):
        reason = stop_reason(history, plan)
        assert (reason is None) is (good is None)
        if reason is not None:
            assert good_epoch([*history[:-1], history[-1] | {"stopped": reason}], plan.stop)["epoch"] == good
    plan = Plan(architecture_optimizer={}, warmup=2, stop=Stop(skips=2))
    assert stop_reason([entry(1, 0, False), entry(2, 0, False), entry(3, 3)], plan) is None
