"""EAN: attention modules, connection schemes, backbones and the search for where to plug attention.

The backbones are registered with this import. What runs trainings and searches is imported when it is first used:
``build_attention``, ``fuse``, ``load``, ``load_config``, ``search``, ``train`` and ``evaluate``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mmengine.config.utils import MODULE2PACKAGE

from ean_core.backbones import EANCifarResNet, EANResNet, EANResNetV1c, Plugged
from ean_core.cells import CellNetwork, CellSupernet, Genotype
from ean_core.scheme import ConnectionScheme

if TYPE_CHECKING:
    from ean_core.attention import build_attention
    from ean_core.deploy import fuse
    from ean_core.engine import evaluate, load_config, train
    from ean_core.inference import load
    from ean_core.search.algorithm1 import run_search as search

__version__ = "0.1.0"

__all__ = [
    "CellNetwork",
    "CellSupernet",
    "ConnectionScheme",
    "EANCifarResNet",
    "EANResNet",
    "EANResNetV1c",
    "Genotype",
    "Plugged",
    "__version__",
    "build_attention",
    "evaluate",
    "fuse",
    "load",
    "load_config",
    "search",
    "train",
]

MODULE2PACKAGE["ean_core"] = "ean_core"  # so that a config may say _base_ = "ean_core::seg/ean_se_voc.py"

_HOMES = {
    "build_attention": "ean_core.attention",
    "evaluate": "ean_core.engine",
    "fuse": "ean_core.deploy",
    "load": "ean_core.inference",
    "load_config": "ean_core.engine",
    "train": "ean_core.engine",
}


def __getattr__(name: str) -> Any:
    """Import what is named when it is first used; ``ean_core.search`` is a package that can be called."""
    if name == "search":
        return import_module("ean_core.search")
    if name not in _HOMES:
        raise AttributeError(f"module 'ean_core' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value
