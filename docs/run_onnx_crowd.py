"""Count people with an exported model: python docs/run_onnx_crowd.py crowd.onnx photo.jpg heat.png."""

import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def read(path: str) -> Image.Image:
    """An image as the network was trained on: upright, on white, RGB, 8 bits (docs/images.md has the table)."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith(("I", "F")):  # 16 bits: the whole range, nothing is stretched
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            sys.exit(f"image '{path}' has floating-point values, or more than 16 bits: save it with 8 or 16 bits")
        image = Image.fromarray(np.round(values / 257).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


model, photo, out = sys.argv[1:4]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
image = read(photo)
height, width = session.get_inputs()[0].shape[2:]
if isinstance(height, int):  # exported without --dynamic: it takes this size alone
    image = image.resize((width, height))
pixels = np.asarray(image, np.float32).transpose(2, 0, 1)[None]  # (1, 3, H, W), RGB, 0..255
(density,) = session.run(None, {"image": pixels})  # people in each cell, (1, 1, h, w)
print(f"{density.sum():.1f} people")
heat = density[0, 0].clip(0) / max(density.max(), 1e-9)
mask = Image.fromarray((255 * heat).astype(np.uint8)).resize(image.size, Image.Resampling.BILINEAR)
Image.composite(Image.new("RGB", image.size, "red"), image, mask).save(out)
