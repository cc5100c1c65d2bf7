"""A fused network stays itself wherever it is moved, copied, saved and loaded."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

from ean_core.deploy import fuse
from ean_testing.fused import build, difference, images

ATTENTIONS = ["none", "SE", "SGE", "DIA"]


def contiguous(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As a format that keeps no strides returns it."""
    return {key: value.clone(memory_format=torch.contiguous_format) for key, value in state.items()}


def through_a_file(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    loaded: nn.Module = torch.load(buffer, weights_only=False)
    return loaded


def with_state(model: nn.Module, state: dict[str, torch.Tensor], assign: bool = False) -> nn.Module:
    model.load_state_dict(state, assign=assign)
    return model


def emptied(model: nn.Module) -> nn.Module:
    """Without its numbers."""
    return copy.deepcopy(model).to("meta").to_empty(device="cpu")


WAYS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "copied": copy.deepcopy,
    "pickled": lambda model: pickle.loads(pickle.dumps(model)),
    "saved whole": through_a_file,
    "there and back": lambda model: copy.deepcopy(model).double().float(),
    "channels-last": lambda model: copy.deepcopy(model).to(memory_format=torch.channels_last),
    "contiguous": lambda model: copy.deepcopy(model).to(memory_format=torch.contiguous_format),
    "loaded": lambda model: with_state(emptied(model), model.state_dict()),
    "loaded from contiguous": lambda model: with_state(emptied(model), contiguous(model.state_dict())),
    "assigned": lambda model: with_state(copy.deepcopy(model).to("meta"), contiguous(model.state_dict()), True),
    "fused again": fuse,
}


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_computes_the_same(attention: str) -> None:
    fused, x = fuse(build("cifar29", attention)), images("cifar29", 2)
    with torch.inference_mode():
        expected = fused(x)[-1]
        found = {way: difference(change(fused)(x)[-1], expected) for way, change in WAYS.items()}
        assert {way: far for way, far in found.items() if far > 0} == {}
        assert difference(copy.deepcopy(fused).to(torch.float64)(x.double())[-1], expected) < 1e-4


@pytest.mark.parametrize(("name", "attention"), [*(("cifar29", kind) for kind in ATTENTIONS), ("resnet18", "SGE")])
def test_without_memory(name: str, attention: str) -> None:
    """On the meta device, moved there after it was fused or before."""
    net, x = build(name, attention), images(name, 2)
    expected = [out.shape for out in net(x)]
    for model in (fuse(net).to("meta"), fuse(net.to("meta"))):
        outs = model(x.to("meta"))
        assert [out.shape for out in outs] == expected
        assert all(out.is_meta for out in outs)
        assert all(t.is_meta for t in (*model.parameters(), *model.buffers()))
