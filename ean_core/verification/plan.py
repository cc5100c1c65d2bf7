"""Who is trained in a verification, how often, how long that takes, and which differences it can detect."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from typing import Any

import torch
from mmengine.config import Config

from ean_core.analysis.paired import detectable
from ean_core.cells import Genotype
from ean_core.engine.models import blueprint
from ean_core.errors import UserError
from ean_core.plug import find_pluggable
from ean_core.scheme import ConnectionScheme
from ean_core.verification.constant import Constant
from ean_core.verification.setup import Search

FOUND, RANDOM, CHOSEN, REFERENCE = "found", "random", "chosen", "reference"
PLAIN = ("plain", "no-attention")
"""The names of the network without attention, that of a scheme and that of a genotype."""
OWN_MODULES = "org-full"
"""All blocks connected, each to a module of its own."""
CONSTANT = "constant"
"""The found scheme with a mask that is the same for every image; the factor is behind it in the name."""
SEEDS, SCHEMES = 10, 40
"""More seeds and random schemes than these a budget does not buy."""


@dataclass(frozen=True)
class Contestant:
    """A network that is trained with every seed.

    Attributes:
        name: Its name, also in the names of folders.
        group: ``"found"``, ``"reference"``, ``"chosen"`` (named schemes) or ``"random"``.
        scheme: Its scheme or genotype as text.
        density: Fraction of the blocks that are connected; ``None`` for cells.
        backbone: What is different in its backbone's config.
    """

    name: str
    _: KW_ONLY
    group: str
    scheme: str
    density: float | None
    backbone: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For a file of JSON."""
        return asdict(self)


def contestants(
    search: Search,
    cfg: Config,
    random: int,
    more: Sequence[str] = (),
    *,
    constant: float | None = None,
    seed: int = 0,
) -> list[Contestant]:
    """The found network and those beside it, each different from the others, the found one first.

    Of a scheme these are the plain network, all blocks connected with one module a stage (Share-full) and with one a
    block (Org-full), the named schemes, and random schemes with as many connections as the found one. Of a genotype it
    is the same one without attention, and random genotypes of the same space.

    Args:
        search: The search.
        cfg: The config of the trainings (:func:`~ean_core.verification.setup.training_config`).
        random: How many random ones; of schemes there may be fewer.
        more: Further schemes, as text.
        constant: Also the found scheme with this mask (:class:`~ean_core.verification.constant.Constant`).
        seed: Of the draw. The first ones are the same however many are drawn.

    Raises:
        UserError: A named scheme does not fit, or cells are to be compared with schemes, or with a constant mask.
    """
    if constant is not None and not 0 < constant < math.inf:
        raise UserError(f"--constant takes a mask, a positive factor such as 0.5, got {constant}")
    generator = torch.Generator().manual_seed(seed)
    if search.cells:
        if more or constant is not None:
            raise UserError("--schemes and --constant are for a search of schemes, and this one has found cells")
        return _cells(search, cfg, random, generator)
    backbone = cfg.model.backbone
    blocks = find_pluggable(blueprint(backbone)).blocks
    found = ConnectionScheme.parse(backbone.scheme, blocks)
    full, own = ConnectionScheme.full(blocks), "point" if "network" in backbone else "block"

    def contestant(name: str, group: str, scheme: ConnectionScheme, **changes: Any) -> Contestant:
        changes = {"scheme": str(scheme), **changes}
        return Contestant(name, group=group, scheme=str(scheme), density=scheme.density, backbone=changes)

    result = [contestant(FOUND, FOUND, found)]
    plain = {"attention": None, "scheme": "full"}
    none = ConnectionScheme.none(blocks)
    if found != none:
        result.append(Contestant("plain", group=REFERENCE, scheme=str(none), density=0.0, backbone=plain))
    for name, sharing in (("share-full", "stage"), (OWN_MODULES, own)):
        if (found, backbone.get("sharing", "stage")) != (full, sharing):
            result.append(contestant(name, REFERENCE, full, sharing=sharing))
    if constant is not None and found != none:
        mask = {"type": f"{Constant.__module__}.{Constant.__name__}", "mask": constant}
        result.append(contestant(f"{CONSTANT}-{constant:g}", REFERENCE, found, attention=mask))
    taken = {found}
    for text in more:
        scheme = ConnectionScheme.parse(text, blocks)
        if scheme not in taken:
            taken.add(scheme)
            result.append(contestant(re.sub(r"\W+", "-", str(scheme)), CHOSEN, scheme))
    ones = sum(found)
    drawn: list[ConnectionScheme] = []
    while len(drawn) < min(random, math.comb(len(found), ones) - 1):
        places = set(torch.randperm(len(found), generator=generator)[:ones].tolist())
        scheme = ConnectionScheme.parse("".join("01"[i in places] for i in range(len(found))), blocks)
        if scheme not in (found, *drawn):
            drawn.append(scheme)
    return result + [contestant(f"random{i}", RANDOM, scheme) for i, scheme in enumerate(drawn, 1)]


def _cells(search: Search, cfg: Config, random: int, generator: torch.Generator) -> list[Contestant]:
    found = Genotype.load(cfg.model.backbone.genotype)
    space = {name: search.result[name] for name in ("operations", "attentions")}
    named = {(FOUND, FOUND): found, ("no-attention", REFERENCE): found.with_attention(None)}
    for i in range(1, random + 1):
        named[f"random{i}", RANDOM] = Genotype.random(generator, nodes=len(found.normal), **space)
    return [
        Contestant(name, group=group, scheme=str(genotype), density=None, backbone={"genotype": str(genotype)})
        for (name, group), genotype in named.items()
        if name == FOUND or genotype != found
    ]


def choose(
    budget: float, run: float, workers: int, fixed: int, random: int | None = None, seeds: int | None = None
) -> tuple[int, int]:
    """How many random schemes and seeds a budget pays for.

    As many seeds as random schemes, as far as it goes: the seeds carry the paired differences, the random schemes the
    place of the found one among them. ``ceil((fixed + random) seeds / workers)`` rounds of runs fit into the budget.

    Args:
        budget: Seconds.
        run: Seconds of one training with its test, where all workers are busy.
        workers: Runs at once.
        fixed: Networks beside the random ones, the found one included.
        random: The number of random schemes, if it is not to be chosen.
        seeds: The number of seeds, if it is not to be chosen.

    Returns:
        The numbers of random schemes and of seeds, which is at least two.

    Raises:
        UserError: The budget is too small for two seeds of these networks.
    """
    runs = workers * math.floor(budget / run + 1e-9)
    least = (fixed + (random or 0)) * (seeds or 2)
    if runs < least:
        needed = duration(math.ceil(least / workers) * run)
        raise UserError(
            f"the budget of {duration(budget)} is too small: {seeds or 2} seeds of {fixed + (random or 0)} networks "
            f"take about {needed} ({least} runs of {duration(run)}, {workers} at once); raise --budget, or shorten the "
            "trainings (--cfg-options train_cfg.max_epochs=...)"
        )
    if seeds is None:
        seeds = 2
        while seeds < SEEDS and (seeds + 1) * (fixed + (seeds + 1 if random is None else random)) <= runs:
            seeds += 1
    if random is None:
        random = min(SCHEMES, runs // seeds - fixed)
    return random, seeds


def plan_in_words(fixed: int, random: int, seeds: int, run: float, workers: int, sd: float | None, unit: str) -> str:
    """The plan: runs, how long they take, and what they can detect.

    Args:
        fixed: Networks beside the random ones.
        random: Random schemes.
        seeds: Seeds of each.
        run: Seconds of a run.
        workers: Runs at once.
        sd: The standard deviation of a paired difference, if runs have shown one.
        unit: The metric.
    """
    runs = (fixed + random) * seeds
    lines = [
        f"{fixed + random} networks ({random} of them random) x {seeds} seeds = {runs} runs of about {duration(run)}, "
        f"{workers} at once: {duration(math.ceil(runs / workers) * run)}"
    ]
    if seeds < 2:
        lines.append("a single seed gives no interval and no paired test: differences are shown as they are")
        return "\n".join(lines)
    effect, strict = detectable(seeds), detectable(seeds, 0.05 / max(1, fixed - 1 + bool(random)))
    what = f"a paired difference of {effect:.2f} SD is found with 80 % power (p < 0.05; {strict:.1f} SD where Holm's"
    what += " correction is strictest)"
    if sd is None:
        lines.append(f"{what}; SD: how much the difference varies from seed to seed, not known before")
    else:
        lines.append(f"{what}: {effect * sd:.2f} {unit}, by the SD of {sd:.2f} in the runs so far")
    return "\n".join(lines)


def read_duration(text: str) -> float:
    """``"2h"``, ``"90m"``, ``"45s"``, ``"1h30m"`` or ``"1.5d"`` in seconds.

    Raises:
        UserError: It is none.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text)
    if not parts or "".join(map("".join, parts)) != text:
        raise UserError(f"--budget takes a duration such as 2h, 90m or 1h30m, got {text[:40]!r}")
    return sum(float(number) * {"d": 86400, "h": 3600, "m": 60, "s": 1}[unit] for number, unit in parts)


def duration(seconds: float) -> str:
    """A duration as one reads it: two units at most."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min" if minutes >= 10 else f"{int(seconds // 60)} min {int(seconds % 60)} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours / 24:.1f} days"
