"""Where a network can be plugged, and what attention costs there."""

from __future__ import annotations

import copy
import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from ean_core.analysis.benchmark import build
from ean_core.analysis.complexity import count_parameters
from ean_core.errors import UserError
from ean_core.inference.predictor import find_device
from ean_core.plug import Points, find_points, plug
from ean_core.plug.points import Rule
from ean_core.terminal import print_table
from ean_core.timing import interleave, ratio, synchronizer


def read_network(name: str) -> nn.Module:
    """A network with random weights, in evaluation mode.

    Args:
        name: ``"torchvision:resnet50"``, ``"timm:convnext_tiny"``, or the path of a config, whose backbone it is,
            without its attention.

    Raises:
        FileNotFoundError, UserError: There is no such network.
    """
    library, _, rest = name.partition(":")
    if not rest:
        return _backbone(name)
    try:
        if library == "torchvision":
            from torchvision.models import get_model

            try:
                return get_model(rest, weights=None, weights_backbone=None).eval()
            except TypeError:  # a network without a backbone of its own
                return get_model(rest, weights=None).eval()
        if library == "timm":
            from timm import create_model

            return create_model(rest, pretrained=False).eval()
    except ImportError as error:
        raise UserError(f"'{name}' needs timm: pip install 'ean[networks]'") from error
    except (ValueError, RuntimeError) as error:
        raise UserError(f"'{name}': {str(error).splitlines()[0]}") from error
    raise UserError(f"'{name}': networks come from torchvision:NAME, timm:NAME or a config")


def _backbone(path: str) -> nn.Module:
    model = build(path, **{"model.backbone.attention": None})
    return getattr(model, "backbone", model)


def show_points(network: nn.Module, rule: Rule, size: int, repeats: int, device: str = "cpu") -> Points:
    """Print the points of a network, with the share of a forward pass's time that each stage takes.

    Args:
        network: In evaluation mode.
        rule: See :func:`~ean_core.plug.find_points`.
        size: Side of the image.
        repeats: Passes that are timed.
        device: Such as ``"cuda"``.
    """
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(find_device(device))
    points = find_points(network.to(image.device), image, rule)
    shares = stage_shares(network, points, image, repeats)
    first = {point.stage: point.name for point in reversed(points.points)}
    rows = {
        point.name: {
            "stage": point.stage + 1,
            "channels": point.channels,
            "stride": point.stride,
            "time of the stage, %": 100 * shares[point.stage] if first[point.stage] == point.name else "",
        }
        for point in points
    }
    blocks = "-".join(map(str, points.blocks))
    print_table(f"{len(points)} points, {blocks} per stage; one image of {size} px, median of {repeats}", rows)
    for line in points.left_out:
        print(f"no point: {line}")
    return points


def stage_shares(network: nn.Module, points: Points, image: torch.Tensor, repeats: int) -> list[float]:
    """The share of a forward pass that passes between the last point of the stage before and the stage's last point.

    The first stage has the stem's time too; what comes behind the last point belongs to none, so the sum is below 1.
    """
    wait = synchronizer(image.device)
    marks: list[float] = []

    def mark(*_: Any) -> None:
        wait()
        marks.append(time.perf_counter())

    last = {point.stage: point.name for point in points}
    handles = [network.get_submodule(name).register_forward_hook(mark) for name in last.values()]
    found: list[list[float]] = []
    try:
        with torch.inference_mode():
            for i in range(repeats + 2):
                marks.clear()
                mark()
                network(image)
                mark()
                if i >= 2:  # after a warm-up
                    whole = marks[-1] - marks[0]
                    found.append([(b - a) / whole for a, b in itertools.pairwise(marks[:-1])])
    finally:
        for handle in handles:
            handle.remove()
    return [statistics.median(shares) for shares in zip(*found, strict=True)]


def show_cost(
    network: nn.Module,
    points: Points,
    attention: Mapping[str, Any],
    *,
    schemes: Mapping[str, str],
    batch: int,
    size: int,
    repeats: int,
    sharing: str = "stage",
    device: str = "cpu",
) -> dict[str, dict[str, Any]]:
    """Print and return what attention costs in a network: Eq. 9, measured in turn, and parameters.

    Args:
        network: In evaluation mode; it is not changed.
        points: Its points.
        attention: The attention's config.
        schemes: Connection schemes by the name in the table.
        batch: Images at once.
        size: Their side.
        repeats: Rounds.
        sharing: See :func:`~ean_core.plug.plug`.
        device: Such as ``"cuda"``.
    """
    images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    networks = {"without attention": network.to(device)}
    for name, scheme in schemes.items():
        networks[name] = plug(copy.deepcopy(network), attention, points, scheme, sharing=sharing)
    calls: dict[str, Callable[[], Any]] = {name: partial(net, images) for name, net in networks.items()}
    with torch.inference_mode():
        times = interleave(calls, repeats, warmup=2, synchronize=synchronizer(images.device))
    rows: dict[str, dict[str, Any]] = {}
    for name, net in networks.items():
        found = ratio(times[name], times["without attention"])
        rows[name] = {
            "ms": 1e3 * statistics.median(times[name]),
            "Eq. 9, %": found.increment,
            "quartiles": f"{100 * (found.low - 1):.1f}..{100 * (found.high - 1):.1f}",
            "parameters": count_parameters(net),
        }
    print_table(f"batch {batch}, {size} px, {device}, float32, {repeats} rounds in turn", rows)
    return rows
