"""Many schemes at once give what each gives alone."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ean_core import ConnectionScheme, EANCifarResNet, EANResNet
from ean_core.backbones.base import StagedBackbone
from ean_core.backbones.stage import BasicBlock
from ean_core.metric import Metric
from ean_core.plug import forward_schemes
from ean_core.search.evaluator import Evaluator

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
    evaluate = Evaluator(backbone, head=Head(), batches=batches[:1])
    evaluate(ALL)
    assert calls == {"residual": 63, "attention": 63}  # a tree's inner nodes; 64 * 6 and 64 * 3 one by one
    calls.update(residual=0, attention=0)
    evaluate([ALL[0]])
    assert calls == {"residual": 6, "attention": 0}


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


def test_settings_tell_data_and_options_apart(batches: Any) -> None:
    one = Evaluator(supernet(), head=Head(), batches=batches).settings()
    assert Evaluator(supernet(), head=Head(), batches=batches).settings() == one
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
