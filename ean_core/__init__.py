"""EAN: attention modules, connection schemes, backbones and the search for where to plug attention."""

from ean_core.backbones import EANCifarResNet, EANResNet
from ean_core.scheme import ConnectionScheme

__version__ = "0.1.0"

__all__ = ["ConnectionScheme", "EANCifarResNet", "EANResNet", "__version__"]
