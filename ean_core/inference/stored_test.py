"""The config that travels in a checkpoint, for a test: what a test builds of it is checked as a model is.

A data set, its transforms, a metric and hooks can read and write files as well. Only those of this project and the few
of the libraries that our configs name are built, and none that would fetch its files from elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry, root

from ean_core.application import find_application
from ean_core.checkpoint import read_checkpoint
from ean_core.errors import UserError
from ean_core.inference.admission import ADVICE, check_model
from ean_core.inference.stored_config import building_stored, stored_config

BUILT = (
    "test_dataloader", "test_evaluator", "test_cfg", "tta_model", "tta_pipeline", "default_hooks", "custom_hooks",
    "visualizer",
)  # fmt: skip
UNBUILT = ("train_dataloader", "val_dataloader", "val_evaluator", "train_cfg", "val_cfg", "optim_wrapper", "tiling")
LIBRARIES = (
    "ADE20KDataset", "BaseSegDataset", "COCOStuffDataset", "CityscapesDataset", "LoveDADataset", "PascalVOCDataset",
    "DefaultSampler", "LoadAnnotations", "LoadImageFromFile", "LocalVisBackend", "LoggerHook", "PackSegInputs",
    "RandomFlip", "Resize", "SegTTAModel", "SyncBuffersHook", "TestLoop", "TestTimeAug", "Visualizer", "adaptive",
    "color_ignore_orientation", "fixed",
)  # fmt: skip
FUNCTIONS = (
    "classification.datasets.build_dataset",
    "classification.datasets.collate",
    "crowd_counting.dataset.collate",
    "ean_core.engine.seed_worker",
)
OWN = ("classification", "crowd_counting", "ean_core", "segmentation")
ELSEWHERE = ("backend_args", "file_client_args")


def stored_test(checkpoint: str | os.PathLike[str], trust: Collection[str] = ()) -> Config:
    """The config in a checkpoint, for :func:`ean_core.engine.load_config`; results go beside the checkpoint.

    Args:
        checkpoint: The file.
        trust: Types that may be built besides, by the names that the config gives them.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: It cannot be read, holds no config, or one that builds what is not trusted.
    """
    name = os.fspath(checkpoint)
    stored = stored_config(read_checkpoint(name), name)
    kept = {
        key: value
        for key, value in stored._cfg_dict.items()
        if key in ("model", *BUILT, *UNBUILT) or not isinstance(value, Mapping | list | tuple)
    }
    for key in ("load_from", "resume", "launcher"):
        kept.pop(key, None)
    cfg = Config({**kept, "work_dir": str(Path(name).parent)})
    with building_stored(name):
        find_application(cfg).configure_prediction(cfg, None)
        check_model(cfg, name, trust)
        for key, value in (entry for part in BUILT for entry in _entries(cfg.get(part))):
            if key in ELSEWHERE and value:
                raise UserError(f"the config in '{name}' would fetch files by {key} = {str(value)[:80]!r}: {ADVICE}")
            if key == "type" and value not in trust and not _is_ours(value):
                raise UserError(f"the config in '{name}' builds {str(value)[:80]!r} for a test: {ADVICE}")
    return cfg


def _is_ours(kind: Any) -> bool:
    """Whether a test may build it: a class that this project registers, or one of the names above."""
    if not isinstance(kind, str) or kind in LIBRARIES or kind in FUNCTIONS:
        return isinstance(kind, str)
    module, _, name = kind.rpartition(".")
    if module.partition(".")[0] in OWN:
        with suppress(ImportError):
            import_module(module)  # registers what it has
    homes = [registry.module_dict[name].__module__ for registry in vars(root).values() if _has(registry, name)]
    own = [home for home in homes if home.split(".")[0] in OWN]
    return any(not module or home == module or home.startswith(f"{module}.") for home in own)


def _has(registry: Any, name: str) -> bool:
    return isinstance(registry, Registry) and name in registry.module_dict


def _entries(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield key, inner
            yield from _entries(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _entries(inner)
