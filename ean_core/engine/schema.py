"""Which values the entries of a config may have, as far as the tools read them; all others are the user's own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from mmengine.config import Config
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ean_core.errors import UserError, shortened

T = TypeVar("T")
Count = Annotated[int, Field(ge=0, strict=True)]
Positive = Annotated[int, Field(ge=1, strict=True)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Level = Literal["NOTSET", "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL", "CRITICAL"]
Options = dict[str, Any]
Table = list[Options]
CLOSED = ConfigDict(extra="forbid")
"""For a dataclass whose options are all known; not strict, which would not take a dict for it."""

WORDS = {
    "model_type": "must be a dict of options",
    "dataclass_type": "must be a dict of options",
    "dict_type": "must be a dict of options",
    "list_type": "must be a list",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "bool_type": "must be True or False",
    "string_pattern_mismatch": "must be the name of a package",
}
"""What is said instead of pydantic's words, by its name of the error."""


class Part(BaseModel):
    """A part of a config: entries that are not named here may be anything."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True, protected_namespaces=())


class TrainLoop(Part):
    """``train_cfg``."""

    max_epochs: Positive = 1
    max_iters: Positive = 1
    val_begin: Count = 1
    val_interval: Positive = 1


class Loader(Part):
    """``train_dataloader`` and its like."""

    dataset: Options
    batch_size: Positive = 1
    num_workers: Count = 0
    drop_last: bool = False
    persistent_workers: bool = False
    pin_memory: bool = False
    sampler: Options | None = None


class Optimizer(Part):
    """``optim_wrapper.optimizer``."""

    lr: Rate | None = None
    weight_decay: Rate = 0.0
    momentum: Rate = 0.0


class OptimWrapper(Part):
    """``optim_wrapper``."""

    optimizer: Optimizer | None = None
    clip_grad: Options | None = None
    paramwise_cfg: Options | None = None
    accumulative_counts: Positive = 1


class Scheduler(Part):
    """One of ``param_scheduler``."""

    begin: Count = 0
    end: Annotated[float, Field(gt=0)] = 1
    by_epoch: bool = True
    milestones: list[Count] = []
    power: float = 1.0
    gamma: float = 1.0
    factor: float = 1.0
    start_factor: float = 1.0
    end_factor: float = 1.0
    eta_min: float | None = None


class Randomness(Part):
    """``randomness``."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    deterministic: bool = False
    diff_rank_seed: bool = False


class Environment(Part):
    """``env_cfg``."""

    cudnn_benchmark: bool = False
    mp_cfg: Options | None = None
    dist_cfg: Options | None = None


class Model(Part):
    """``model``."""

    backbone: Options = {}
    data_preprocessor: Options | None = None


class Workers(Part):
    """``engine``: what a task of ``--engine`` may use."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    workers: Positive | None = None
    cpus: Positive | None = None
    gpus: Rate = 0.0


class Epochs(TrainLoop):
    """``train_cfg`` of a task that counts epochs."""

    max_epochs: Positive


class ImageModel(Model):
    """``model`` of a task whose images a preprocessor normalises."""

    data_preprocessor: Options


class Entries(Part):
    """The entries of every config. A task adds its own in a class that derives from this one."""

    task: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.\w+)*$")] = "none"
    model: Model = Model()
    train_cfg: TrainLoop | None = None
    val_cfg: Options | None = None
    test_cfg: Options | None = None
    train_dataloader: Loader | None = None
    val_dataloader: Loader | None = None
    test_dataloader: Loader | None = None
    val_evaluator: Options | Table | None = None
    test_evaluator: Options | Table | None = None
    optim_wrapper: OptimWrapper | None = None
    param_scheduler: list[Scheduler] | Scheduler | None = None
    custom_hooks: Table | None = None
    default_hooks: dict[str, Options | None] | None = None
    randomness: Randomness = Randomness()
    env_cfg: Environment = Environment()
    visualizer: Options | None = None
    search: Options = {}
    engine: Workers | None = None
    toy: Options | None = None
    custom_imports: Options | None = None
    work_dir: str | Path | None = None
    load_from: str | None = None
    resume: bool = False
    default_scope: str | None = "mmengine"
    experiment_name: str | None = None
    log_level: Level | Count = "INFO"
    find_unused_parameters: bool = False


def check_entries(cfg: Config, entries: type[Entries] = Entries) -> None:
    """Find the first entry of a config that has a value of the wrong kind.

    Args:
        cfg: The config.
        entries: What is asked of it.

    Raises:
        UserError: There is one; the message names it, and the config's file.
    """
    read(entries, cfg._cfg_dict, f"'{cfg.filename}': " if cfg.filename else "")


def read(kind: type[T], options: Any, where: str = "") -> T:
    """Read options as a class whose annotations say what they may be.

    Args:
        kind: A :class:`Part`, or a dataclass with ``__pydantic_config__ = CLOSED``.
        options: The options, of any kind.
        where: What stands before the name of an option in a message, such as ``"search."``.

    Raises:
        UserError: An option has a wrong value; the message names the first.
    """
    try:
        return TypeAdapter(kind).validate_python(_plain(options))
    except ValidationError as error:
        raise UserError(_in_words(error, where, list(getattr(kind, "__dataclass_fields__", ())))) from None


def _plain(options: Any) -> Any:
    """Dicts for MMEngine's, whose missing attributes raise an error of their own; lists for tuples, used alike."""
    if isinstance(options, Mapping):
        return {key: _plain(value) for key, value in options.items()}
    return [_plain(value) for value in options] if isinstance(options, list | tuple) else options


def _in_words(error: ValidationError, where: str, known: Sequence[str]) -> str:
    """The first mistake: where it is, what is wanted, what was given; ``known`` are the options that there are."""
    found = error.errors(include_url=False)
    first = found[0]
    name = _name(first["loc"])
    full = f"{where}{name}" if name else where.rstrip(".")
    if first["type"] == "missing":
        return f"{full} is missing"
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
        return f"{full}: there is no such option; {hint}"
    several = [other for other in found if _name(other["loc"]) == name]  # the members of a union
    wanted = list(dict.fromkeys(_wanted(other) for other in several))
    text = " or ".join([wanted[0], *(words.removeprefix("must be ") for words in wanted[1:])])
    return f"{full} {text}, got {shortened(first['input'])}"


def _name(place: Sequence[int | str]) -> str:
    """``("train_cfg", "max_epochs")`` -> ``"train_cfg.max_epochs"``, without the names of a union's members."""
    parts = [part for part in place if isinstance(part, int) or re.fullmatch(r"[a-z_][a-z_\d]*", part)]
    return ".".join(map(str, parts[:-1] if parts[-1:] == ["str"] else parts))


def _wanted(error: Any) -> str:
    """What an entry must be."""
    kind, limits = error["type"], error.get("ctx", {})
    if kind == "greater_than_equal":
        return f"must be at least {limits['ge']:g}"
    if kind == "less_than_equal":
        return f"must be at most {limits['le']:g}"
    return WORDS.get(kind) or re.sub(r"^Input should be (a valid )?", "must be ", error["msg"])
