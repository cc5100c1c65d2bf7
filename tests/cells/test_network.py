"""CellNetwork: parameter counts of the papers, and its cells against plain loops."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ean_core.backbones.weights import load_backbone
from ean_core.cells import CellNetwork, Genotype
from ean_core.cells.network import Cell, CellEdge
from ean_core.cells.stack import AuxiliaryHead, Place
from ean_testing.cell_references import cell as reference
from ean_testing.references import randomize, weights_of

IMAGENET = dict(channels=48, layers=14, num_classes=1000, stem="imagenet")
OTHERS = """normal: 0 sep_conv_5x5 SE, 1 dil_conv_5x5 | 2 avg_pool_3x3 GE, 0 max_pool_3x3
            reduce: 0 sep_conv_5x5 GE, 1 dil_conv_5x5 A2 | 1 skip_connect, 2 sep_conv_3x3 SE"""


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("genotype", "options", "parameters", "auxiliary", "bare"),
    [
        ("att-darts", {}, 3_231_343, 476_426, 2_837_854),
        ("att-darts", dict(num_classes=100), 3_283_273, 545_636, 2_889_784),
        ("att-darts", IMAGENET, 4_641_666, 1_260_776, 4_143_040),
        ("darts-v2", {}, 3_349_342, 476_426, 3_349_342),
        ("darts-v2", IMAGENET, 4_718_752, 1_260_776, 4_718_752),
    ],
    ids=["CIFAR-10", "CIFAR-100", "ImageNet", "DARTS, CIFAR-10", "DARTS, ImageNet"],
)
def test_published_sizes(genotype: str, options: Any, parameters: int, auxiliary: int, bare: int) -> None:
    with torch.device("meta"):
        assert count(CellNetwork(genotype, **options)) == parameters
        assert count(CellNetwork(genotype, auxiliary=True, **options)) == parameters + auxiliary
        assert count(CellNetwork(genotype, attention=False, **options)) == bare


CELLS = {
    "att-darts, normal": ("att-darts", False, False),
    "att-darts, reduce": ("att-darts", True, False),
    "darts-v2, after a reduction": ("darts-v2", False, True),
    "darts-v2, reduce": ("darts-v2", True, True),
    "others, normal": (OTHERS, False, True),
    "others, reduce": (OTHERS, True, False),
}


@pytest.mark.parametrize("size", [6, 5])
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_against_loops(name: str, size: int) -> None:
    spec, reduces, after = CELLS[name]
    genotype = Genotype.load(spec)
    nodes = genotype.reduce if reduces else genotype.normal
    place = Place((3, 5), channels=4, reduces=reduces, after_reduction=after, size=(size + 1) // 2 if reduces else size)
    cell = Cell(nodes, place).double().eval()
    randomize(cell, seed=1)
    torch.manual_seed(0)
    older = torch.randn(2, 3, *[2 * size - size % 2 if after else size] * 2, dtype=torch.float64)
    newer = torch.randn(2, 5, size, size, dtype=torch.float64)
    with torch.no_grad():
        out = cell(older, newer).numpy()
    edges = [tuple(edge) for pair in nodes for edge in pair]
    expected = reference(edges, weights_of(cell), older.numpy(), newer.numpy(), reduces=reduces, after_reduction=after)
    assert out.shape == (2, 4 * len(nodes), place.size, place.size)
    np.testing.assert_allclose(out, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_cells_are_stacked(stem: str) -> None:
    """Each cell takes the outputs of the two before it; the first ones the stem's."""
    torch.manual_seed(0)
    side = 16 if stem == "cifar" else 64
    network = CellNetwork("darts-v2", channels=4, layers=5, num_classes=3, stem=stem, image_size=side).eval()
    randomize(network)
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        if stem == "cifar":
            older = newer = network.stem(images)
            assert older.shape == (2, 12, side, side)
        else:
            older = network.stem[0](images)
            newer = network.stem[1](older)
            assert (older.shape, newer.shape) == ((2, 4, side // 4, side // 4), (2, 4, side // 8, side // 8))
        for cell in network.cells:
            older, newer = newer, cell(older, newer)
        assert newer.shape[1] == 4 * 16
        expected = newer.mean((2, 3)) @ network.classifier.weight.T + network.classifier.bias
        torch.testing.assert_close(network(images), expected)


def test_drop_path() -> None:
    """An image either loses an edge or has it magnified; a skip connection is spared, and so is evaluation."""
    torch.manual_seed(0)
    genotype = Genotype.load(OTHERS)
    edge = CellEdge(genotype.normal[1][0], 16, 1, 4).train()
    images = torch.randn(200, 16, 4, 4)
    plain = edge(images)
    ratios = (edge(images, 0.25) / plain).flatten(1)
    kept = ratios[:, 0] != 0
    torch.testing.assert_close(ratios, (kept / 0.75)[:, None].expand_as(ratios))
    assert 0.6 < kept.float().mean() < 0.9
    edge.eval()
    assert torch.equal(edge(images, 0.25), edge(images))
    skip = CellEdge(genotype.normal[0][0]._replace(operation="skip_connect", attention=None), 16, 1, 4).train()
    assert torch.equal(skip(images, 0.25), images)


def test_a_shorter_network_takes_the_weights_of_a_whole_one() -> None:
    whole, short = (
        CellNetwork(channels=4, layers=5, num_classes=None, image_size=8, out_indices=indices)
        for indices in ((0, 1, 2), (1,))
    )
    report = load_backbone(short, whole.state_dict())
    assert len(short.cells) == 3
    assert report.missing == []
    assert all(key.startswith(short.left_out) for key in report.unused)
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(short.eval()(x)[0], whole.eval()(x)[1])


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_auxiliary_head_takes_maps_of_any_size(stem: str) -> None:
    head = AuxiliaryHead(4, 3, stem)
    for size in (*range(2, 20), 32):
        assert head(torch.rand(2, 4, size, size + 1)).shape == (2, 3)
    with pytest.raises(ValueError, match="needs maps of 2x2 at least"):
        head(torch.rand(2, 4, 1, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "abc"}, "layers is a whole number of 3 or more, got 'abc'"),
        ({"layers": 2}, "layers is a whole number of 3 or more, got 2"),
        ({"layers": 4.0}, "layers is a whole number"),
        ({"channels": 0}, "channels is a whole number of 1 or more, got 0"),
        ({"num_classes": 0}, "num_classes is a whole number of 1 or more, got 0"),
        ({"image_size": -1}, "image_size is a whole number of 1 or more, got -1"),
        ({"image_size": (32, 32)}, "image_size is a whole number"),
        ({"stem": "mnist"}, "stem must be cifar or imagenet, got 'mnist'"),
        ({"num_classes": None, "out_indices": (3,)}, r"out_indices \(3,\) must be one or more of 0, 1, 2"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CellNetwork(**options)


def test_auxiliary_head_is_for_training() -> None:
    network = CellNetwork("darts-v2", channels=4, layers=3, num_classes=3, auxiliary=True)
    logits, side = network(torch.randn(2, 3, 32, 32))
    assert (logits.shape, side.shape) == ((2, 3), (2, 3))
    assert network.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 3)
