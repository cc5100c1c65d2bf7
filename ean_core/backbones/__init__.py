"""Backbones whose blocks are plugged into attention by a connection scheme, registered in MMEngine's ``MODELS``."""

from ean_core.backbones.base import StagedBackbone
from ean_core.backbones.by_name import timm_features, torchvision_features
from ean_core.backbones.cifar_resnet import EANCifarResNet
from ean_core.backbones.features import Features
from ean_core.backbones.plugged import Plugged
from ean_core.backbones.resnet import EANResNet, EANResNetV1c
from ean_core.backbones.stage import BasicBlock, Bottleneck

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "EANCifarResNet",
    "EANResNet",
    "EANResNetV1c",
    "Features",
    "Plugged",
    "StagedBackbone",
    "timm_features",
    "torchvision_features",
]
