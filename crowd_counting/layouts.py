"""Four data sets as they are downloaded: UCF-QNRF, UCF_CC_50, NWPU-Crowd and JHU-CROWD++.

They are read under the data folder, or one folder further down, whatever that folder's name is::

    ucf_qnrf     {Train,Test}/img_0001.jpg, img_0001_ann.mat beside it (annPoints)
    ucf_cc_50-1  1.jpg ... 50.jpg, 1_ann.mat beside it (annPoints); -1 to -5 is the fold
    nwpu         images/0001.jpg, jsons/0001.json (points) or mats/0001.mat (annPoints), {train,val,test}.txt
    jhu          {train,val,test}/images/0001.jpg, gt/0001.txt (a line a head: x y w h occlusion blur), image_labels.txt

What serves as validation where there is no official one is in :data:`LAYOUTS`. Sources: the pages of the data sets
(crcv.ucf.edu, gjy3035.github.io/NWPU-Crowd-Sample-Code, crowd-counting.com) and their papers: Idrees et al., ECCV 2018
and CVPR 2013; Wang et al., arXiv 2001.03360; Sindagi et al., arXiv 2004.03597.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crowd_counting.annotations import Sample, hold_out
from ean_core.data_check import read_names

HELD_OUT = 0.1
FOLDS = 5


class Layout(NamedTuple):
    """One of the data sets.

    Attributes:
        title: Its name as people write it.
        marks: Files or folders, as patterns: a folder that has them all is this data set.
        read: Folder and split -> its images in order, without those that have no public annotations.
        images: The official numbers of images, by the split that is counted.
        people: The published total of heads; ``None`` where a part of them is not public.
        note: How the splits are used.
    """

    title: str
    marks: tuple[str, ...]
    read: Callable[[Path, str], list[Sample]]
    images: Mapping[str, int]
    people: int | None
    note: str


def _held_out(samples: list[Sample], split: str) -> list[Sample]:
    """A tenth for validation, the same whenever the images are."""
    order = [int(i) for i in np.random.RandomState(0).permutation(len(samples))]
    return hold_out(samples, order, HELD_OUT)[split == "val"]


def _beside(folder: Path, before: str) -> list[Sample]:
    """Images ``before`` + number + ``.jpg`` with ``NAME_ann.mat`` beside them, in the order of the numbers."""
    numbers = {path: path.stem.removeprefix(before) for path in folder.glob(f"{before}*.jpg")}
    ordered = sorted((path for path, number in numbers.items() if number.isdecimal()), key=lambda p: int(numbers[p]))
    return [Sample(path, path.with_name(f"{path.stem}_ann.mat")) for path in ordered]


def _read_qnrf(folder: Path, split: str) -> list[Sample]:
    samples = _beside(folder / ("Test" if split == "test" else "Train"), "img_")
    return samples if split == "test" else _held_out(samples, split)


def _fold_reader(fold: int) -> Callable[[Path, str], list[Sample]]:
    """Fold k tests on the images 10 (k - 1) + 1 to 10 k."""

    def read(folder: Path, split: str) -> list[Sample]:
        samples = _beside(folder, "")
        tested = [sample for sample in samples if (int(sample.image.stem) - 1) // 10 == fold - 1]
        return tested if split == "test" else _held_out([s for s in samples if s not in tested], split)

    return read


def _read_nwpu(folder: Path, split: str) -> list[Sample]:
    lists = folder / f"{'val' if split == 'test' else split}.txt"
    kind = ("jsons", ".json") if (folder / "jsons").is_dir() else ("mats", ".mat")
    names = [line.split()[0] for line in read_names(lists)]  # behind it: the classes of light and density
    samples = [Sample(folder / "images" / f"{name}.jpg", folder / kind[0] / f"{name}{kind[1]}") for name in names]
    return [sample for sample in samples if sample.image.is_file()]


def _read_jhu(folder: Path, split: str) -> list[Sample]:
    images = sorted((folder / split / "images").glob("*.jpg"))
    return [Sample(path, folder / split / "gt" / f"{path.stem}.txt") for path in images]


LAYOUTS: dict[str, Layout] = {
    "ucf_qnrf": Layout(
        "UCF-QNRF", ("Train/img_*.jpg", "Test/img_*.jpg"), _read_qnrf, {"train": 1201, "test": 334}, 1_251_642,
        "a tenth of Train is held out for validation, always the same",
    ),
    **{
        f"ucf_cc_50-{fold}": Layout(
            f"UCF_CC_50, fold {fold}", ("1_ann.mat", "50_ann.mat"), _fold_reader(fold), {"train": 40, "test": 10},
            63_974, "five folds of ten images by their numbers; a tenth of the rest is held out for validation",
        )
        for fold in range(1, FOLDS + 1)
    },
    "nwpu": Layout(
        "NWPU-Crowd", ("images", "train.txt", "val.txt", "test.txt"), _read_nwpu, {"train": 3109, "val": 500}, None,
        "the annotations of the 1,500 test images are not public: a test evaluates the validation images",
    ),
    "jhu": Layout(
        "JHU-CROWD++", ("train/gt", "val/gt", "test/gt"), _read_jhu, {"train": 2272, "val": 500, "test": 1600},
        1_515_005, "the official splits",
    ),
}  # fmt: skip


def find_layout(root: str | Path, name: str) -> Path | None:
    """The folder of a data set of :data:`LAYOUTS`: ``root``, or one inside it; ``None`` without one."""
    root = Path(root)
    nested = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    marks = LAYOUTS[name].marks
    return next((f for f in (root, *nested) if all(any(f.glob(mark)) for mark in marks)), None)


def layout_samples(root: str | Path, name: str, split: str) -> list[Sample]:
    """The images of one split of a data set of :data:`LAYOUTS`; a copy that lacks images is used as it is.

    Raises:
        FileNotFoundError: It is not there, or has no images.
    """
    layout, folder = LAYOUTS[name], find_layout(root, name)
    if folder is None:
        raise FileNotFoundError(f"no {layout.title} in '{root}': a folder with {', '.join(layout.marks)} is wanted")
    samples = layout.read(folder, split)
    if not samples:
        raise FileNotFoundError(
            f"'{folder}' ({layout.title}) has none of the images for {split}: compare their names, or their list, "
            "with docs/data_crowd.md"
        )
    return samples


def layout_notice(root: str | Path, name: str) -> str:
    """Words for the log: the use of the splits, and what a partial copy lacks."""
    layout = LAYOUTS[name]
    found = sum(len(layout_samples(root, name, split)) for split in counted(layout))
    expected = sum(layout.images.values())
    return layout.note + ("" if found == expected else f"; a partial copy, {found:,} of {expected:,} images")


def counted(layout: Layout) -> tuple[str, ...]:
    """The splits that, together, are all images with annotations once."""
    return ("train", "val") if layout.people is None else ("train", "val", "test")
