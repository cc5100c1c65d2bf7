"""What a checkpoint holds, put into a model and into a run that goes on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.runner import Runner
from torch import nn

from ean_core.checkpoint import meta_of, strange, weights_of
from ean_core.errors import UserError

PER_PARAMETER = (
    "momentum_buffer",
    "exp_avg",
    "exp_avg_sq",
    "max_exp_avg_sq",
    "exp_inf",
    "square_avg",
    "grad_avg",
    "sum",
)
"""What torch's optimizers keep of a parameter in the parameter's own shape."""
FILES = re.compile(r"best_ckpt|last_ckpt|keep_ckpt_ids")
"""Where MMEngine's ``CheckpointHook`` notes its files."""


def load_model(model: nn.Module, checkpoint: Mapping[str, Any], name: str) -> None:
    """Load a whole model strictly.

    Args:
        model: The model.
        checkpoint: What :func:`~ean_core.checkpoint.read_checkpoint` returns.
        name: Its path, for messages.

    Raises:
        UserError: Parameters are missing, left over, no dense tensors, or have another shape or type; the message names
            the first. The model is then left as it was.
    """
    state, own = weights_of(checkpoint, name), model.state_dict()
    problems = [f"'{key}' is missing" for key in own if key not in state]
    problems += [f"{key[:80]!r} is not in the model" for key in state if key not in own]
    found = [(key, _difference(state[key], own[key])) for key in own if key in state]
    problems += [f"'{key}' {difference}" for key, difference in found if difference is not None]
    if problems:
        raise UserError(
            f"checkpoint '{name}' does not fit the model: {problems[0]}"
            + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else "")
            + "; was it trained with another depth, attention, scheme, head or class count?"
        )
    try:
        model.load_state_dict(state)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[-1].strip() if str(error) else type(error).__name__
        raise UserError(f"checkpoint '{name}' does not fit the model: {reason}") from error


def _difference(value: Any, own: Any) -> str | None:
    """What keeps a value of a state dict from taking the place of the model's own; ``None`` where nothing does."""
    if isinstance(own, torch.Tensor) != isinstance(value, torch.Tensor):
        return f"is of the type {type(value).__name__} instead of {type(own).__name__}"
    if not isinstance(own, torch.Tensor):
        return None
    if value.shape != own.shape:
        return f"has shape {tuple(value.shape)} instead of {tuple(own.shape)}"
    if own.is_floating_point() and not value.is_floating_point():  # the reverse is a counter that was averaged
        return f"has the type {value.dtype} instead of {own.dtype}".replace("torch.", "")
    return None


def notes_removed(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint without the notes that MMEngine acts upon.

    ``resume`` would run ``meta["config"]`` as Python code, and ``CheckpointHook`` remove the files that the message hub
    names as those of earlier checkpoints.
    """
    kept = dict(checkpoint)
    if "meta" in kept:
        kept["meta"] = {key: value for key, value in meta_of(kept).items() if key != "config"}
    hub = kept.get("message_hub")
    if isinstance(hub, Mapping) and isinstance(hub.get("runtime_info"), Mapping):
        notes = {key: value for key, value in hub["runtime_info"].items() if not FILES.match(str(key))}
        kept["message_hub"] = {**hub, "runtime_info": notes}
    return kept


@contextmanager
def resuming(runner: Runner, name: str) -> Iterator[None]:
    """Around MMEngine's ``resume``: what the checkpoint lacks, or holds in another form, is the user's to know.

    Args:
        runner: What is resumed.
        name: The checkpoint's path, for messages.

    Raises:
        UserError: It holds no epoch or iteration, or the state of another optimizer.
    """
    try:
        yield
    except (UserError, OSError):
        raise
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise _cannot_resume(name, what) from error
    loop: Any = runner.train_loop
    for word in ("epoch", "iter"):
        if type(getattr(loop, f"_{word}")) is not int or getattr(loop, f"_{word}") < 0:
            raise _cannot_resume(name, f"its {word} is no number")
    if not all(isinstance(value, bool) for value in runner.message_hub._resumed_keys.values()):
        raise _cannot_resume(name, "its notes on what is resumed are no yes or no")
    wrapper: Any = runner.optim_wrapper
    optimizer = getattr(wrapper, "optimizer", None)
    if isinstance(optimizer, torch.optim.Optimizer):
        names = {parameter: key for key, parameter in runner.model.named_parameters()}
        if not optimizer.state.keys() <= names.keys():
            raise _cannot_resume(name, "the optimizer's state is of other parameters")
        for parameter, state in optimizer.state.items():
            for key in (key for key in PER_PARAMETER if isinstance(state, Mapping) and state.get(key) is not None):
                if _wrong_moment(state[key], parameter):
                    raise _cannot_resume(name, f"the optimizer's '{key}' of '{names[parameter]}' does not fit it")


def _wrong_moment(moment: Any, parameter: torch.Tensor) -> bool:
    return not isinstance(moment, torch.Tensor) or moment.shape != parameter.shape or strange(moment) is not None


def _cannot_resume(name: str, why: str) -> UserError:
    return UserError(
        f"checkpoint '{name}' cannot be resumed: {why}; start anew, or load its weights alone with --pretrained"
    )
