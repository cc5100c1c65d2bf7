"""A batch of no images has an answer of no images, of every attention."""

import warnings
from typing import Any

import pytest
import torch

from ean_core.attention import ATTENTION, build_attention

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "GE": [{"size": 5}, {"variant": "theta-"}, {"variant": "theta-", "extent": 2}, {"variant": "theta", "extent": 4}],
    "SGE": [{"groups": 4}],
}
EVERY = [{"type": name, **more} for name in sorted(ATTENTION.module_dict) for more in OPTIONS.get(name, [{}])]


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("config", EVERY, ids=str)
def test_no_images(config: dict[str, Any], train: bool) -> None:
    """From a start and, if it has a state, from the one that it returns; torch says nothing about it."""
    attention = build_attention(config, 64).train(train)
    x = torch.empty(0, 64, 5, 5, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out, state = attention(x)
        again, _ = attention(x, state)
    assert out.shape == again.shape == x.shape
    (again.sum() + out.sum()).backward()
    assert x.grad is not None
    assert all(p.grad is None or not p.grad.any() for p in attention.parameters())
