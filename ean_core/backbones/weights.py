"""Pretrained weights: reading ResNets of torchvision, MMPretrain and the authors, and loading them completely."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.logging import print_log
from torch import nn

from ean_core.attention import Attention
from ean_core.checkpoint import read_checkpoint, weights_of
from ean_core.errors import UserError
from ean_core.plug import Plugs

# The authors' names (ImageNet code) -> ours, applied in this order.
AUTHORS_NAMES = [
    (r"^(layer\d)\.ModuleList\.", r"\1."),
    (r"^(layer\d)\.share_fc\.", r"\1.attention."),
    (r"^(layer\d)\.lstm\.w_ih\.0\.seq\.", r"\1.attention.input_gates."),
    (r"^(layer\d)\.lstm\.w_hh\.0\.seq\.", r"\1.attention.hidden_gates."),
]
HEADS = ("fc.", "last_linear.", "linear.", "head.", "decode_head.", "auxiliary_head.", "neck.", "data_preprocessor.")

# What the authors' ImageNet networks use, by a tensor that tells which attention a file holds.
IMAGENET_ATTENTION: dict[str, dict[str, Any]] = {
    "fc1.weight": {"type": "SE", "reduction": 16},
    "weight": {"type": "SGE", "groups": 64},
    "input_gates.0.weight": {"type": "DIA", "reduction": 20},
}


@dataclass(frozen=True)
class LoadReport:
    """Names of the tensors that were loaded, that were left over in the source, and that the source lacks."""

    loaded: list[str]
    unused: list[str]
    missing: list[str]

    def __str__(self) -> str:
        def names(keys: list[str]) -> str:
            return f"{len(keys)}" + (f" ({', '.join(keys[:4])}{', ...' if len(keys) > 4 else ''})" if keys else "")

        return f"loaded {len(self.loaded)} tensors, unused {names(self.unused)}, missing {names(self.missing)}"


def convert_state_dict(source: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Rename and reshape the backbone's tensors of another code base to the names and shapes of :mod:`ean_core`.

    Understands torchvision's ResNets, MMPretrain's and MMSegmentation's (``backbone.`` prefix), ours, and the EAN
    authors' (``layerN.ModuleList.M.*``, ``layerN.share_fc.*``, ``layerN.lstm.*``), each with or without ``module.``.
    Classifier and decoder heads are dropped. Values are not changed.

    Raises:
        UserError: The checkpoint holds no state dict, or one with other than dense, real tensors.
    """
    state = weights_of(source)
    tensors = {key.removeprefix("module."): v for key, v in state.items() if isinstance(v, torch.Tensor)}
    if any(key.startswith("backbone.") for key in tensors):
        tensors = {k.removeprefix("backbone."): v for k, v in tensors.items() if k.startswith("backbone.")}
    converted = {}
    for key, value in tensors.items():
        if key.startswith(HEADS):
            continue
        for pattern, replacement in AUTHORS_NAMES:
            key = re.sub(pattern, replacement, key)
        if re.fullmatch(r"layer\d\.attention\.fc\d\.weight", key) and value.dim() == 4:
            value = value[:, :, 0, 0]  # 1x1 convolutions on a 1x1 map are linear layers
        if re.fullmatch(r"layer\d\.attention\.(weight|bias)", key):
            value = value.flatten()  # SGE: (1, G, 1, 1)
        converted[key] = value
    return converted


def detect_attention(source: Mapping[str, Any]) -> dict[str, Any] | None:
    """The config of the attention whose weights a checkpoint of any format holds, or ``None``.

    The options are those of the authors' ImageNet networks: SE reduction 16, SGE groups 64, DIA reduction 20.
    """
    for key in convert_state_dict(source):
        match = re.fullmatch(r"layer\d\.(?:\d+\.)?attention\.(.+)", key)
        if match and match[1] in IMAGENET_ATTENTION:
            return dict(IMAGENET_ATTENTION[match[1]])
    return None


def fold_conv_biases(state: Mapping[str, torch.Tensor], keep: Container[str] = ()) -> dict[str, torch.Tensor]:
    """Move every convolution's bias into the running mean of its batch norm, which is exact.

    ``BN(Wx + b)`` normalises ``Wx + b - mean = Wx - (mean - b)``; in training the batch mean cancels ``b`` anyway.

    Args:
        state: The tensors by name.
        keep: Names of biases that stay, because the network to load has them.
    """
    folded = dict(state)
    for key in state:
        if key in keep:
            continue
        match = re.fullmatch(r"(.*\.)?(?:conv(\d)|(downsample|stem)\.(\d))\.bias", key)
        if match is None:
            continue
        norm = (match[1] or "") + (f"bn{match[2]}" if match[2] else f"{match[3]}.{int(match[4]) + 1}")
        if f"{norm}.running_mean" in state:
            folded[f"{norm}.running_mean"] = state[f"{norm}.running_mean"] - folded.pop(key)
    return folded


def load_backbone(backbone: nn.Module, source: Mapping[str, Any]) -> LoadReport:
    """Load a backbone from a checkpoint of any format of :func:`convert_state_dict`; biases are folded if need be.

    Only attention may differ: what the checkpoint lacks of it keeps its values, what is left over is reported.

    Raises:
        UserError: The networks differ: a tensor of the backbone outside its attention modules is missing or has
            another shape, or the checkpoint has more convolutions or norms. The backbone is then left as it was.
    """
    tensors, own = convert_state_dict(source), backbone.state_dict()
    tensors = fold_conv_biases(tensors, keep=own.keys())
    attention = attention_keys(backbone)
    for state in (tensors, own):
        state.pop("plugged.recipe", None)  # it says how a network is plugged
    counters = {key for key in own if key.endswith("num_batches_tracked")}  # absent from old files, and unused
    report = LoadReport(
        loaded=[key for key in own if key in tensors],
        unused=[key for key in tensors if key not in own],
        missing=[key for key in own if key not in tensors and key not in counters],
    )
    lost = [key for key in report.missing if key not in attention]
    size = len(own) - len(counters)
    if lost:
        raise UserError(
            f"the checkpoint does not cover the backbone: {len(lost)} of {size} tensors are missing, "
            f"first '{lost[0]}' (another depth, or not a ResNet?)"
        )
    left_out = getattr(backbone, "left_out", ())  # stages that it is built without
    kinds = {_without_numbers(key) for key in own if key not in attention}
    extra = [key for key in report.unused if _without_numbers(key) in kinds and not key.startswith(left_out)]
    if extra:
        raise UserError(
            f"the checkpoint is of a larger network: the backbone lacks {len(extra)} of its tensors, first "
            f"'{extra[0]}' (another depth?)"
        )
    integers = [k for k in report.loaded if own[k].is_floating_point() and not tensors[k].is_floating_point()]
    if integers:
        key = integers[0]
        raise UserError(f"the checkpoint does not fit the backbone: '{key}' is of the type {tensors[key].dtype}")
    wrong = [key for key in report.loaded if tensors[key].shape != own[key].shape]
    if wrong:
        raise UserError(
            f"the checkpoint does not fit the backbone: {len(wrong)} tensors have another shape, first '{wrong[0]}' "
            f"with {tuple(tensors[wrong[0]].shape)} instead of {tuple(own[wrong[0]].shape)} (another depth, or "
            "other attention options?)"
        )
    backbone.load_state_dict({key: tensors[key] for key in report.loaded}, strict=False)
    return report


def load_pretrained(backbone: nn.Module, source: str) -> LoadReport:
    """Load a backbone from a file, or from ``torchvision://resnet50`` or ``timm://resnet50`` where there is a network.

    Raises:
        FileNotFoundError: The file does not exist, or the download failed.
        UserError: The checkpoint cannot be read or does not cover the backbone.
    """
    kind, found, name = source.rpartition("://")
    fetch = {"torchvision": _from_torchvision, "timm": _from_timm}.get(kind) if found else None
    try:
        checkpoint = read_checkpoint(source) if fetch is None else fetch(name)
    except OSError as error:  # urllib's errors are OSErrors
        if fetch is None:
            raise
        raise FileNotFoundError(
            f"the pretrained weights '{source}' could not be downloaded ({error}): fetch the file where there is a "
            "network and pass its path instead"
        ) from error
    report = load_backbone(backbone, checkpoint)
    print_log(f"{source}: {report}", logger="current")
    return report


def _from_torchvision(name: str) -> dict[str, Any]:
    # MMEngine's runner imports OpenCV, for which `import ean_core` need not wait.
    from mmengine.runner.checkpoint import get_torchvision_models

    known = get_torchvision_models()
    if name not in known:
        raise UserError(f"torchvision has no pretrained weights named 'torchvision://{name}'")
    return torch.hub.load_state_dict_from_url(known[name], map_location="cpu", weights_only=True)


def _from_timm(name: str) -> dict[str, Any]:
    import timm

    try:
        with torch.device("cpu"):
            return timm.create_model(name, pretrained=True).state_dict()
    except RuntimeError as error:
        raise UserError(f"timm has no pretrained weights for '{name}': {error}") from error


def _without_numbers(key: str) -> str:
    """``"layer3.22.conv1.weight"`` -> ``"layer#.#.conv#.weight"``: what kind of tensor it is."""
    return re.sub(r"\d+", "#", key)


def attention_keys(backbone: nn.Module) -> set[str]:
    """Names of the parameters that belong to attention modules, or to what was plugged into the network."""
    return {
        f"{name}.{key}"
        for name, module in backbone.named_modules()
        if isinstance(module, Attention | Plugs)
        for key in module.state_dict()
    }
