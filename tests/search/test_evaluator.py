"""Many schemes at once give what each gives alone."""

from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.functional import cross_entropy

from ean_core import ConnectionScheme, EANCifarResNet, EANResNet
from ean_core.backbones.base import StagedBackbone
from ean_core.backbones.stage import BasicBlock
from ean_core.deploy import fuse
from ean_core.deploy.fused_steps import fused_steps
from ean_core.metric import Metric
from ean_core.plug import find_points, forward_schemes, plug
from ean_core.plug.walk import Walk
from ean_core.search.evaluator import Evaluator
from ean_core.search.latency_table import LatencyTable

SE, DIA, SGE = {"type": "SE", "reduction": 4}, {"type": "DIA", "reduction": 4}, {"type": "SGE", "groups": 4}


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Weights and statistics under which attention and scheme make a difference."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2, generator=generator)
        elif value.is_floating_point():
            spread = (2 / value[0].numel()) ** 0.5 if value.dim() > 1 else 0.3
            value.normal_(1 if "bn" in name and name.endswith("weight") else 0, spread, generator=generator)


def supernet(attention: dict[str, Any] | None = None, **options: Any) -> StagedBackbone:
    backbone = EANCifarResNet(14, block="basic", attention=attention or SE, **options)
    randomise(backbone)
    return backbone.eval()


class Head(nn.Module):
    """Pooling and a linear layer."""

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, 4)
        randomise(self, 1)

    def forward(self, outs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return self.fc(outs[-1].mean((2, 3)))


@pytest.fixture
def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    draw = [(torch.randn(n, 3, 8, 8, generator=generator), n) for n in (6, 5)]
    return [(x, torch.randint(4, (n,), generator=generator)) for x, n in draw]


ALL = [ConnectionScheme.parse(f"{i:06b}", (2, 2, 2)) for i in range(64)]


@pytest.mark.parametrize("attention", [SE, DIA, SGE], ids=["SE", "DIA", "SGE"])
def test_outputs_equal_those_of_each_network_alone(attention: dict[str, Any]) -> None:
    backbone = supernet(attention, out_indices=(0, 2))
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = dict(forward_schemes(backbone, x, ALL[::3]))
        assert set(found) == set(ALL[::3])
        for scheme, outs in found.items():
            backbone.set_scheme(scheme)
            plain = backbone(x)
            assert len(outs) == len(plain) == 2
            assert all(torch.equal(a, b) for a, b in zip(outs, plain, strict=True))
    assert len({float(outs[-1].sum()) for outs in found.values()}) == len(found)


def test_stem_with_pooling_own_attentions_and_a_stage_that_is_not_needed() -> None:
    backbone = EANResNet(18, attention=SE, sharing="block", out_indices=(1,)).eval()
    randomise(backbone)
    schemes = [ConnectionScheme.parse(t, (2, 2, 2, 2)) for t in ("10-01-00-00", "10-01-11-00", "00-11-00-01")]
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        for scheme, outs in forward_schemes(backbone, x, schemes):
            backbone.set_scheme(scheme)
            assert torch.equal(outs[0], backbone(x)[0])


def test_a_network_built_with_the_fixed_scheme_scores_the_same(batches: Any) -> None:
    backbone, head = supernet(), Head()
    scheme = ConnectionScheme.parse("10-01-00", (2, 2, 2))
    fixed = EANCifarResNet(14, block="basic", attention=SE, scheme=scheme).eval()
    fixed.load_state_dict({k: v for k, v in backbone.state_dict().items() if k in fixed.state_dict()})
    with torch.inference_mode():
        hits = [(head(fixed(x)).argmax(1) == y).sum() for x, y in batches]
    scores = Evaluator(backbone, head=head, batches=batches)([ALL[7], scheme, ALL[7]])
    assert scores[1] == {"accuracy": 100 * int(sum(hits)) / 11}
    assert scores[0] == scores[2]


def test_work_is_shared_and_disconnected_blocks_do_none(monkeypatch: pytest.MonkeyPatch, batches: Any) -> None:
    backbone = supernet()
    calls = {"residual": 0, "attention": 0}
    residual = BasicBlock.residual

    def count(block: BasicBlock, x: torch.Tensor) -> torch.Tensor:
        calls["residual"] += 1
        return residual(block, x)

    monkeypatch.setattr(BasicBlock, "residual", count)
    for stage in backbone.stages:
        assert stage.attention is not None
        stage.attention.register_forward_hook(lambda *_: calls.update(attention=calls["attention"] + 1))
    evaluate = Evaluator(backbone, head=Head(), batches=batches[:1], memory=0)
    evaluate(ALL)
    assert calls == {"residual": 63, "attention": 63}  # a tree's inner nodes; 64 * 6 and 64 * 3 one by one
    calls.update(residual=0, attention=0)
    evaluate([ALL[0]])
    assert calls == {"residual": 6, "attention": 0}


def logits_of(evaluate: Evaluator, schemes: list[ConnectionScheme]) -> list[dict[str, float]]:
    """One step of three schemes after the other."""
    return [scores for i in range(0, len(schemes), 3) for scores in evaluate(schemes[i : i + 3])]


SHUFFLED = [ALL[i] for i in torch.randperm(64, generator=torch.Generator().manual_seed(0)).tolist()]
VALUES = Metric(lambda out, y: out.sum(0), lambda total: {str(i): float(v) for i, v in enumerate(total)})


@pytest.mark.parametrize("attention", [SE, DIA, SGE], ids=["SE", "DIA", "SGE"])
@pytest.mark.parametrize("kib", [60, 200, 2000])
def test_what_is_kept_from_step_to_step_changes_nothing_and_keeps_its_bound(
    batches: Any, attention: dict[str, Any], kib: int
) -> None:
    backbone = supernet(attention, out_indices=(0, 2))
    options: dict[str, Any] = {"head": Head(), "batches": batches, "metric": VALUES}
    kept = Evaluator(backbone, **options, memory=kib / 2**20)
    assert logits_of(kept, SHUFFLED) == logits_of(Evaluator(backbone, **options, memory=0), SHUFFLED)
    trees: list[Any] = [walk._walk for walk in kept._walks]
    sizes = [
        sum(sum({id(t): t.nbytes for t in (*node.outs, node.x, *(node.state or ()))}.values()) for node in nodes)
        for nodes in (tree.kept.values() for tree in trees)
    ]
    assert 0 < sum(sizes) <= kib * 2**10
    assert sizes == [tree.used for tree in trees]


def test_a_step_begins_behind_what_earlier_steps_have_computed(monkeypatch: pytest.MonkeyPatch, batches: Any) -> None:
    backbone, calls = supernet(), []
    residual = BasicBlock.residual

    def count(block: BasicBlock, x: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        return residual(block, x)

    monkeypatch.setattr(BasicBlock, "residual", count)
    prepared: list[int] = []

    def preprocess(x: torch.Tensor) -> torch.Tensor:
        prepared.append(len(x))
        return x

    evaluate = Evaluator(backbone, head=Head(), batches=batches[:1], preprocess=preprocess)
    evaluate(ALL[:32])
    calls.clear()
    evaluate([ALL[31]])
    assert calls == [6]  # behind five blocks: the last one
    evaluate([ALL[32]])
    assert calls == [6] * 7  # the first bit is new: all but the stem
    assert prepared == [6]
    with torch.no_grad():
        backbone.stages[0].blocks[0].conv1.weight *= 1.5
    calls.clear()
    assert evaluate([ALL[32]]) == Evaluator(backbone, head=Head(), batches=batches[:1], memory=0)([ALL[32]])
    assert calls == [1] * 6 + [6] * 12  # one sample tells sizes; another evaluator's pass


def test_a_plugged_network_too(batches: Any) -> None:
    model = torchvision.models.resnet18(num_classes=4)
    plug(model, DIA, find_points(model, torch.zeros(1, 3, 64, 64)))
    randomise(model)
    options: dict[str, Any] = {"head": lambda out: out, "batches": batches, "metric": VALUES}
    schemes = draw_schemes(model.plugged.blocks, 12)
    expected = []
    for scheme in schemes:
        model.eval().plugged.set_scheme(scheme)
        with torch.no_grad():
            expected.append(sum(model(x).sum(0) for x, _ in batches).tolist())  # type: ignore[union-attr]
    for gib in (0.0, 2**-11, 1.0):  # nothing, 512 KiB, everything
        evaluate = Evaluator(model.plugged, **options, memory=gib)
        assert [list(scores.values()) for scores in logits_of(evaluate, schemes)] == expected
        for walk in evaluate._walks:
            replay: Any = walk._walk
            others = [known for (_, bits), known in replay.outputs.items() if bits != replay.bits[: len(bits)]]
            assert sum(t.nbytes for output, *_ in others for t in [output]) <= gib * 2**30
            assert bool(others) == (gib > 0)


def draw_schemes(blocks: tuple[int, ...], number: int) -> list[ConnectionScheme]:
    generator = torch.Generator().manual_seed(0)
    return list({ConnectionScheme.random(blocks, 0.5, generator): None for _ in range(number)})


@pytest.mark.parametrize("attention", [SE, DIA, SGE, {"type": "CBAM", "reduction": 4}], ids=lambda a: a["type"])
def test_a_walk_along_fused_blocks_is_their_forward_pass(attention: dict[str, Any]) -> None:
    backbone = EANCifarResNet(20, attention=attention)
    randomise(backbone)
    fused = fuse(backbone)
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    schemes = draw_schemes(backbone.blocks, 20)
    with torch.inference_mode():
        found = dict(Walk(fused, 2**20, fused_steps(fused))(lambda: x, schemes))  # type: ignore[arg-type]
        assert set(found) == set(schemes)
        for scheme, (out,) in found.items():
            fused.set_scheme(scheme)  # type: ignore[operator]
            if attention["type"] == "CBAM":  # connected blocks leave the loops: up to rounding
                torch.testing.assert_close(out, fused(x)[0], rtol=1e-4, atol=1e-4)
            else:
                assert torch.equal(out, fused(x)[0])


def test_fused_and_channels_last_agree_up_to_rounding(batches: Any) -> None:
    logits = Metric(lambda out, y: out.sum(0), lambda total: {str(i): float(v) for i, v in enumerate(total)})
    plain = Evaluator(supernet(), head=Head(), batches=batches, metric=logits)(ALL[::9])
    fast = Evaluator(supernet(), head=Head(), batches=batches, metric=logits, fuse=True, channels_last=True)(ALL[::9])
    for a, b in zip(plain, fast, strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-3)


def test_calibration_is_what_training_passes_of_that_network_leave(batches: Any) -> None:
    backbone, head, scheme = supernet(), Head(), ALL[37]
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    logits = Metric(lambda out, y: out.sum(0), lambda total: {str(i): float(v) for i, v in enumerate(total)})
    found = Evaluator(backbone, head=head, batches=batches, metric=logits, calibration=[x for x, _ in batches])(
        [scheme]
    )[0]
    assert all(torch.equal(v, before[k]) for k, v in backbone.state_dict().items())
    other = supernet()
    other.set_scheme(scheme)
    for module in other.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        other.train()
        for x, _ in batches:
            other(x)
        other.eval()
        expected = sum(head(other(x)).sum(0) for x, _ in batches)
    assert list(found.values()) == pytest.approx(expected.tolist(), rel=1e-4)
    assert found != Evaluator(backbone, head=head, batches=batches, metric=logits)([scheme])[0]


def test_gate_loss_has_the_gradient_of_the_loss(batches: Any) -> None:
    backbone, head = supernet(DIA).double(), Head().double()
    batches = [(x.double(), y) for x, y in batches]
    evaluator = Evaluator(backbone, head=head, batches=batches)
    gates = torch.full((6,), 0.4, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(evaluator.gate_loss(gates, 3), gates)
    assert backbone.scheme == ConnectionScheme.full((2, 2, 2))
    moved = [gates.detach() + sign * 1e-5 * torch.eye(6)[2] for sign in (1, -1)]
    high, low = (float(evaluator.gate_loss(g, 3).detach()) for g in moved)
    assert float(slope[2]) == pytest.approx((high - low) / 2e-5, rel=1e-3)
    hard = torch.tensor([float(b) for b in ALL[11]], dtype=torch.float64)
    backbone.set_scheme(ALL[11])
    assert torch.equal(evaluator.gate_loss(hard, 1), cross_entropy(head(backbone(batches[1][0])), batches[1][1]))


def test_latency_is_reported_and_leaves_the_scheme(batches: Any) -> None:
    backbone = supernet()
    scores = Evaluator(backbone, head=Head(), batches=batches, latency_repeats=2)([ALL[3]])
    assert set(scores[0]) == {"accuracy", "latency"}
    assert backbone.scheme == ConnectionScheme.full((2, 2, 2))


def test_latency_from_a_table_is_not_measured(batches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate = Evaluator(supernet(), head=Head(), batches=batches, latency_repeats=2)
    before = evaluate.settings()
    evaluate.table = LatencyTable([[1.0, 2.0], [0.5, 0.25], [4.0, -0.5]])
    monkeypatch.setattr(Evaluator, "seconds", None)
    schemes = [ConnectionScheme.parse(text, (2, 2, 2)) for text in ("00-00-00", "10-11-01", "11-11-11")]
    assert [scores["latency"] for scores in evaluate(schemes)] == [0, 1.25, 7.25]
    assert evaluate.settings() == before | {"latency_table": evaluate.table.increments}


def test_settings_tell_data_and_options_apart(batches: Any) -> None:
    one = Evaluator(supernet(), head=Head(), batches=batches).settings()
    assert Evaluator(supernet(), head=Head(), batches=batches, memory=0).settings() == one
    assert Evaluator(supernet(), head=Head(), batches=batches, fuse=True).settings() != one
    assert Evaluator(supernet(), head=Head(), batches=batches, calibration=[batches[0][0]]).settings() != one
    batches[1][0][0, 0, 0, 0] += 1e-3
    assert Evaluator(supernet(), head=Head(), batches=batches).settings()["data"] != one["data"]


def test_mistakes(batches: Any) -> None:
    with pytest.raises(ValueError, match="no batches"):
        Evaluator(supernet(), head=Head(), batches=[])
    with pytest.raises(ValueError, match="choose fuse or calibration"):
        Evaluator(supernet(), head=Head(), batches=batches, fuse=True, calibration=[])
    with pytest.raises(ValueError, match="does not fit"):
        Evaluator(supernet(), head=Head(), batches=batches)([ConnectionScheme.full((2, 2))])
