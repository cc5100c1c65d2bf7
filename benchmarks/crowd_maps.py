"""What tiles and borders do to a trained counter's map: the error of the count against the overlap; rows at the border.

    python benchmarks/crowd_maps.py tiles CHECKPOINT ... --data-root FOLDER --part B
    python benchmarks/crowd_maps.py borders CHECKPOINT ... --data-root FOLDER --part B

``tiles`` compares the count of tiles with that of the whole image, and both with the annotated number. ``borders``
compares the mean density of the rows and columns next to the border with the annotated one, and with that of flat grey.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch

from crowd_counting.dataset import CrowdDataset
from ean_core.inference import Predictor, load
from ean_core.terminal import print_table

OVERLAPS = (0, 32, 64, 128, 192, 256)
AREA = 100  # densities are people a square of this many pixels


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tiles", "borders"])
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--part", choices=["A", "B"])
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--images", type=int, default=10, help="the first images of the test set")
    args = parser.parse_args()
    for checkpoint in args.checkpoints:
        model = load(checkpoint=checkpoint)
        data = CrowdDataset(args.data_root, part=args.part, split="test", density={"type": "fixed", "sigma": 15})
        data.samples, data.points = data.samples[: args.images], data.points[: args.images]
        with torch.inference_mode():
            rows = tiles(model, data, args.tile) if args.what == "tiles" else borders(model, data)
        print(f"receptive field: {radius(model)} pixels each way")
        print_table(f"{args.what}: {checkpoint}, {len(data)} images", rows)


def tiles(model: Predictor, data: CrowdDataset, tile: int) -> dict[str, dict[str, Any]]:
    """By overlap: pixels computed, deviation from the whole image's count in percent of it, MAE, seconds an image."""
    network: Any = model.model
    whole = _counts(network, data, None)
    table = {"whole image": _row(whole, whole, data, 1.0)}
    for overlap in OVERLAPS:
        pixels, area = 0, 0

        def watch(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            nonlocal pixels
            pixels += inputs[0].shape[-2] * inputs[0].shape[-1] * len(inputs[0])

        handle = network.backbone.register_forward_pre_hook(watch)
        found = _counts(network, data, {"tile": tile, "overlap": overlap})
        handle.remove()
        area = sum(item["inputs"][0].numel() for item in data)
        table[str(overlap)] = _row(found, whole, data, pixels / area)
    return table


def _counts(network: Any, data: CrowdDataset, tiling: dict[str, int] | None) -> tuple[np.ndarray, float]:
    start = time.perf_counter()
    counts = [float(network.predict(item["inputs"][None], tiling).sum()) for item in data]
    return np.array(counts), (time.perf_counter() - start) / len(counts)


def _row(found: Any, whole: Any, data: CrowdDataset, pixels: float) -> dict[str, float]:
    counts, seconds = found
    deviation = 100 * np.abs(counts - whole[0]) / whole[0]
    mae = np.abs(counts - data.counts).mean()
    return {"pixels": pixels, "mean %": deviation.mean(), "worst %": deviation.max(), "MAE": mae, "s": seconds}


def borders(model: Predictor, data: CrowdDataset) -> dict[str, dict[str, Any]]:
    """People a square of 100x100 pixels in the first four rows or columns from each border, and in the middle."""
    network: Any = model.model
    stride = network.stride
    found = [network.predict(item["inputs"][None])[0, 0].numpy() for item in data]
    flat = [
        network.predict(torch.full((1, 3, 384, 384), value, dtype=torch.uint8))[0, 0].numpy() for value in (0, 124, 255)
    ]
    maps = {"predicted": found, "annotated": [item["density"][0].numpy() for item in data]}
    maps |= {f"flat {value}": [one] for value, one in zip((0, 124, 255), flat, strict=True)}
    table = {}
    for name, some in maps.items():
        scale = (AREA / stride) ** 2
        for side, turns in (("top", 0), ("right", 1), ("bottom", 2), ("left", 3)):
            lines = np.mean([np.rot90(one, turns)[:4].mean(1) for one in some], 0) * scale
            middle = np.mean([one[8:-8, 8:-8].mean() for one in some]) * scale
            table[f"{name}, {side}"] = {**{f"row {i + 1}": v for i, v in enumerate(lines)}, "inside": middle}
    return table


def radius(model: Predictor, side: int = 768) -> int:
    """The largest distance, in pixels, at which an input pixel changes the middle cell."""
    network: Any = model.model
    pixels = torch.randn(1, 3, side, side, requires_grad=True)
    network.density(pixels)[0, 0, side // 16, side // 16].backward()
    assert pixels.grad is not None
    seen = torch.nonzero(pixels.grad[0].abs().sum(0))
    middle = side // 2
    return int(max(middle - seen.min(), seen.max() - middle - 7))


if __name__ == "__main__":
    main()
