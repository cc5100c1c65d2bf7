"""CellSupernet against the authors' supernet (benchmarks/original_cells.py): outputs, gradients, statistics."""

import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ean_core.cells import OPERATIONS, CellSupernet
from ean_core.errors import UserError
from ean_core.search.bilevel import search_step

KINDS = ("normal", "reduce")
OPERATIONS_OF_PC_DARTS = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_5x5")
SMALL = dict(layers=4, num_classes=3, image_size=8)


def name_in_original(name: str, operations: Sequence[str]) -> str:
    """Where the original keeps what is called ``name`` in our state dict."""
    if name.startswith("architecture."):
        letter, kind = name.removeprefix("architecture.").split("_")
        return f"{ {'alpha': 'alphas', 'beta': 'betas', 'edge': 'gammas'}[letter] }.{KINDS.index(kind)}"
    name = re.sub(r"edges\.(\d+)\.operations\.(\w+)", lambda m: f"ops.{m[1]}.candidates.{operations.index(m[2])}", name)
    name = re.sub(r"edges\.(\d+)\.attentions\.(\d+)", r"atts.\1.candidates.\2.attention", name)
    return name.replace(".even.", ".conv_1.").replace(".odd.", ".conv_2.")


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and running statistics."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


class Pair:
    """Ours and the original with the same random weights. (A failed test would print thousands of modules.)"""

    def __init__(self, original: ModuleType, **options: Any) -> None:
        torch.manual_seed(0)
        options = {**SMALL, **options}
        channels = 4 * options.get("partial", 1)
        self.theirs = theirs = original.OriginalSupernet(channels, **options).double()
        self.ours = CellSupernet(channels, **options).double()
        for name, tensor in tensors(theirs).items():
            if tensor.is_floating_point() and tensor.dim() == 1:  # norms and biases may start as constants
                tensor.data.uniform_(0.5, 1.5) if name.endswith(("weight", "var")) else tensor.data.normal_(0, 0.2)
        for parameter in theirs.architecture():
            parameter.data.normal_()

        self.names = {name: name_in_original(name, self.ours.operations) for name in tensors(self.ours)}
        values = tensors(theirs)
        for name, tensor in tensors(self.ours).items():
            tensor.data.copy_(values.pop(self.names[name]))
        # Left over are statistics of norms without parameters, and the weight of a single attention, which is 1.
        statistics = ("running_mean", "running_var", "num_batches_tracked")
        left = [name for name in values if not name.endswith(statistics) or "atts" in name or "stem" in name]
        assert left == ([] if len(self.ours.attentions) > 1 else ["betas.0", "betas.1"])

    def train(self, training: bool) -> None:
        """Set the mode; in both, norms without parameters go by their batch."""
        for model in (self.ours, self.theirs):
            model.train(training)
            for norm in model.modules():
                if isinstance(norm, nn.BatchNorm2d) and not norm.affine:
                    norm.train()

    def compare(self, left_out: tuple[str, ...] = ()) -> None:
        """Output, all gradients, running statistics; ``left_out``: in the original, what ours does not compute."""
        images, labels = torch.randn(5, 3, 8, 8, dtype=torch.float64), torch.randint(3, (5,))
        outputs = [model(images) for model in (self.ours, self.theirs)]
        torch.testing.assert_close(*outputs, rtol=1e-10, atol=1e-10)
        for output in outputs:
            cross_entropy(output, labels).backward()
        there, count = tensors(self.theirs), 0
        for name, tensor in tensors(self.ours).items():
            if self.names[name].startswith(left_out):
                assert tensor.grad is None, name
                continue
            values = tensor, there[self.names[name]]
            if isinstance(tensor, nn.Parameter):
                values = tuple(torch.zeros_like(tensor) if t.grad is None else t.grad for t in values)
                count += bool(values[1].any())
            torch.testing.assert_close(*values, rtol=1e-10, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")
        assert count > 0.6 * sum(not self.names[name].startswith(left_out) for name, _ in self.ours.named_parameters())


@pytest.mark.parametrize(("partial", "training"), [(1, True), (1, False), (4, True)])
def test_like_the_original(original: ModuleType, partial: int, training: bool) -> None:
    pair = Pair(original, partial=partial)
    pair.train(training)
    pair.compare()


@pytest.mark.parametrize(
    ("operations", "attentions"),
    [
        (OPERATIONS, ("none",)),
        (OPERATIONS_OF_PC_DARTS, ("SE", "CBAM")),
        (("sep_conv_3x3",), ("none", "A2")),
        (("skip_connect", "avg_pool_3x3"), ("BAM",)),
    ],
    ids=["DARTS", "fewer", "one", "plain"],
)
def test_other_candidates(original: ModuleType, operations: tuple[str, ...], attentions: tuple[str, ...]) -> None:
    Pair(original, operations=operations, attentions=attentions).compare()


def test_steps_like_the_original(original: ModuleType) -> None:
    """Two steps of the search, the second of second order, when momentum has begun."""
    pair = Pair(original, layers=3, operations=OPERATIONS_OF_PC_DARTS, attentions=("none", "SE", "BAM"))
    ours, theirs = pair.ours, pair.theirs
    known = {id(parameter) for parameter in ours.architecture_parameters()}
    weights = [[p for p in ours.parameters() if id(p) not in known], theirs.weights()]
    sgd = [torch.optim.SGD(w, 0.05, momentum=0.9, weight_decay=0.01) for w in weights]
    architecture = [torch.optim.SGD(m, 0.5) for m in (ours.architecture_parameters(), theirs.architecture())]
    for order in (1, 2):
        train, val = ((torch.randn(5, 3, 8, 8, dtype=torch.float64), torch.randint(3, (5,))) for _ in range(2))
        original.search_step_original(theirs, sgd[1], architecture[1], train, val, 0.05, order)
        losses = [lambda batch=batch: cross_entropy(ours(batch[0]), batch[1]) for batch in (train, val)]
        search_step(ours, ours.architecture_parameters(), sgd[0], architecture[0], *losses, clip=5, order=order)
    there = tensors(theirs)
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter, there[pair.names[name]], rtol=1e-7, atol=1e-9)


class Nothing(nn.Module):
    """An edge that is dropped."""

    def forward(self, h: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Zeros."""
        return torch.zeros_like(h)


@pytest.mark.parametrize("partial", [1, 2])
def test_restricted(original: ModuleType, partial: int) -> None:
    """The original computes what is left out too, with a weight of 0."""
    pair = Pair(original, layers=5, partial=partial)
    ours, theirs = pair.ours, pair.theirs
    chosen = {
        ("normal", 0): (("skip_connect",), ("none",)),
        ("normal", 3): (("none", "sep_conv_5x5", "max_pool_3x3"), ("SE", "A2", "none")),
        ("normal", 6): (("dil_conv_3x3",), ("GE",)),
        ("reduce", 1): (("skip_connect", "dil_conv_5x5"), ("CBAM",)),
        ("reduce", 13): (("avg_pool_3x3", "none"), ("BAM", "none")),
    }
    left_out = []
    for (kind, edge), (operations, attentions) in chosen.items():
        ours.restrict(kind, edge, operations=operations, attentions=attentions)
        k = KINDS.index(kind)
        cells = [c for c, cell in enumerate(theirs.cells) if cell.reduces == bool(k)]
        for part, rows, kept, known in (
            ("ops", theirs.alphas[k], operations, ours.operations),
            ("atts", theirs.betas[k], attentions, ours.attentions),
        ):
            for i in (i for i, name in enumerate(known) if name not in kept):
                rows.data[edge, i] = -torch.inf
                left_out += [f"cells.{c}.{part}.{edge}.candidates.{i}." for c in cells]
    dropped = 4 if partial == 1 else None  # the edges' weights of PC-DARTS know nothing of an edge that is dropped
    if dropped is not None:
        ours.restrict("normal", dropped, operations=())
        for c, cell in enumerate(theirs.cells):
            if not cell.reduces:
                cell.atts[dropped] = Nothing()
                left_out += [f"cells.{c}.{part}.{dropped}." for part in ("ops", "atts")]
    pair.compare(tuple(left_out))

    probabilities = ours.probabilities()
    for k, kind in enumerate(KINDS):
        expected = theirs.alphas[k].detach().softmax(1)
        if kind == "normal" and dropped is not None:
            expected[dropped] = 0
        torch.testing.assert_close(probabilities[f"alpha_{kind}"], expected)
        torch.testing.assert_close(probabilities[f"beta_{kind}"], theirs.betas[k].detach().softmax(1))


def test_size() -> None:
    with torch.device("meta"):
        full, bare = CellSupernet(), CellSupernet(attentions=("none",))
    assert sum(p.numel() for p in full.parameters()) == 3_309_674
    assert sum(p.numel() for p in bare.parameters()) == 1_930_842
    assert sum(p.numel() for p in full.architecture_parameters()) == 2 * 14 * (8 + 6)


def test_what_is_left_is_saved() -> None:
    options: dict[str, Any] = {**SMALL, "attentions": ("none", "SE"), "operations": ("skip_connect", "max_pool_3x3")}
    first, second = CellSupernet(4, **options).eval(), CellSupernet(4, **options).eval()
    first.restrict("normal", 2, operations=["skip_connect"], attentions=["none"])
    second.load_state_dict(first.state_dict())
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(first(images), second(images))
    assert second.probabilities()["alpha_normal"][2].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"operations": ("conv",)}, "unknown operation 'conv'"),
        ({"operations": ("none",)}, "needs a candidate besides 'none'"),
        ({"attentions": ("none", "none")}, "different candidates"),
        ({"attentions": ("unheard",)}, "unknown attention 'unheard'"),
        ({"attentions": "SE"}, "attentions is a list"),
        ({"partial": 3}, "partial=3 must divide"),
        ({"partial": 0}, "partial is a whole number of 1 or more, got 0"),
        ({"nodes": 0}, "nodes is a whole number of 1 or more, got 0"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        CellSupernet(4, **{**SMALL, **options})


def test_only_candidates_can_be_left() -> None:
    net = CellSupernet(4, **SMALL)
    for arguments, message in (
        (("normal", 99), "there is no edge 99 in the normal cell"),
        (("other", 0), "there is no edge 0 in the other cell"),
    ):
        with pytest.raises(UserError, match=message):
            net.restrict(*arguments, operations=[])
    with pytest.raises(UserError, match="'conv' is no candidate: "):
        net.restrict("normal", 0, operations=["conv"])
