"""The compiled loops as operators, ``torch.ops.ean.*``, which torch's compilers and exporters see.

The functions here and those of :mod:`ean_core.deploy.plain` do the same, under the same names. These are for float32 on
a CPU, tensors (N, C, H, W) that are channels-last, and channels that are multiples of ``LANES``; anything else is a
``UserError`` that says so. They have no gradient.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from ean_core.attention import SGE
from ean_core.deploy.cpu.library import library
from ean_core.errors import UserError

LANES = 16

F = TypeVar("F", bound=Callable[..., Any])


def _operator(schema: str, fake: Callable[..., Any]) -> Callable[[F], F]:
    """Make a function the operator ``ean::<schema>`` of the CPU; ``fake`` says the shape of what it returns."""

    def register(function: F) -> F:
        name, _, signature = schema.partition("(")
        torch.library.define(f"ean::{name}", f"({signature}")
        torch.library.impl(f"ean::{name}", "CPU", function)
        torch.library.register_fake(f"ean::{name}", fake)
        operator: F = getattr(torch.ops.ean, name).default
        return operator

    return register


@_operator("project(Tensor x, Tensor weight, Tensor bias) -> Tensor", lambda x, weight, bias: _like(x, len(bias)))
def project(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """See :func:`ean_core.deploy.plain.project`."""
    out = _like(x, len(bias))
    run_expand(out, None, x, weight, bias, None)
    return out


def expand(
    z: torch.Tensor, u: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """See :func:`ean_core.deploy.plain.expand`; the result is in the memory of ``z``."""
    expand_(z, u, weight, bias, mask)
    return z


@_operator("expand_(Tensor(a!) z, Tensor u, Tensor weight, Tensor bias, Tensor? mask) -> ()", lambda *_: None)
def expand_(
    z: torch.Tensor, u: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, mask: torch.Tensor | None
) -> None:
    """As :func:`expand`; an operator may not return what it was given."""
    run_expand(z, z, u, weight, bias, mask)


def run_expand(
    out: torch.Tensor,
    identity: torch.Tensor | None,
    u: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    mask: torch.Tensor | None,
) -> None:
    """:func:`expand` of ``u`` and an identity, written into ``out``, which may be the identity itself."""
    (n, k, h, w), c = u.shape, len(bias)
    groups, masked = 0, None
    if mask is not None and mask.ndim == 2:
        masked = _dense(mask, n, c)
    elif mask is not None:
        groups = mask.shape[1]
        _check_groups(c, groups)
        masked = _images(mask, n, groups, h, w)
    added = None if identity is None else _images(identity, n, c, h, w)
    operands = _images(u, n, k, h, w), _matrix(weight, c, k), _dense(bias, c)
    _run("expand", _images(out, n, c, h, w), added, *operands, masked, n, h * w, k, c, groups)


@_operator(
    "squeeze_(Tensor(a!) u, Tensor weight, Tensor bias) -> Tensor",
    lambda u, weight, bias: u.new_empty(u.shape[0], len(bias)),
)
def squeeze_(u: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """See :func:`ean_core.deploy.plain.squeeze_`."""
    (n, k, h, w), c = u.shape, len(bias)
    y = u.new_empty(n, c)
    operands = _images(u, n, k, h, w), _matrix(weight, c, k), _dense(bias, c)
    _run("squeeze", _dense(y, n, c), *operands, n, h * w, k, c)
    return y


def similarity_(u: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, attention: SGE) -> torch.Tensor:
    """See :func:`ean_core.deploy.plain.similarity_`."""
    return _similarity_(u, weight, bias, attention.weight, attention.bias)


@_operator(
    "similarity_(Tensor(a!) u, Tensor weight, Tensor bias, Tensor scale, Tensor shift) -> Tensor",
    lambda u, weight, bias, scale, shift: _like(u, len(scale)),
)
def _similarity_(
    u: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor
) -> torch.Tensor:
    (n, k, h, w), c, groups = u.shape, len(bias), len(scale)
    _check_groups(c, groups)
    mask = _like(u, groups)
    operands = _images(u, n, k, h, w), _matrix(weight, c, k), _dense(bias, c), _dense(scale, groups)
    _run("similarity", mask.data_ptr(), *operands, _dense(shift, groups), n, h * w, k, c, groups)
    return mask


@_operator(
    "perceptron(Tensor x, Tensor first, Tensor bias1, Tensor second, Tensor bias2) -> Tensor",
    lambda x, first, bias1, second, bias2: x.new_empty(x.shape[0], len(bias2)),
)
def perceptron(
    x: torch.Tensor, first: torch.Tensor, bias1: torch.Tensor, second: torch.Tensor, bias2: torch.Tensor
) -> torch.Tensor:
    """``sigmoid(second relu(first x + bias1) + bias2)`` of every row of ``x``: (N, K) -> (N, C).

    Args:
        x: (N, K).
        first: The :func:`panels` of (D, K).
        bias1: (D,).
        second: The :func:`panels` of (C, D).
        bias2: (C,).
    """
    (n, k), d, c = x.shape, len(bias1), len(bias2)
    _check_channels(d, c)
    out = x.new_empty(n, c)
    weights = _dense(first, d // LANES, k, LANES), _dense(second, c // LANES, d, LANES)
    operands = _dense(x, n, k), weights[0], _dense(bias1, d), weights[1], _dense(bias2, c)
    _run("perceptron", out.data_ptr(), *operands, n, k, d, c)
    return out


def panels(weight: torch.Tensor) -> torch.Tensor:
    """A matrix (C, K) as (C / LANES, K, LANES): in this order :func:`perceptron` reads it."""
    return weight.unflatten(0, (-1, LANES)).transpose(1, 2).contiguous()


@_operator(
    "remember(Tensor gates, Tensor cell) -> (Tensor, Tensor)",
    lambda gates, cell: (torch.empty_like(cell), torch.empty_like(cell)),
)
def remember(gates: torch.Tensor, cell: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """DIA's ``(h', c')``, with ``c' = f c + i tanh(g)`` and ``h' = o sigmoid(c')``, in one pass.

    Args:
        gates: (N, 4C), the sigmoids of the scores i, f, ``2 g`` and o: ``tanh(g) = 2 sigmoid(2 g) - 1``.
        cell: ``c``, (N, C).
    """
    (n, c), h, after = cell.shape, torch.empty_like(cell), torch.empty_like(cell)
    _check_channels(c)
    _run("remember", h.data_ptr(), after.data_ptr(), _dense(cell, n, c), _dense(gates, n, 4 * c), n, c)
    return h, after


def _like(x: torch.Tensor, channels: int) -> torch.Tensor:
    n, _, h, w = x.shape
    return x.new_empty(n, h, w, channels).permute(0, 3, 1, 2)


def _check_channels(*channels: int) -> None:
    if any(c % LANES for c in channels):
        raise UserError(f"an ean operator needs channels that are multiples of {LANES}, not {channels}")


def _check_groups(channels: int, groups: int) -> None:
    if groups < 1 or channels % groups:
        raise UserError(f"an ean operator: {channels} channels cannot be split into {groups} groups")


def _images(x: torch.Tensor, *shape: int) -> int:
    return _pointer(x, shape, x.is_contiguous(memory_format=torch.channels_last), "channels-last")


def _matrix(weight: torch.Tensor, c: int, k: int) -> int:
    as_needed = weight.stride()[:2] == (1, c) and c % LANES == k % LANES == 0
    return _pointer(weight, (c, k, 1, 1), as_needed, f"in memory as (C_in, C_out), both multiples of {LANES}")


def _dense(x: torch.Tensor, *shape: int) -> int:
    return _pointer(x, shape, x.is_contiguous(), "contiguous")


def _pointer(x: torch.Tensor, shape: tuple[int, ...], as_needed: bool, layout: str) -> int:
    """The address of a tensor that the loops can read.

    Raises:
        UserError: They cannot.
    """
    if x.shape != shape or not as_needed or x.dtype != torch.float32 or x.device.type != "cpu":
        found = f"{tuple(x.shape)} with strides {x.stride()}, {x.dtype} on {x.device}"
        raise UserError(f"an ean operator needs a tensor {shape}, {layout}, float32 on a CPU, not {found}")
    return x.data_ptr()


def _run(name: str, *arguments: int | None) -> None:
    loops = library()
    if loops is None:
        raise UserError(f"the operator {name} needs the compiled loops, which this machine does not have")
    threads = torch.get_num_threads()
    if threads > 1:
        _leave_forks_one_thread()
    getattr(loops, name)(*arguments, threads)


@functools.cache
def _leave_forks_one_thread() -> None:
    """Let processes that are forked off from now on run the loops, and torch's operations, with one thread.

    OpenMP's threads wait for work in this process, where they have run once, and are not there in a forked child, whose
    first team would wait for them for ever. The workers of a ``DataLoader`` have one thread too.
    """
    os.register_at_fork(after_in_child=functools.partial(torch.set_num_threads, 1))
