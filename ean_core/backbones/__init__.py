"""Backbones whose blocks are plugged into attention by a connection scheme, registered in MMEngine's ``MODELS``."""

from ean_core.backbones.cifar_resnet import EANCifarResNet
from ean_core.backbones.resnet import EANResNet

__all__ = ["EANCifarResNet", "EANResNet"]
