"""Labelled images on disk: CIFAR-10/100 in torchvision's files, and a folder a class.

The layouts, by the name that configs use::

    cifar100   ROOT/cifar-100-python/{train,test,meta}
    cifar10    ROOT/cifar-10-batches-py/{data_batch_1..5,test_batch,batches.meta}
    folder     ROOT/train/CLASS/*.png and ROOT/val or ROOT/test (ImageNet); or ROOT/CLASS/*.png alone, of which a
               fifth of every class is then the test set
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError

import numpy as np
from numpy.typing import NDArray
from torchvision.datasets import CIFAR10, CIFAR100

from classification.splits import split_test
from ean_core.errors import UserError, first_line
from ean_core.images import SUFFIXES

PARTS = {"train": ("train",), "val": ("val", "test"), "test": ("test", "val")}  # part -> folders, the first found


class Cifar(NamedTuple):
    """Names in one of the two CIFAR formats."""

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    names: str
    labels: str


CIFAR = {
    "cifar100": Cifar("cifar-100-python", ("train",), ("test",), "meta", "fine_label_names", "fine_labels"),
    "cifar10": Cifar(
        "cifar-10-batches-py",
        tuple(f"data_batch_{i}" for i in range(1, 6)),
        ("test_batch",),
        "batches.meta",
        "label_names",
        "labels",
    ),
}


class Source(NamedTuple):
    """Images of one part: either pixels, uint8 (N, 32, 32, 3), or paths; their labels (N,); all class names."""

    items: NDArray[np.uint8] | list[Path]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]


def detect_layout(root: str | Path, preferred: str = "folder") -> str:
    """The layout of a folder: CIFAR's where its files lie (of two, the preferred), else ``"folder"``."""
    if preferred in CIFAR and _cifar_folder(Path(root), preferred) is not None:
        return preferred
    if not Path(root, "train").is_dir():
        for layout in CIFAR:
            if _cifar_folder(Path(root), layout) is not None:
                return layout
    return "folder"


def read_classes(root: str | Path, layout: str, chosen: Sequence[str] | None = None) -> tuple[str, ...]:
    """The class names of a data set; a class's label is its place among them.

    Args:
        root: The data folder.
        layout: One of the names above.
        chosen: For folders: use only these classes, in this order.

    Raises:
        FileNotFoundError: There is no such data.
        UserError: There are fewer than two classes, or a chosen one does not exist.
    """
    if layout in CIFAR:
        if chosen is not None:
            raise UserError("CIFAR's files name their own classes: leave --classes out")
        path = _cifar_files(Path(root), layout) / CIFAR[layout].meta
        names = _unpickle(path).get(CIFAR[layout].names)
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise UserError(f"'{path}' is not a CIFAR file: fetch the archive again")
        return tuple(names)
    folder = _part_folder(Path(root), "train")
    names = _subfolders(folder)
    missing = [name for name in chosen or () if name not in names]
    if missing:
        raise UserError(f"class '{missing[0]}' has no folder in '{folder}'")
    if len(set(chosen or names)) != len(chosen or names):
        raise UserError("a class is named twice")
    if not names:
        raise UserError(f"'{folder}' holds no class folders: put the images into one folder a class")
    if len(chosen or names) < 2:
        raise UserError(f"'{folder}' holds a single class, '{names[0]}': at least two are needed")
    return tuple(chosen or names)


def read_source(root: str | Path, layout: str, part: str, chosen: Sequence[str] | None = None) -> Source:
    """The images of ``part``: ``"train"``, ``"val"`` or ``"test"`` (the last two are one where only one exists).

    Raises:
        FileNotFoundError: There is no such data.
        UserError: A part or layout that does not exist, a folder without images, damaged CIFAR files.
    """
    if part not in PARTS:
        raise UserError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
    classes = read_classes(root, layout, chosen)
    if layout in CIFAR:
        return _read_cifar(Path(root), layout, part, classes)
    if layout != "folder":
        raise UserError(f"layout must be folder, {' or '.join(CIFAR)}, got {layout!r}")
    folder = _part_folder(Path(root), part)
    unknown = [name for name in _subfolders(folder) if name not in classes] if chosen is None else []
    if unknown:
        raise UserError(f"class '{unknown[0]}' in '{folder}' has no folder among the training images")
    paths, labels = [], []
    for label, name in enumerate(classes):
        own = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in SUFFIXES)
        if not own and (part == "train" or folder == Path(root)):
            raise UserError(f"class folder '{folder / name}' holds no images ({', '.join(SUFFIXES)})")
        paths += own
        labels += [label] * len(own)
    if not paths:
        raise UserError(f"'{folder}' holds no images of the training classes")
    source = Source(paths, np.array(labels, np.int64), classes)
    if folder != Path(root):
        return source
    index = split_test(source.labels)[0 if part == "train" else 1]
    return Source([paths[i] for i in index], source.labels[index], classes)


def download_cifar(layout: str, root: str | Path) -> str:
    """Fetch and unpack CIFAR-10 or CIFAR-100 (170 MB) into ``root``, unless it is there; torchvision downloads.

    Returns:
        A line that says where it lies.

    Raises:
        ConnectionError: The download failed; the message says what to do by hand.
    """
    dataset = {"cifar10": CIFAR10, "cifar100": CIFAR100}[layout]
    try:
        dataset(root, download=True)
    except (URLError, HTTPException, ConnectionError, TimeoutError, RuntimeError) as error:
        raise ConnectionError(
            f"the download failed ({error}): fetch {dataset.url} by hand and unpack it in '{root}'"
        ) from None
    return f"{layout}: {Path(root, CIFAR[layout].folder)}"


def _part_folder(root: Path, part: str) -> Path:
    if not root.is_dir():
        raise FileNotFoundError(f"data folder '{root}' does not exist")
    if not (root / "train").is_dir():
        if any((root / name).is_dir() for name in ("val", "test")):
            raise FileNotFoundError(f"'{root}' has no folder train/ beside its val/ or test/")
        return root  # the classes lie directly in it
    for name in PARTS[part]:
        if (root / name).is_dir() and (part == "train" or _subfolders(root / name)):
            return root / name
    raise FileNotFoundError(
        f"'{root}' has train/ but no class folders in val/ or test/: add them, or name '{root / 'train'}' itself, of "
        "which a fifth is then set aside for testing"
    )


def _subfolders(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _cifar_folder(root: Path, layout: str) -> Path | None:
    for folder in (root / CIFAR[layout].folder, root):
        if folder.name == CIFAR[layout].folder and folder.is_dir():
            return folder
    return None


def _cifar_files(root: Path, layout: str) -> Path:
    folder = _cifar_folder(root, layout)
    if folder is None:
        raise FileNotFoundError(f"'{root}' holds no folder '{CIFAR[layout].folder}'")
    return folder


def _read_cifar(root: Path, layout: str, part: str, classes: tuple[str, ...]) -> Source:
    form, folder = CIFAR[layout], _cifar_files(root, layout)
    images, labels = [], []
    for name in form.train if part == "train" else form.test:
        entry = _unpickle(folder / name)
        try:
            images.append(_array(entry["data"], np.uint8).reshape(-1, 3, 32, 32))
            labels.append(_array(entry[form.labels], np.int64))
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(f"'{folder / name}' is not a CIFAR file: fetch the archive again") from error
        if len(images[-1]) != len(labels[-1]) or not len(labels[-1]):
            raise UserError(f"'{folder / name}' has {len(images[-1])} images and {len(labels[-1])} labels")
    label = np.concatenate(labels)
    if label.min() < 0 or label.max() >= len(classes):
        raise UserError(f"'{folder}' has labels up to {label.max()}, but '{form.meta}' names {len(classes)} classes")
    return Source(np.ascontiguousarray(np.concatenate(images).transpose(0, 2, 3, 1)), label, classes)


def _array(values: Any, dtype: type[Any]) -> NDArray[Any]:
    """Whole numbers as an array of another type, which can hold all of them; labels are one for each image."""
    array = np.asarray(values)
    if array.dtype.kind not in "iu" or not np.array_equal(array.astype(dtype), array):
        raise ValueError("these are no whole numbers of that size")
    if dtype is np.int64 and array.ndim != 1:
        raise ValueError("these are no labels")
    return array.astype(dtype)


# The functions are known by what NumPy itself writes, because their modules differ between NumPy 1 and 2.
_ARRAY_PARTS: dict[str, Any] = {
    "_reconstruct": np.zeros(1).__reduce__()[0],
    "_frombuffer": np.zeros(1).__reduce_ex__(5)[0],
    "ndarray": np.ndarray,
    "dtype": np.dtype,
}


class _ArraysOnly(pickle.Unpickler):
    """Reads dictionaries, lists and NumPy arrays; anything else in the file is refused, because it can run code."""

    def find_class(self, module: str, name: str) -> Any:
        """The few names that a pickled array consists of, in NumPy 1's and 2's spelling."""
        if module.split(".")[0] == "numpy" and name in _ARRAY_PARTS:
            return _ARRAY_PARTS[name]
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is neither an array nor a plain value")


def _unpickle(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"'{path}' is missing: unpack the archive again")
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="latin1").load()
    except Exception as error:  # what an unpickler raises on arbitrary bytes depends on the bytes
        raise UserError(f"'{path}' cannot be read ({first_line(str(error))}): fetch the archive again") from error
    if not isinstance(content, dict):
        raise UserError(f"'{path}' is not a CIFAR file")
    return content
