"""Pretrained weights: reading the ResNets of others, wherever a file keeps them, and loading them completely."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.logging import print_log
from torch import nn

from ean_core.attention import Attention
from ean_core.backbones.layouts import choose_network, find_networks
from ean_core.checkpoint import read_checkpoint, weights_of
from ean_core.errors import UserError
from ean_core.plug import Plugs
from ean_core.scheme import ConnectionScheme

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


def convert_state_dict(source: Mapping[str, Any], prefix: str | None = None) -> dict[str, torch.Tensor]:
    """Rename and reshape the backbone's tensors of another code base to the names and shapes of :mod:`ean_core`.

    Understands torchvision's ResNets, MMPretrain's and MMSegmentation's (``backbone.`` prefix), ours, the EAN authors'
    (``layerN.ModuleList.M.*``, ``layerN.share_fc.*``, ``layerN.lstm.*``), and ResNets under any other prefix
    (:mod:`~ean_core.backbones.layouts`). Classifier and decoder heads are dropped. Values are not changed.

    Args:
        source: What :func:`~ean_core.checkpoint.read_checkpoint` returns.
        prefix: What stands before the names of the network to take, in a file of several networks.

    Raises:
        UserError: The checkpoint holds no state dict, or one with other than dense, real tensors, or several networks
            none of which is to be preferred.
    """
    networks = find_networks(source)
    return _renamed(choose_network(networks, prefix) if networks else _unwrapped(source))


def _unwrapped(source: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of a network that is no ResNet, without the names that wrap it."""
    state = weights_of(source)
    tensors = {key.removeprefix("module."): v for key, v in state.items() if isinstance(v, torch.Tensor)}
    if any(key.startswith("backbone.") for key in tensors):
        tensors = {k.removeprefix("backbone."): v for k, v in tensors.items() if k.startswith("backbone.")}
    return tensors


def _renamed(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
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


def detect_attention(source: Mapping[str, Any], prefix: str | None = None) -> dict[str, Any] | None:
    """The config of the attention whose weights a checkpoint of any format holds, or ``None``.

    The options are those of the authors' ImageNet networks: SE reduction 16, SGE groups 64, DIA reduction 20.
    """
    for key in convert_state_dict(source, prefix):
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


def load_backbone(backbone: nn.Module, source: Mapping[str, Any], prefix: str | None = None) -> LoadReport:
    """Load a backbone from a checkpoint of any format of :func:`convert_state_dict`; biases are folded if need be.

    Only attention may differ: what the checkpoint lacks of it keeps its values, what is left over is reported.

    Raises:
        UserError: The networks differ: a tensor of the backbone outside its attention modules is missing or has
            another shape, or the checkpoint has more convolutions or norms; or a tensor to be loaded holds values that
            are not finite. The backbone is then left as it was.
    """
    own = backbone.state_dict()
    resnet = any(key.endswith("layer1.0.conv1.weight") for key in own)
    tensors = convert_state_dict(source, prefix) if resnet else _renamed(_unwrapped(source))
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
            f"first '{lost[0]}' ({_difference(lost[0], tensors)})"
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
    broken = [key for key in report.loaded if not torch.isfinite(tensors[key]).all()]
    if broken:
        raise UserError(
            f"the checkpoint holds values that are not finite: {len(broken)} of its tensors, first '{broken[0]}'; take "
            "one of an earlier epoch"
        )
    backbone.load_state_dict({key: tensors[key] for key in report.loaded}, strict=False)
    return report


def _difference(lost: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """What kind of network a file without a tensor is probably of."""
    if lost == "conv1.weight" and "stem.0.weight" in tensors:
        return "the file's network has a deep stem: take type='ean_core.EANResNetV1c', or deep_stem=True"
    if lost == "stem.0.weight" and "conv1.weight" in tensors:
        return "the file's network is one without a deep stem: take type='ean_core.EANResNet', or deep_stem=False"
    return "another depth, or not a ResNet?"


def load_pretrained(backbone: nn.Module, source: str, prefix: str | None = None) -> LoadReport:
    """Load a backbone from a file or, where there is a network, from an address or a name.

    Args:
        backbone: The backbone.
        source: A file, ``https://...``, ``torchvision://resnet50``, ``timm://resnet50``, or MMEngine's
            ``open-mmlab://resnet50_v1c`` and ``mmcls://resnet50``.
        prefix: As in :func:`convert_state_dict`.

    Raises:
        FileNotFoundError: The file does not exist, or the download failed.
        UserError: The checkpoint cannot be read or does not cover the backbone.
    """
    remote = "://" in source
    try:
        checkpoint = _fetched(source) if remote else read_checkpoint(source)
    except OSError as error:  # urllib's errors are OSErrors
        if not remote:
            raise
        raise FileNotFoundError(
            f"the pretrained weights '{source}' could not be downloaded ({error}): fetch the file where there is a "
            "network and pass its path instead"
        ) from error
    report = load_backbone(backbone, checkpoint, prefix)
    print_log(f"{source}: {report}", logger="current")
    return report


def _fetched(source: str) -> dict[str, Any]:
    """The checkpoint of an address or a name, read with ``weights_only``."""
    # MMEngine's runner imports OpenCV, for which `import ean_core` need not wait.
    from mmengine.runner.checkpoint import get_external_models, get_mmcls_models, get_torchvision_models

    kind, _, name = source.partition("://")
    if kind == "timm":
        return _from_timm(name)
    known = {
        "torchvision": get_torchvision_models,
        "open-mmlab": get_external_models,
        "openmmlab": get_external_models,
        "mmcls": get_mmcls_models,
    }
    url = known[kind]().get(name) if kind in known else source if kind in ("http", "https") else None
    if url is None:
        raise UserError(f"{kind} has no pretrained weights named '{source}'")
    return torch.hub.load_state_dict_from_url(url, map_location="cpu", weights_only=True)


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


def dropped(report: LoadReport, scheme: ConnectionScheme) -> list[str]:
    """The tensors of a file's stages that a network did not take, though its scheme connects their place.

    Args:
        report: What :func:`load_backbone` returned.
        scheme: The network's: modules of stages, or blocks, that it does not connect are left out as asked.
    """
    found = []
    for key in report.unused:
        match = re.match(r"layer(\d+)\.(?:(\d+)\.)?", key)
        if match is None:
            continue
        stage, block = int(match[1]) - 1, match[2]
        gates = scheme.stages[stage] if stage < len(scheme.stages) else ()
        if any(gates) if block is None or int(block) >= len(gates) else gates[int(block)]:
            found.append(key)
    return found


def attention_keys(backbone: nn.Module) -> set[str]:
    """Names of the parameters that belong to attention modules, or to what was plugged into the network."""
    return {
        f"{name}.{key}"
        for name, module in backbone.named_modules()
        if isinstance(module, Attention | Plugs)
        for key in module.state_dict()
    }
