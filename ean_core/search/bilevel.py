"""One step of a differentiable architecture search (DARTS, arXiv 1806.09055): the architecture's, then the weights'.

The architecture ``a`` minimises ``L_val(w*(a), a)`` where ``w*(a)`` minimises ``L_train(w, a)``. Each step follows
the gradient of an approximation, with ``w`` the present weights:

* ``order=1``: ``w*(a) = w``; the gradient is ``dL_val/da`` at ``w``.
* ``order=2``: ``w*(a) = w' = w - lr (m b + dL_train/dw + wd w)``, which is the step that SGD with momentum ``m``, its
  buffers ``b`` and weight decay ``wd`` would take now. By the chain rule the gradient is
  ``dL_val/da - (d2 L_train / da dw) u`` at ``w'`` and ``w``, with ``u = lr dL_val/dw'``. The product is a central
  difference: ``(dL_train/da at w + e u  -  dL_train/da at w - e u) / 2e``, ``e = 0.01 / |u|``.

Different from the released code of DARTS and Att-DARTS: its virtual step takes all buffers for zero (a bare ``except``
hides a lookup that fails), its architecture counts in the clipping of the weights' gradients, and its first-order step
renews the running statistics of batch norms on D_val. Like it, the virtual step is not clipped.

Passes that belong to the architecture's step leave no trace: running statistics stay, no gradient is stored in a
weight, and random numbers (dropout) are given back, so that all passes of D_train draw what the weights' step draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import SGD, Optimizer

from ean_core.errors import UserError

Loss = Callable[[], Tensor]
Gradients = list[Tensor | None]
STEP = 0.01
"""The length of the step ``e u`` of the central difference, as in DARTS."""


class Losses(NamedTuple):
    """What a step has seen, before it changed anything; ``val`` is ``None`` where the architecture did not learn."""

    train: Tensor
    val: Tensor | None


def search_step(
    model: nn.Module,
    architecture: Sequence[nn.Parameter],
    weights_optimizer: Optimizer,
    architecture_optimizer: Optimizer,
    train_loss: Loss,
    val_loss: Loss,
    *,
    clip: float | None = None,
    order: int = 1,
    learn_architecture: bool = True,
) -> Losses:
    """Let the architecture take a step on D_val, then the weights one on D_train.

    Args:
        model: In training mode.
        architecture: The architecture's parameters.
        weights_optimizer: Of all other parameters, the weights.
        architecture_optimizer: Of ``architecture``.
        train_loss: The model's loss on a batch of D_train, computed anew at each call on the same inputs.
        val_loss: The same on a batch of D_val.
        clip: The largest norm of the weights' gradient; ``None``: any.
        order: 1 or 2, see above.
        learn_architecture: ``False``: the weights alone take their step, as in the first epochs of PC-DARTS.

    Returns:
        Both losses.

    Raises:
        UserError: Another order, or one of 2 with an optimizer whose step is not the one above.
    """
    val = None
    if learn_architecture:
        val, gradients = architecture_gradient(model, architecture, weights_optimizer, train_loss, val_loss, order)
        _step(architecture_optimizer, architecture, gradients)
    weights = parameters_of(weights_optimizer)
    with _constant(architecture):
        train = train_loss()
        gradients = _gradients(train, weights)
    _step(weights_optimizer, weights, gradients, clip)
    return Losses(train.detach(), val)


def architecture_gradient(
    model: nn.Module,
    architecture: Sequence[nn.Parameter],
    weights_optimizer: Optimizer,
    train_loss: Loss,
    val_loss: Loss,
    order: int = 1,
) -> tuple[Tensor, Gradients]:
    """The loss on D_val, and its gradient with respect to the architecture; the model is as it was before.

    Returns:
        The loss, at ``w`` for ``order=1`` and at ``w'`` for ``order=2``; one gradient for each parameter, ``None`` for
        one that the loss does not depend on.

    Raises:
        UserError: See :func:`search_step`.
    """
    if order not in (1, 2):
        raise UserError(f"search.order must be 1 or 2, got {order!r}")
    weights = parameters_of(weights_optimizer)
    if order == 1:
        with traceless(model), _constant(weights):
            val = val_loss()
            return val.detach(), _gradients(val, architecture)

    check_second_order(weights_optimizer)
    rates = [group["lr"] for group in weights_optimizer.param_groups for _ in group["params"]]
    with traceless(model), _constant(architecture):
        steps = _virtual_step(weights_optimizer, _gradients(train_loss(), weights))
    with _moved(weights, steps), traceless(model):
        val = val_loss()
        gradients = _gradients(val, [*architecture, *weights])
    direct, slopes = gradients[: len(architecture)], gradients[len(architecture) :]
    # A weight that D_train's loss does not reach takes no virtual step, and so passes nothing on.
    u = [None if v is None or s is None else lr * v for v, s, lr in zip(slopes, steps, rates, strict=True)]
    mixed = _mixed_product(model, architecture, weights, train_loss, u)
    return val.detach(), [
        a if b is None else b.neg() if a is None else a - b for a, b in zip(direct, mixed, strict=True)
    ]


def check_second_order(optimizer: Optimizer) -> None:
    """Check that an optimizer takes the step that ``order=2`` differentiates.

    Raises:
        UserError: It does not.
    """
    unlike = [
        name for group in optimizer.param_groups for name in ("nesterov", "dampening", "maximize") if group.get(name)
    ]
    if not isinstance(optimizer, SGD) or unlike:
        what = f"{type(optimizer).__name__}{f' with {unlike[0]}' if unlike else ''}"
        raise UserError(f"search.order=2 unrolls a step of plain SGD with momentum, not of {what}: take search.order=1")


def parameters_of(optimizer: Optimizer) -> list[nn.Parameter]:
    """All parameters of an optimizer, in its order."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _virtual_step(optimizer: Optimizer, gradients: Gradients) -> Gradients:
    """What SGD would add to each weight: ``-lr (m b + g + wd w)``."""
    steps: Gradients = []
    left = iter(gradients)
    for group in optimizer.param_groups:
        for w in group["params"]:
            g = next(left)
            if g is None:
                steps.append(None)  # SGD leaves out what has no gradient
                continue
            buffer = optimizer.state.get(w, {}).get("momentum_buffer")
            step = g + group["weight_decay"] * w.detach()
            steps.append(-group["lr"] * (step if buffer is None else step + group["momentum"] * buffer))
    return steps


def _mixed_product(
    model: nn.Module,
    architecture: Sequence[nn.Parameter],
    weights: Sequence[nn.Parameter],
    train_loss: Loss,
    u: Gradients,
) -> Gradients:
    """``(d2 L_train / da dw) u`` by a central difference of ``dL_train/da`` along ``u``."""
    length = sum((part.square().sum() for part in u if part is not None), torch.zeros(())).sqrt()
    if not length > 0:
        return [None] * len(architecture)
    e = STEP / length
    sides = []
    for sign in (1, -1):
        steps = [None if part is None else sign * e * part for part in u]
        with _moved(weights, steps), traceless(model), _constant(weights):
            sides.append(_gradients(train_loss(), architecture))
    return [None if a is None or b is None else (a - b) / (2 * e) for a, b in zip(*sides, strict=True)]


def _gradients(loss: Tensor, parameters: Sequence[Tensor]) -> Gradients:
    """With respect to these alone; nothing is stored in any ``.grad``."""
    return list(torch.autograd.grad(loss, list(parameters), allow_unused=True))


def _step(
    optimizer: Optimizer, parameters: Sequence[nn.Parameter], gradients: Gradients, clip: float | None = None
) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    if clip is not None:
        nn.utils.clip_grad_norm_(parameters, clip)
    optimizer.step()
    optimizer.zero_grad()


@contextmanager
def _moved(weights: Sequence[nn.Parameter], steps: Gradients) -> Iterator[None]:
    """Add a step to each weight, and put the very same bits back in the end."""
    saved = [None if step is None else w.detach().clone() for w, step in zip(weights, steps, strict=True)]
    try:
        with torch.no_grad():
            for w, step in zip(weights, steps, strict=True):
                if step is not None:
                    w.add_(step)
        yield
    finally:
        with torch.no_grad():
            for w, before in zip(weights, saved, strict=True):
                if before is not None:
                    w.copy_(before)


@contextmanager
def _constant(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Parameters that count as constants: what their gradients would need is not kept in memory."""
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    try:
        for parameter in learned:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)


@contextmanager
def traceless(model: nn.Module) -> Iterator[None]:
    """Passes that change no running statistics of batch norms, and give back the random numbers that they draw."""
    norms = [part for part in model.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    used = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
    try:
        for norm in norms:
            norm.track_running_stats = False  # in training mode: batch statistics, and no renewal
        with torch.random.fork_rng(devices=list(used)):
            yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
