"""The search split of the EAN paper: D_train and D_val, both taken from the training images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ean_core.errors import UserError

Indices = NDArray[np.int64]


def split_search(
    labels: NDArray[np.int64], held_out: int, seed: int | None = None, classes: Sequence[str] | None = None
) -> tuple[Indices, Indices]:
    """Hold out ``held_out`` images of every class: D_val; the others are D_train.

    The paper holds out 100 images a class of CIFAR-100 and of ImageNet; the authors' ImageNet code takes the first
    100 of each class.

    Args:
        labels: Labels of the training images, shape (N,).
        held_out: Images of each class that go to D_val.
        seed: Which of them: ``None`` takes each class's first, as the authors do; a number draws them, class by class,
            so that one class's draw does not depend on the others.
        classes: Class names, for messages.

    Returns:
        Indices of D_train and of D_val, each ascending; together every index once.

    Raises:
        UserError: ``held_out`` is not positive, or a class would have no image left to train on.
    """
    if held_out < 1:
        raise UserError(f"held_out must be at least 1 image a class, got {held_out}")
    chosen = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        if held_out >= len(own):
            name = classes[label] if classes is not None else label
            raise UserError(
                f"cannot hold out {held_out} images a class: class '{name}' has {len(own)} training images; "
                f"set held_out to {len(own) - 1} or less"
                if len(own) > 1
                else f"cannot hold out {held_out} images a class: class '{name}' has a single training image"
            )
        order = own if seed is None else np.random.default_rng([seed, int(label)]).permutation(own)
        chosen.append(order[:held_out])
    validation = np.sort(np.concatenate(chosen)).astype(np.int64)
    training = np.setdiff1d(np.arange(len(labels), dtype=np.int64), validation)
    return training, validation


def split_test(labels: NDArray[np.int64], fraction: float = 0.2) -> tuple[Indices, Indices]:
    """Set a fraction of every class (at least one image) aside for testing, where a folder has no test images.

    The draw is always the same.

    Returns:
        Indices of the training and of the test images, each ascending.

    Raises:
        UserError: A class has a single image.
    """
    chosen = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        if len(own) < 2:
            raise UserError(f"class {label} has a single image: two are the least, one to train and one to test on")
        order = np.random.default_rng([0, int(label)]).permutation(own)
        chosen.append(order[: max(1, round(fraction * len(own)))])
    test = np.sort(np.concatenate(chosen)).astype(np.int64)
    return np.setdiff1d(np.arange(len(labels), dtype=np.int64), test), test
