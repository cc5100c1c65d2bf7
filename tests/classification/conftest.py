"""Small data sets on disk, and the tools as functions on a small network."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ean_testing import runs


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes with six training and three test images each, in CIFAR-100's format; tests leave it as it is."""
    from classification.toy_shapes import make_toy

    return make_toy(tmp_path_factory.mktemp("data"), "cifar100", train=6, test=3)


@pytest.fixture(scope="session")
def small() -> list[str]:
    """Options for a run of seconds: three epochs of three iterations, each with its line in history.jsonl."""
    return [
        "model.backbone.depth=11",
        "image_size=16",
        "train_dataloader.batch_size=12",
        "val_dataloader.batch_size=5",
        "test_dataloader.batch_size=5",
        "train_cfg.max_epochs=3",
        "custom_hooks.2.interval=1",
        "optim_wrapper.optimizer.lr=0.05",
    ]


@pytest.fixture(scope="session")
def tool() -> Iterator[Callable[[str], Callable[[list[str]], None]]]:
    """``tool("train")`` is the ``main`` of tools/train.py."""

    with pytest.MonkeyPatch.context() as patch:  # MMEngine formats the config's text at every save, which is slow
        patch.setattr("yapf.yapflib.yapf_api.FormatCode", lambda text, **_: (text, True))
        yield runs.tool


@pytest.fixture
def write_images() -> Callable[..., None]:
    """``write_images(folder, **{CLASS: number})`` fills class folders with PNG files, no two of them alike."""
    count = 0

    def write(folder: Path, **classes: int) -> None:
        nonlocal count
        for name, number in classes.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            for i in range(number):
                count += 1
                pixels = np.random.default_rng(count).integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(folder / name / f"{i:03d}.png")

    return write


@pytest.fixture(autouse=True)
def fresh_classification() -> Iterator[None]:
    """Forget decoded images, and the loggers and message hubs that runs of one second share."""
    yield
    from mmengine.logging import MessageHub, MMLogger

    from classification.datasets import load_images

    load_images.cache_clear()
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            handler.close()
    for registry in (MessageHub, MMLogger):
        registry._instance_dict.clear()
