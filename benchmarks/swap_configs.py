"""Do MMSegmentation's own ResNet configs take our backbone when its ``type`` alone changes?

Every config of the installed package with a ``ResNet`` is built with ``type="ean_core.EANResNet"`` (``ResNetV1c``:
``"ean_core.EANResNetV1c"``), without memory for weights. Of each method the structures that differ (the cheapest config
of each) also train one step on random images of 64x64, batch 2: once with our backbone and an SE attention, once with
their own. Prints the table of docs/swap.md:

    python benchmarks/swap_configs.py [--methods pspnet fcn]
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import logging
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

warnings.simplefilter("ignore")
with contextlib.redirect_stdout(io.StringIO()):
    import mmseg
    from mmengine.config import Config
    from mmengine.optim import OptimWrapper
    from mmengine.registry import DefaultScope
    from mmengine.structures import PixelData
    from mmseg.registry import MODELS
    from mmseg.structures import SegDataSample
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=False)

CONFIGS = Path(mmseg.__file__).parent / ".mim" / "configs"
SIZE, BATCH = 64, 2
SAME_STRUCTURE = (  # what two configs may differ in and still be the same network in another width
    "depth", "num_classes", "pretrained", "init_cfg", "in_channels", "channels", "data_preprocessor", "test_cfg",
    "train_cfg", "loss_decode", "loss_weight", "key_channels", "guidance_channels", "c1_in_channels", "up_channels",
    "bottleneck_channels", "ffn_dim", "num_queries", "context_channels", "spatial_channels", "checkpoint",
)  # fmt: skip


def main() -> None:
    """Build all, train some, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", help="folders of configs (default: all)")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    found: dict[str, list[tuple[Path, Config]]] = defaultdict(list)
    for path, model in resnet_models():
        if args.methods is None or path.parent.name in args.methods:
            found[path.parent.name].append((path, model))
    rows, reasons = [], []
    for method, configs in found.items():
        start = time.time()
        errors = {path: building_error(model) for path, model in configs}
        chosen = representatives(configs)
        ours = {path: training_error(model, ours=True) for path, model in chosen}
        theirs = {path: training_error(model, ours=False) for path, model in chosen}
        built = sum(error is None for error in errors.values())
        with_ours, with_own = (sum(error is None for error in some.values()) for some in (ours, theirs))
        rows.append((method, len(configs), built, len(chosen), with_ours, with_own))
        reasons += [f"{path.stem}: ours: {ours[path]}; its own: {theirs[path]}" for path in ours if ours[path]]
        print(f"# {method}: {time.time() - start:.0f} s", flush=True)
    print("| method | ResNet configs | built by `type` alone | tried | trained a step with ours | with its own |")
    print("|---|---|---|---|---|---|")
    for row in [*rows, ("**all**", *(sum(column) for column in list(zip(*rows, strict=True))[1:]))]:
        print("| " + " | ".join(map(str, row)) + " |")
    print("\n".join(reasons))


def resnet_models() -> Iterator[tuple[Path, Any]]:
    """The model configs with a ResNet that the installed package can read, in one process."""
    for path in sorted(CONFIGS.rglob("*.py")):
        if "_base_" in path.parts:
            continue
        with contextlib.suppress(ImportError):  # Mask2Former's need mmdet
            model = Config.fromfile(path).get("model", {})
            if model and str(backbone_of(model).get("type")).startswith("ResNet"):
                yield path, one_process(model)


def backbone_of(model: Any) -> Any:
    """The dict that describes the ResNet; some methods have it inside a backbone of their own."""
    backbone = model.get("backbone", {})
    return backbone.get("backbone_cfg", backbone)


def one_process(value: Any) -> Any:
    """Batch norms for synchronised ones, no weights to fetch."""
    if isinstance(value, dict):
        kept = {key: one_process(inner) for key, inner in value.items() if key not in ("pretrained", "init_cfg")}
        return {**kept, "type": "BN"} if kept.get("type") == "SyncBN" else kept
    return type(value)(map(one_process, value)) if isinstance(value, list | tuple) else value


def representatives(configs: list[tuple[Path, Any]]) -> list[tuple[Path, Any]]:
    """The cheapest config of every structure."""
    groups: dict[str, tuple[Path, Any]] = {}
    for path, model in sorted(configs, key=lambda found: (backbone_of(found[1])["depth"], found[0].name)):
        groups.setdefault(json.dumps(structure(model), sort_keys=True, default=str), (path, model))
    return list(groups.values())


def structure(value: Any) -> Any:
    """A model's config without what may differ within one structure."""
    if isinstance(value, dict):
        return {key: structure(inner) for key, inner in value.items() if key not in SAME_STRUCTURE}
    return [structure(inner) for inner in value] if isinstance(value, list | tuple) else value


def swapped(model: Any, **changes: Any) -> Any:
    """A copy of a model's config whose backbone is ours."""
    model = copy.deepcopy(model)
    backbone = backbone_of(model)
    backbone.update(type=f"ean_core.EAN{backbone['type']}", **changes)
    return model


def building_error(model: Any) -> str | None:
    """What is raised when the model is built with our backbone by ``type`` alone."""
    try:
        with DefaultScope.overwrite_default_scope("mmseg"), torch.device("meta"):
            MODELS.build(swapped(model))
    except Exception as error:  # whatever it is, it is a line of the table
        return shortened(error)
    return None


def training_error(model: Any, *, ours: bool) -> str | None:
    """What is raised in a step of training; also if our attention did not learn."""
    torch.manual_seed(0)
    options = swapped(model, attention={"type": "SE"}) if ours else copy.deepcopy(model)
    if "data_preprocessor" in options:
        options["data_preprocessor"]["size"] = (SIZE, SIZE)
    classes = 2
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(classes, (1, SIZE, SIZE)))) for _ in range(BATCH)]
    for sample in samples:
        sample.set_metainfo({"img_shape": (SIZE, SIZE), "ori_shape": (SIZE, SIZE)})
    inputs = [torch.randint(256, (3, SIZE, SIZE), dtype=torch.uint8) for _ in range(BATCH)]
    try:
        with DefaultScope.overwrite_default_scope("mmseg"):
            network = MODELS.build(options)
            network.init_weights()
            network.train()
            attention = {name: p.clone() for name, p in network.named_parameters() if ".attention." in name}
            wrapper = OptimWrapper(torch.optim.SGD(network.parameters(), lr=0.01))
            losses = network.train_step({"inputs": inputs, "data_samples": samples}, wrapper)
        if not torch.isfinite(losses["loss"]):
            return f"loss {float(losses['loss'])}"
        now = dict(network.named_parameters())
        if ours and all(torch.equal(now[name], before) for name, before in attention.items()):
            return "the attention did not learn"
    except Exception as error:  # whatever it is, it is a line of the table
        return shortened(error)
    return None


def shortened(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


if __name__ == "__main__":
    main()
