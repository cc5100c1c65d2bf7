"""Predictions of trained models on images and videos: the same two lines for every task.

::

    from ean_core.inference import load

    model = load(checkpoint="work_dirs/ean_se_voc/best.pth")
    result = model("photo.jpg")              # or a PIL image, an array, or a list of these
"""

from ean_core.images import read_image, to_rgb
from ean_core.inference.predictor import Predictor, load

__all__ = ["Predictor", "load", "read_image", "to_rgb"]
