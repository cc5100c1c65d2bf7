"""Every kind of file that is read: an undamaged one, its reader, and what may come out of a damaged one.

Formats with a checksum (``exact``) give the values that were written, or a refusal. The others cannot notice a changed
letter: what they give must be sound, which each format says for itself.
"""

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import scipy.io
import torch
from PIL import Image

from classification.datasets import check_files
from classification.sources import read_source
from crowd_counting.annotations import find_samples
from crowd_counting.check import check_crowd
from crowd_counting.dataset import read_image as read_crowd_image
from crowd_counting.points import read_points
from crowd_counting.toy_crowds import encode_mat
from ean_core.cells import Genotype
from ean_core.checkpoint import read_checkpoint, write_checkpoint
from ean_core.engine.config import read_class_names, read_config
from ean_core.files import read_json_lines, write_json_lines
from ean_core.images import read_image
from ean_core.plug import plug_from
from ean_core.scheme import ConnectionScheme
from ean_core.search.log import SearchLog
from ean_testing.plugs import Small, handle, small
from ean_testing.references import randomize
from ean_testing.tiny import CONFIGS
from knocks.answers import Fault, ask
from knocks.damage import damaged, with_wrong_value
from knocks.runs import first_difference
from segmentation.check import check_voc
from segmentation.voc import encode_mask, list_path, read_list

BLOCKS = (3, 4, 3, 2)
ROOT = Path(__file__).resolve().parents[2]


class Format(NamedTuple):
    """A kind of file.

    Attributes:
        write: Writes an undamaged one into an empty folder, with what belongs to it; returns its path.
        read: Its reader, as the project calls it.
        exact: Whether damage must be noticed.
        sound: Of a value that was read from a damaged file without checksum: whether it may be used.
        tree: Whether values inside of it are damaged as well: ``"json"``, ``"lines"``, ``"pickle"`` or ``"torch"``.
        named: Whether a refusal names this file, its ending apart; else one beside it may be found wrong.
    """

    write: Callable[[Path, Random], Path]
    read: Callable[[Path], Any]
    exact: bool = False
    sound: Callable[[Any], bool] = lambda value: True
    tree: str = ""
    named: bool = True


# -- schemes and genotypes


def _scheme(folder: Path, random: Random) -> Path:
    scheme = "-".join("".join(random.choice("01") for _ in range(n)) for n in BLOCKS)
    content = {"scheme": scheme, "attention": {"type": "SE", "reduction": 16}, "reward": random.random(), "step": 7}
    path = folder / "scheme.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def _genotype(folder: Path, random: Random) -> Path:
    genotype = Genotype.random(torch.Generator().manual_seed(random.randrange(1 << 30)))
    path = folder / random.choice(("genotype.json", "cells.txt"))
    path.write_text(json.dumps({"genotype": genotype.as_dict()}) if path.suffix == ".json" else str(genotype))
    return path


# -- logs


def _history(folder: Path, random: Random) -> Path:
    path = folder / "history.jsonl"
    write_json_lines(path, [{"mode": "train", "iter": i, "loss": random.random()} for i in range(1, 9)])
    return path


def _are_entries(entries: Any) -> bool:
    return all(isinstance(entry, dict) for entry in entries)


def _search_log(folder: Path, random: Random) -> Path:
    path = folder / "search.jsonl"
    log = SearchLog(path, key="k")
    for step in range(1, 4):
        for index in range(2):
            scheme = "".join(random.choice("01") for _ in range(6))
            numbers = {"accuracy": random.random(), "reward": random.random(), "sparsity": scheme.count("0") / 6}
            words = {"cached": False, "failed": False, "strategy": {"p": 0.5}, "key": "k"}
            log.add({"step": step, "index": index, "scheme": scheme, **numbers, **words})
    return path


def _read_search_log(path: Path) -> Any:
    log = SearchLog(path, key="k", step=2)
    return [*log.entries, *log._pending]


# -- annotations


def _points(random: Random) -> np.ndarray:
    return np.array([[random.uniform(0, 40), random.uniform(0, 30)] for _ in range(random.choice((1, 2, 30)))])


def write_points(path: Path, points: np.ndarray) -> Path:
    """In the format that the ending names."""
    if path.suffix == ".csv":
        path.write_text("x,y\n" + "".join(f"{x!r},{y!r}\n" for x, y in points.tolist()))
    elif path.suffix == ".json":
        path.write_text(json.dumps({"points": points.tolist()}))
    elif path.suffix == ".npy":
        np.save(path, points)
    else:
        path.write_bytes(encode_mat(points))
    return path


def _annotation(suffix: str) -> Callable[[Path, Random], Path]:
    return lambda folder, random: write_points(folder / f"people{suffix}", _points(random))


def are_points(points: Any) -> bool:
    return points.ndim == 2 and points.shape[1] == 2 and points.dtype == np.float64 and bool(np.isfinite(points).all())


def _compressed_mat(folder: Path, random: Random) -> Path:
    scipy.io.savemat(folder / "people.mat", {"annPoints": _points(random)}, do_compression=True)
    return folder / "people.mat"


# -- images


def _pixels(random: Random, height: int = 30, width: int = 40) -> np.ndarray:
    return np.random.default_rng(random.randrange(1 << 30)).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _image(suffix: str, **options: Any) -> Callable[[Path, Random], Path]:
    def write(folder: Path, random: Random) -> Path:
        Image.fromarray(_pixels(random)).save(folder / f"photo{suffix}", **options)
        return folder / f"photo{suffix}"

    return write


def _is_picture(array: Any) -> bool:
    return array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3 and array.size > 0


# -- data sets


def _voc(part: str) -> Callable[[Path, Random], Path]:
    """Three images with masks and a list, of which one file is damaged."""

    def write(folder: Path, random: Random) -> Path:
        for name in ("JPEGImages", "SegmentationClass"):
            (folder / name).mkdir()
        ids = [f"2007_{i:06d}" for i in range(3)]
        for i in ids:
            Image.fromarray(_pixels(random)).save(folder / "JPEGImages" / f"{i}.jpg")
            labels = np.random.default_rng(random.randrange(1 << 30)).integers(0, 21, (30, 40), dtype=np.uint8)
            (folder / "SegmentationClass" / f"{i}.png").write_bytes(encode_mask(labels))
        names = list_path(folder, "train")
        names.parent.mkdir(parents=True)
        names.write_text("".join(f"{i}\n" for i in ids))
        return {
            "image": folder / "JPEGImages" / f"{ids[1]}.jpg",
            "mask": folder / "SegmentationClass" / f"{ids[1]}.png",
            "list": names,
        }[part]

    return write


def _read_voc(path: Path) -> Any:
    """The check before a training, then the masks as MMSegmentation's pipeline decodes them."""
    import mmcv

    root = path.parents[2] if path.suffix == ".txt" else path.parents[1]
    check_voc(root, {"train": "SegmentationClass"}, 21)
    masks = [root / "SegmentationClass" / f"{name}.png" for name in read_list(root, "train")]
    return [mmcv.imfrombytes(mask.read_bytes(), flag="unchanged", backend="pillow").squeeze() for mask in masks]


def _are_masks(masks: Any) -> bool:
    return all(m.shape == (30, 40) and m.dtype == np.uint8 and bool(((m < 21) | (m == 255)).all()) for m in masks)


def _crowd(part: str) -> Callable[[Path, Random], Path]:
    """Four images with their points in .csv and a list, of which one file is damaged."""

    def write(folder: Path, random: Random) -> Path:
        for name in ("images", "annotations"):
            (folder / name).mkdir()
        for i in range(4):
            Image.fromarray(_pixels(random)).save(folder / "images" / f"{i}.jpg")
            write_points(folder / "annotations" / f"{i}.csv", _points(random))
        (folder / "train.txt").write_text("0\n1\n2\n")
        (folder / "val.txt").write_text("3.jpg\n")
        return {
            "image": folder / "images" / "1.jpg",
            "points": folder / "annotations" / "1.csv",
            "list": folder / "train.txt",
        }[part]

    return write


def _read_crowd(path: Path) -> Any:
    """The check before a training, then the images and points."""
    root = path.parent if path.suffix == ".txt" else path.parents[1]
    check_crowd(root)
    samples = find_samples(root, "train")
    return [(read_crowd_image(sample.image), read_points(sample.annotation)) for sample in samples]


def _are_crowds(crowds: Any) -> bool:
    return len(crowds) > 0 and all(_is_picture(image) and are_points(points) for image, points in crowds)


def _cifar(part: str) -> Callable[[Path, Random], Path]:
    def write(folder: Path, random: Random) -> Path:
        home = folder / "cifar-100-python"
        home.mkdir()
        data = np.random.default_rng(random.randrange(1 << 30)).integers(0, 256, (6, 3072), dtype=np.uint8)
        entry = {"data": data, "fine_labels": [i % 3 for i in range(6)], "filenames": [f"{i}.png" for i in range(6)]}
        (home / "train").write_bytes(pickle.dumps(entry, protocol=random.choice((2, 4, 5))))
        (home / "meta").write_bytes(pickle.dumps({"fine_label_names": ["apple", "bear", "cup"]}, protocol=2))
        return home / part

    return write


def _read_cifar(path: Path) -> Any:
    return list(read_source(path.parents[1], "cifar100", "train"))


def _is_cifar(source: Any) -> bool:
    images, labels, classes = source
    names = all(isinstance(name, str) for name in classes)
    shapes = images.ndim == 4 and images.shape[1:] == (32, 32, 3) and len(images) == len(labels) > 0
    return names and shapes and images.dtype == np.uint8 and labels.min() >= 0 and labels.max() < len(classes)


def _folder(folder: Path, random: Random) -> Path:
    for part in ("train", "val"):
        for name in ("ant", "bee"):
            (folder / part / name).mkdir(parents=True)
            for i in range(2):
                Image.fromarray(_pixels(random)).save(folder / part / name / f"{i}.jpg")
    return folder / "train" / "bee" / "1.jpg"


def _read_folder(path: Path) -> Any:
    source = read_source(path.parents[2], "folder", "train")
    check_files(source)
    return [str(item) for item in source.items]


# -- configs and names


def _config(folder: Path, random: Random) -> Path:
    base = random.choice(sorted((ROOT / "configs" / "_base_" / "schedules").glob("*.py")))
    (folder / "mine.py").write_text("task = 'segmentation'\n" + base.read_text())
    return folder / "mine.py"


def _names(folder: Path, random: Random) -> Path:
    (folder / "names.txt").write_text("background\ncat\nDöner\n", encoding="utf-8")
    return folder / "names.txt"


def _are_names(names: Any) -> bool:
    return len(names) > 1 and all(isinstance(name, str) and name.strip() == name != "" for name in names)


# -- checkpoints


def _checkpoint(folder: Path, random: Random) -> Path:
    generator = torch.Generator().manual_seed(random.randrange(1 << 30))
    weights = {f"layer{i}.weight": torch.randn(8, 4, generator=generator) for i in range(3)}
    meta = {"epoch": 3, "iter": 12, "cfg": "task = 'segmentation'\n"}
    write_checkpoint({"state_dict": weights, "optimizer": {"lr": 0.1}, "meta": meta}, folder / "last.pth")
    return folder / "last.pth"


def _plugged(folder: Path, random: Random) -> Path:
    model = small(CONFIGS["SE"], "111-0")
    randomize(handle(model), random.randrange(1000))
    handle(model).save(folder / "se.pth")
    return folder / "se.pth"


def _read_plugged(path: Path) -> Any:
    model: Any = Small()
    plug_from(model, path)
    return dict(model.state_dict())


FORMATS: dict[str, Format] = {
    "scheme.json": Format(_scheme, lambda p: str(ConnectionScheme.parse(p, BLOCKS)), tree="json"),
    "genotype": Format(_genotype, lambda p: str(Genotype.load(p)), tree="json"),
    "history.jsonl": Format(_history, read_json_lines, tree="lines", sound=_are_entries),
    "search.jsonl": Format(_search_log, _read_search_log, tree="lines"),
    "points .csv": Format(_annotation(".csv"), read_points, sound=are_points),
    "points .json": Format(_annotation(".json"), read_points, sound=are_points, tree="json"),
    "points .npy": Format(_annotation(".npy"), read_points, sound=are_points),
    "points .mat": Format(_annotation(".mat"), read_points, sound=are_points),
    "points .mat, compressed": Format(_compressed_mat, read_points, exact=True),
    "image .png": Format(_image(".png"), read_image, exact=True),
    "image .jpg": Format(_image(".jpg"), read_image, sound=_is_picture),
    "image .bmp": Format(_image(".bmp"), read_image, sound=_is_picture),
    "image .gif": Format(_image(".gif"), read_image, sound=_is_picture),
    "image .tif": Format(_image(".tif"), read_image, sound=_is_picture),
    "image .tif, deflated": Format(_image(".tif", compression="tiff_adobe_deflate"), read_image, sound=_is_picture),
    "image .webp": Format(_image(".webp", lossless=True), read_image, sound=_is_picture),
    "image .ppm": Format(_image(".ppm"), read_image, sound=_is_picture),
    "VOC image": Format(_voc("image"), _read_voc, sound=_are_masks),
    "VOC mask": Format(_voc("mask"), _read_voc, exact=True),
    "VOC list": Format(_voc("list"), _read_voc, sound=_are_masks, named=False),
    "crowd image": Format(_crowd("image"), _read_crowd, sound=_are_crowds),
    "crowd points": Format(_crowd("points"), _read_crowd, sound=_are_crowds),
    "crowd list": Format(_crowd("list"), _read_crowd, sound=_are_crowds),
    "CIFAR images": Format(_cifar("train"), _read_cifar, sound=_is_cifar, tree="pickle", named=False),
    "CIFAR names": Format(_cifar("meta"), _read_cifar, sound=_is_cifar, tree="pickle", named=False),
    "class folder's image": Format(_folder, _read_folder),
    "config": Format(_config, lambda p: read_config(p).to_dict()),
    "class names": Format(_names, read_class_names, sound=_are_names),
    "checkpoint": Format(_checkpoint, read_checkpoint, exact=True),
    "plugged attention": Format(_plugged, _read_plugged, exact=True, tree="torch"),
}


def knock(name: str, folder: Path, random: Random) -> str:
    """Damage a file of a format and read it.

    Returns:
        ``"refused"``, ``"unchanged"`` or ``"changed"``.

    Raises:
        Fault: The reader failed, or took damage for data.
    """
    form = FORMATS[name]
    path = form.write(folder, random)
    undamaged = ask(lambda: form.read(path))
    if undamaged.message is not None:
        raise Fault("wrong", f"{name}: an undamaged file is refused: {undamaged.message[:300]}")
    whole = path.read_bytes()
    inside = form.tree and random.random() < 0.3
    path.write_bytes(_wrong_inside(path, form.tree, random) if inside else damaged(whole, random))
    broken = path.read_bytes()
    answer = ask(lambda: form.read(path), path.stem if form.named else None)
    if answer.message is not None:
        return "refused"
    if not first_difference(answer.value, undamaged.value):
        return "unchanged"
    if form.exact and not inside:
        raise Fault("wrong", f"{name}: silent damage: {first_difference(answer.value, undamaged.value)[:200]}")
    if not form.sound(answer.value):
        raise Fault("wrong", f"{name}: an unsound value was read: {str(answer.value)[:200]}")
    if form.tree == "lines":
        _require_whole_lines(whole, broken, answer.value)
    return "changed"


def _wrong_inside(path: Path, tree: str, random: Random) -> bytes:
    """The file with one wrong value, correctly written."""
    if tree == "torch":
        buffer = io.BytesIO()
        torch.save(with_wrong_value(torch.load(path, weights_only=True), random), buffer)
        return buffer.getvalue()
    if tree == "pickle":
        return pickle.dumps(with_wrong_value(pickle.loads(path.read_bytes()), random))
    text = path.read_text()
    if tree == "json":
        return json.dumps(with_wrong_value(json.loads(text), random)).encode() if path.suffix == ".json" else b"0"
    lines = text.splitlines()
    at = random.randrange(len(lines))
    lines[at] = json.dumps(with_wrong_value(json.loads(lines[at]), random))
    return "".join(f"{line}\n" for line in lines).encode()


def _require_whole_lines(whole: bytes, broken: bytes, entries: Any) -> None:
    """Damage to one line of a log must not lose the others."""
    intact = [json.loads(line) for line in broken.split(b"\n")[:-1] if line in whole.split(b"\n") and line]
    lost = [entry for entry in intact if entry not in entries]
    if lost:
        raise Fault("wrong", f"lost {len(lost)} lines that are whole, e.g. {lost[0]}")
