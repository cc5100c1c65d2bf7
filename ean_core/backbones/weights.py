"""Pretrained weights: reading ResNets of torchvision, MMPretrain and the authors, and loading them completely."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from ean_core.attention import Attention
from ean_core.checkpoint import read_checkpoint

# The authors' names (ImageNet code) -> ours, applied in this order.
AUTHORS_NAMES = [
    (r"^(layer\d)\.ModuleList\.", r"\1."),
    (r"^(layer\d)\.share_fc\.", r"\1.attention."),
    (r"^(layer\d)\.lstm\.w_ih\.0\.seq\.", r"\1.attention.input_gates."),
    (r"^(layer\d)\.lstm\.w_hh\.0\.seq\.", r"\1.attention.hidden_gates."),
]
HEADS = (
    "fc.",
    "last_linear.",
    "linear.",
    "head.",
    "decode_head.",
    "auxiliary_head.",
    "neck.",
    "data_preprocessor.",
)


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
    """
    state = source.get("state_dict", source.get("model", source))
    if not isinstance(state, Mapping):
        raise ValueError("the checkpoint holds no state dict")
    tensors = {k.removeprefix("module."): v for k, v in state.items() if isinstance(v, torch.Tensor)}
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


def fold_conv_biases(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Move every convolution's bias into the running mean of its batch norm, which is exact.

    ``BN(Wx + b)`` normalises ``Wx + b - mean = Wx - (mean - b)``; in training the batch mean cancels ``b`` anyway.
    """
    folded = dict(state)
    for key in state:
        match = re.fullmatch(r"(.*\.)?(?:conv(\d)|downsample\.0)\.bias", key)
        if match is None:
            continue
        norm = (match[1] or "") + (f"bn{match[2]}" if match[2] else "downsample.1")
        if f"{norm}.running_mean" in state:
            folded[f"{norm}.running_mean"] = state[f"{norm}.running_mean"] - folded.pop(key)
    return folded


def load_backbone(backbone: nn.Module, source: Mapping[str, Any]) -> LoadReport:
    """Load a backbone from a checkpoint of any format of :func:`convert_state_dict`; biases are folded if need be.

    Raises:
        ValueError: A tensor of the backbone outside its attention modules is missing or has another shape.
    """
    tensors = convert_state_dict(source)
    own = backbone.state_dict()
    if "conv1.bias" not in own:
        tensors = fold_conv_biases(tensors)
    counters = {key for key in own if key.endswith("num_batches_tracked")}  # absent from old files, used by nobody
    attention = attention_keys(backbone)
    missing = [key for key in own if key not in tensors and key not in counters]
    unused = [key for key in tensors if key not in own]
    wrong = [key for key in own if key in tensors and tensors[key].shape != own[key].shape]
    lost = [key for key in missing if key not in attention]
    if lost:
        raise ValueError(
            f"the checkpoint does not cover the backbone: {len(lost)} of {len(own)} tensors are missing, first "
            f"'{lost[0]}' (another depth, or not a ResNet?)"
        )
    if wrong:
        shapes = f"{tuple(tensors[wrong[0]].shape)} instead of {tuple(own[wrong[0]].shape)}"
        raise ValueError(
            f"the checkpoint does not fit the backbone: '{wrong[0]}' has shape {shapes} (another depth or attention?)"
        )
    backbone.load_state_dict({k: v for k, v in tensors.items() if k in own}, strict=False)
    return LoadReport([key for key in own if key in tensors], unused, missing)


def load_pretrained(backbone: nn.Module, source: str) -> LoadReport:
    """Load a backbone from a file, or from ``torchvision://resnet50`` where there is a network.

    Raises:
        FileNotFoundError: The file does not exist, or the download failed.
        ValueError: The checkpoint cannot be read or does not cover the backbone.
    """
    if source.startswith("torchvision://"):
        try:
            checkpoint = CheckpointLoader.load_checkpoint(source, map_location="cpu")
        except (URLError, OSError) as error:
            raise FileNotFoundError(
                f"the pretrained weights '{source}' could not be downloaded ({error}): fetch the file where there is a "
                "network and pass its path instead"
            ) from error
        except KeyError as error:
            raise ValueError(f"torchvision has no pretrained weights named '{source}'") from error
    else:
        if not Path(source).is_file():
            raise FileNotFoundError(f"pretrained weights '{source}' do not exist")
        checkpoint = read_checkpoint(source)
    return load_backbone(backbone, checkpoint)


def attention_keys(backbone: nn.Module) -> set[str]:
    """Names of the parameters that belong to attention modules."""
    return {
        f"{name}.{key}"
        for name, module in backbone.named_modules()
        if isinstance(module, Attention)
        for key in module.state_dict()
    }
