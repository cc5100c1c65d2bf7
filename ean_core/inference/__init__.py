"""Predictions of a trained model on images and videos: the same two lines for every task.

::

    from ean_core.inference import load

    model = load(checkpoint="work_dirs/ean_se_voc/best.pth")
    result = model("photo.jpg")              # or a PIL image, an array, or a list of these

What an application offers for this is its module ``<application>/inference.py``. Importing that module registers
everything that its models are built of, and it defines:

``predict(model, cfg, images) -> list[Result]``
    ``images`` are RGB uint8 arrays (H, W, 3), upright, possibly of different sizes; one result each, in their order.
    It runs under ``torch.inference_mode`` on a model in evaluation mode; ``model.data_preprocessor`` knows the device.
    ``model.dataset_meta`` holds what the training data said of itself, such as ``classes``. A ``Result`` is a frozen
    dataclass of NumPy arrays and plain values, in the size of the image it belongs to.
``draw(image, result) -> PIL.Image.Image``
    A picture to look at. Images of one size give pictures of one size, which the frames of a video need.
``row(result) -> dict[str, object]``
    The columns of ``predictions.csv``; the same keys in the same order for every result of a model.

and may define:

``prepare(cfg, classes) -> None``
    Make the choices of a config that its model needs, without any data. For a config file, ``classes`` are the class
    names of the checkpoint, if it has some, so that the number of classes can follow them. A config that comes from a
    checkpoint passes through as well, with ``classes=None``: its choices are made.
``forward(model, inputs) -> Tensor``
    The network as it is exported: normalised images (N, 3, H, W) -> one tensor. Without it,
    ``model(inputs, mode="tensor")``.
"""

from ean_core.inference.images import read_image, to_rgb
from ean_core.inference.model import Predictor, load

__all__ = ["Predictor", "load", "read_image", "to_rgb"]
