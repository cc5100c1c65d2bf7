"""Cells as graphs and the picture of a search of cells: what is drawn, where, and that it can be read."""

import itertools
import random
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import FancyArrowPatch, PathPatch, Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from ean_core.cells.genotype import PUBLISHED, Edge, Genotype
from ean_core.cells.operations import OPERATIONS
from ean_core.errors import UserError
from ean_core.figures import save_figure
from ean_core.figures.cell_graph import OPERATION_COLOURS, draw_genotype, tracks
from ean_core.figures.cell_search import draw_search

LABELS = {
    "max_pool_3x3": "max pool",
    "avg_pool_3x3": "avg pool",
    "skip_connect": "skip",
    "sep_conv_3x3": "sep 3x3",
    "sep_conv_5x5": "sep 5x5",
    "dil_conv_3x3": "dil 3x3",
    "dil_conv_5x5": "dil 5x5",
}
ATTENTIONS = ("none", "SE", "SGE", "BAM", "CBAM", "A2")


def random_genotype(nodes: int, seed: int, attentions: tuple[str, ...] = ATTENTIONS) -> Genotype:
    draw = random.Random(seed)

    def edge(source: int) -> Edge:
        attention = draw.choice(attentions)
        return Edge(source, draw.choice(OPERATIONS[1:]), None if attention == "none" else attention)

    def cell() -> Any:
        return tuple(tuple(map(edge, draw.sample(range(node), 2))) for node in range(2, 2 + nodes))

    return Genotype(cell(), cell())


GENOTYPES = [
    *[pytest.param(Genotype.load(name), id=name) for name in PUBLISHED],
    *[pytest.param(random_genotype(nodes, nodes), id=f"{nodes}-{nodes}") for nodes in (1, 2, 3, 5, 7)],
    *[pytest.param(random_genotype(4, seed), id=f"4-{seed}") for seed in range(10)],
    pytest.param(random_genotype(4, 0, ("a.long.package.ThatHasALongClassName",)), id="long name"),
]


def make_history(epochs: int, nodes: int = 4, attentions: int = 6, seed: int = 0, **more: Any) -> list[dict[str, Any]]:
    draw = np.random.default_rng(seed)
    edges = sum(range(2, 2 + nodes))

    def table(candidates: int) -> dict[str, Any]:
        return {cell: draw.dirichlet(np.ones(candidates), edges).tolist() for cell in ("normal", "reduce")}

    return [
        {
            "epoch": epoch,
            "train_loss": 2 / epoch,
            "val_loss": 3 / epoch if epoch > 2 or epochs == 1 else None,
            "entropy_alpha": 1 / epoch,
            "entropy_beta": 0.9 / epoch,
            "skips": epoch // 2,
            "learning_architecture": epoch > 2 or epochs == 1,
            "operations": table(8),
            "attentions": table(attentions),
            "genotype": "",
            **more,
        }
        for epoch in range(1, epochs + 1)
    ]


@cache
def drawn_genotype(genotype: Genotype) -> tuple[Figure, Any]:
    """The figure and a renderer that has drawn it."""
    figure = draw_genotype(genotype)
    return figure, drawn(figure)


def drawn(figure: Figure) -> Any:
    """A renderer that has drawn the figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def shown_texts(figure: Figure) -> list[Text]:
    """All texts that can be seen, those of axes and of legends among them."""
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def overlapping(texts: list[Text], renderer: Any, slack: float = 0.5) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes have more than `slack` pixels in common in both directions."""
    boxes = [(text.get_text(), text.get_window_extent(renderer).padded(-slack)) for text in texts]
    return [(a, b) for (a, first), (b, second) in itertools.combinations(boxes, 2) if first.overlaps(second)]


def edge_names(axes: Axes, kind: type) -> Counter[str]:
    return Counter(str(patch.get_gid()) for patch in axes.patches if type(patch) is kind)


def boxes_of(axes: Axes) -> list[Bbox]:
    return [patch.get_bbox() for patch in axes.patches if isinstance(patch, Rectangle)]


@pytest.mark.parametrize("genotype", GENOTYPES)
def test_every_edge_is_drawn_once_and_named(genotype: Genotype) -> None:
    figure, _ = drawn_genotype(genotype)
    for axes, (name, cell) in zip(figure.axes, genotype.cells(), strict=True):
        edges = [(edge, node) for node, pair in enumerate(cell, 2) for edge in pair]
        lines = Counter(f"{edge.source} -> {node}" for edge, node in edges)
        outputs = Counter(f"{node} -> output" for node in range(len(cell)))
        assert edge_names(axes, FancyArrowPatch) == lines
        assert edge_names(axes, PathPatch) == lines + outputs
        labels = Counter(LABELS[edge.operation] for edge, _ in edges)
        labels += Counter(edge.attention.rpartition(".")[2] for edge, _ in edges if edge.attention)
        nodes = ["$c_{k-2}$", "$c_{k-1}$", "$c_k$", *map(str, range(len(cell)))]
        extra = [f"{name} cell", "all nodes,\nconcatenated", *nodes]
        assert Counter(text.get_text() for text in axes.texts) == labels + Counter(extra)


@pytest.mark.parametrize("genotype", GENOTYPES)
def test_a_line_goes_from_its_source_to_its_label_and_on_to_its_node(genotype: Genotype) -> None:
    figure, _ = drawn_genotype(genotype)
    for axes, (_, cell) in zip(figure.axes, genotype.cells(), strict=True):
        place = {text.get_text(): np.array(text.get_position()) for text in axes.texts}
        places = [place["$c_{k-2}$"], place["$c_{k-1}$"], *(place[str(node)] for node in range(len(cell)))]
        for node, pair in enumerate(cell, 2):
            for edge in pair:
                name = f"{edge.source} -> {node}"
                line, tip = [patch for patch in axes.patches if patch.get_gid() == name]
                points = line.get_path().vertices
                assert np.hypot(*(points[0] - places[edge.source])) < 0.26  # inside of the circle
                label = LABELS[edge.operation]
                near = [
                    t for t in axes.texts if t.get_text() == label and abs(t.get_position()[0] - points[-1][0]) < 0.5
                ]
                assert min(abs(t.get_position()[1] - points[-1][1]) for t in near) < 0.4
                start, end = (np.array(point) for point in tip._posA_posB)
                assert np.hypot(*(end - places[node])) < np.hypot(*(start - places[node])) < 0.75
                assert line.get_edgecolor() == tip.get_edgecolor()


@pytest.mark.parametrize("genotype", GENOTYPES)
def test_nothing_lies_on_a_label(genotype: Genotype) -> None:
    figure, renderer = drawn_genotype(genotype)
    texts = shown_texts(figure)
    assert overlapping(texts, renderer) == []
    assert all(figure.bbox.padded(0.5).containsx(x) for t in texts for x in t.get_window_extent(renderer).intervalx)
    assert all(figure.bbox.padded(0.5).containsy(y) for t in texts for y in t.get_window_extent(renderer).intervaly)
    for axes in figure.axes:
        boxes = [box.padded(-0.01) for box in boxes_of(axes)]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
        for patch in axes.patches:
            if isinstance(patch, PathPatch):
                (points,) = patch.get_path().interpolated(1).to_polygons(closed_only=False)
                steps = np.concatenate([np.linspace(a, b, 50) for a, b in itertools.pairwise(points)])
                assert not any(box.contains(*point) for box in boxes for point in steps), patch.get_gid()
                assert all(axes.viewLim.contains(*point) for point in steps)
        inside = {text: text.get_window_extent(renderer) for text in axes.texts}
        for box in boxes_of(axes):
            where = box.transformed(axes.transData).padded(1)
            held = [e for e in inside.values() if where.contains((e.x0 + e.x1) / 2, (e.y0 + e.y1) / 2)]
            assert [where.contains(e.x0, e.y0) and where.contains(e.x1, e.y1) for e in held] == [True]


@pytest.mark.parametrize("genotype", GENOTYPES)
def test_lines_cross_but_never_run_on_one_another(genotype: Genotype) -> None:
    figure, _ = drawn_genotype(genotype)
    for axes in figure.axes:
        lines = []
        for patch in axes.patches:
            if isinstance(patch, PathPatch) and not patch.get_gid().endswith("output"):
                (points,) = patch.get_path().to_polygons(closed_only=False)
                lengths = np.hypot(*np.diff(points, axis=0).T).cumsum()
                at = np.arange(0.35, lengths[-1], 0.02)  # behind the circle of the source
                lines.append(np.stack([np.interp(at, [0, *lengths], points[:, i]) for i in (0, 1)], 1))
        for a, b in itertools.combinations(lines, 2):
            near = np.abs(a[:, None] - b[None]).max(2) < 0.02
            assert near.any(1).sum() <= 6


@pytest.mark.parametrize("seed", range(20))
def test_lanes_hold_one_line_at_a_place(seed: int) -> None:
    def column(state: int) -> int:
        return max(0, state - 1)

    for _, cell in random_genotype(6, seed).cells():
        found = tracks(cell)
        assert Counter((t.node, t.side) for t in found) == Counter(itertools.product(range(2, 8), (1, -1)))
        assert {(t.edge.source, t.side) for t in found if t.edge.source < 2} <= {(0, 1), (1, -1)}
        for a, b in itertools.combinations(found, 2):
            apart = column(a.node) <= column(b.edge.source) or column(b.node) <= column(a.edge.source)
            assert apart or (a.side, a.lane) != (b.side, b.lane)


def test_legend_names_what_is_there() -> None:
    figure = draw_genotype(Genotype.load("att-darts"))
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["max pool", "avg pool", "skip", "sep 3x3", "dil 3x3", "A2", "BAM", "CBAM"]
    assert len(set(OPERATION_COLOURS.values())) == len(OPERATIONS) == len(OPERATION_COLOURS)


def panels(figure: Figure) -> dict[str, Axes]:
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def test_lines_are_the_means_of_the_history() -> None:
    history = make_history(6, train_top1=50.0, val_top1=40.0)
    found = panels(draw_search(Genotype.load("att-darts"), history, OPERATIONS, ATTENTIONS))
    assert list(found) == [
        *(f"{kind}, {cell} cell" for cell in ("normal", "reduce") for kind in ("operations", "attentions")),
        *("loss", "accuracy", "entropy of the weights", "skip connections of the normal cell"),
    ]
    for kind, count in (("operations", 8), ("attentions", 6)):
        for cell in ("normal", "reduce"):
            axes = found[f"{kind}, {cell} cell"]
            lines = axes.lines
            assert len(lines) == count
            for i, line in enumerate(lines):
                expected = [sum(row[i] for row in entry[kind][cell]) / 14 for entry in history]
                np.testing.assert_allclose(line.get_ydata(), expected)
                assert list(line.get_xdata()) == [1, 2, 3, 4, 5, 6]
                low, high = axes.get_ylim()
                assert low <= min(expected) <= max(expected) <= high
            assert len({line.get_color() for line in lines}) == count
    train, val = found["loss"].lines
    np.testing.assert_allclose(train.get_ydata(), [2 / epoch for epoch in range(1, 7)])
    np.testing.assert_allclose(val.get_ydata(), [np.nan, np.nan, 1, 3 / 4, 3 / 5, 1 / 2])
    assert [set(line.get_ydata()) for line in found["accuracy"].lines] == [{50.0}, {40.0}]
    alpha, beta = found["entropy of the weights"].lines
    np.testing.assert_allclose(alpha.get_ydata(), [1 / epoch for epoch in range(1, 7)])
    np.testing.assert_allclose(beta.get_ydata(), [0.9 / epoch for epoch in range(1, 7)])
    assert list(found["skip connections of the normal cell"].lines[0].get_ydata()) == [0, 1, 1, 2, 2, 3]
    assert all(axes.get_xlabel() == "epoch" and axes.get_ylabel() for axes in found.values())


def test_colours_of_lines_are_those_of_the_legends_and_the_graphs() -> None:
    figure = draw_search(Genotype.load("att-darts"), make_history(3), OPERATIONS, ATTENTIONS)
    first, second, _ = figure.legends
    named = {t.get_text(): h.get_facecolor() for t, h in zip(first.get_texts(), first.legend_handles, strict=True)}
    lines = panels(figure)["operations, normal cell"].lines
    assert [line.get_color() for line in lines] == [OPERATION_COLOURS[name] for name in OPERATIONS]
    assert list(named) == ["none", *LABELS.values()]
    assert [t.get_text() for t in second.get_texts()] == ["none", "A2", "BAM", "CBAM", "SE", "SGE"]
    lines = panels(figure)["attentions, normal cell"].lines
    by_name = dict(zip(ATTENTIONS, (line.get_color() for line in lines), strict=True))
    badges = {t.get_text(): t.get_color() for t in figure.axes[0].texts if t.get_text() in ATTENTIONS}
    assert badges == {name: by_name[name] for name in ("A2", "CBAM")}


def spans(axes: Axes) -> list[tuple[float, float]]:
    return [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches if type(patch) is Rectangle]


def test_warm_up_and_stop_are_marked() -> None:
    history = make_history(5)
    history[-1]["stopped"] = "the normal cell has 3 skip connections"
    figure = draw_search(random_genotype(4, 1), history, OPERATIONS, ATTENTIONS)
    names = [text.get_text() for text in figure.legends[2].get_texts()]
    assert names == ["warm-up: the architecture does not learn", "stopped early"]
    for axes in panels(figure).values():
        assert spans(axes) == [(0.5, 1.5), (1.5, 2.5)]
        assert [list(line.get_xdata()) for line in axes.lines if line.get_linestyle() == "--"] == [[5, 5]]


def test_without_attentions_nothing_is_said_of_them() -> None:
    history = make_history(4, attentions=1)
    figure = draw_search(Genotype.load("darts-v2"), history, OPERATIONS, ["none"])
    assert list(panels(figure)) == [
        *("operations, normal cell", "operations, reduce cell", "loss"),
        *("entropy of the weights", "skip connections of the normal cell"),
    ]
    assert len(panels(figure)["entropy of the weights"].lines) == 1
    assert not any("attention" in text.get_text() for text in shown_texts(figure))


@pytest.mark.parametrize(("nodes", "epochs"), [(2, 1), (4, 50)])
def test_a_search_can_be_read(tmp_path: Path, nodes: int, epochs: int) -> None:
    history = make_history(epochs, nodes, train_top1=99.0, val_top1=None)
    figure = draw_search(random_genotype(nodes, 5), history, OPERATIONS, ATTENTIONS)
    renderer = drawn(figure)
    axes_texts = [text for axes in figure.axes[:2] for text in axes.texts]
    titles = [axes.title for axes in panels(figure).values()]
    names = [label for axes in panels(figure).values() for label in (axes.xaxis.label, axes.yaxis.label)]
    legends = [text for legend in figure.legends for text in legend.get_texts()]
    assert overlapping(axes_texts + titles + names + legends, renderer) == []
    boxes = [axes.get_tightbbox(renderer).padded(-1) for axes in panels(figure).values()]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    save_figure(figure, tmp_path / "search.png")
    picture = imread(tmp_path / "search.png")
    assert picture.shape[0] < 1200
    assert picture.shape[1] < 1920


def test_only_some_candidates() -> None:
    history = make_history(3, attentions=2)
    for entry in history:
        entry["operations"] = {cell: [row[:2] for row in rows] for cell, rows in entry["operations"].items()}
    genotype = Genotype.load("darts-v2").with_attention("SE")
    figure = draw_search(genotype, history, ["skip_connect", "sep_conv_3x3"], ["SE", "CBAM"])
    found = panels(figure)
    assert [[text.get_text() for text in legend.get_texts()] for legend in figure.legends[:2]] == [
        *(["skip", "sep 3x3"], ["CBAM", "SE"])
    ]
    assert [len(found[f"{kind}, reduce cell"].lines) for kind in ("operations", "attentions")] == [2, 2]


def test_nothing_to_draw() -> None:
    with pytest.raises(UserError, match="has no epoch"):
        draw_search(Genotype.load("darts-v2"), [], OPERATIONS, ["none"])
