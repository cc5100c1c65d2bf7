"""The Pascal VOC 2012 layout on disk, and what it takes to get there.

The folder every function here calls ``voc_root``::

    VOC2012/JPEGImages/2007_000032.jpg
    VOC2012/SegmentationClass/2007_000032.png       palette PNG: its indices are the labels, 255 = ignore
    VOC2012/SegmentationClassAug/2007_000032.png    the same, with the masks of SBD; made by `merge_sbd`
    VOC2012/ImageSets/Segmentation/{train,val,train_aug}.txt

SBD is the Semantic Boundaries Dataset (Hariharan et al., ICCV 2011). It labels 11,355 images of VOC; with it
the 1,464 training images become the 10,582 that published results are trained on.
"""

import io
import os
from collections.abc import Iterable
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat

from ean_core.data_check import read_names, require_whole_mat
from ean_core.errors import UserError, first_line
from ean_core.files import write_atomic
from ean_core.terminal import progress_bar, tool

IGNORE = 255
VOC_ARCHIVE = "VOCtrainval_11-May-2012.tar"
COUNTS = {"train": 1464, "val": 1449, "train_aug": 10582}
MASK_DIRS = {"train": "SegmentationClass", "val": "SegmentationClass", "train_aug": "SegmentationClassAug"}
# fmt: off
CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on


def palette(n: int) -> list[list[int]]:
    """The first ``n`` colours of the VOC colour map.

    The bits of the label are dealt out in turn to red, green and blue, from each channel's highest bit down,
    so that neighbouring labels get colours far apart. Entry 255 is the cream of the ignore label.

    Args:
        n: number of colours, 0 to 256.

    Returns:
        ``n`` lists ``[red, green, blue]``, each 0 to 255.

    Raises:
        UserError: ``n`` is not between 0 and 256.
    """
    if not 0 <= n <= 256:
        raise UserError(f"a palette has 0 to 256 colours, not {n}")
    return [
        [sum((label >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8)) for channel in range(3)]
        for label in range(n)
    ]


PALETTE = palette(len(CLASSES))
_FLAT_PALETTE = [value for colour in palette(256) for value in colour]


def encode_mask(labels: NDArray[np.uint8]) -> bytes:
    """Labels of shape (H, W) as the bytes of a palette PNG (mode P) in the VOC colours."""
    image = Image.fromarray(labels)
    image.putpalette(_FLAT_PALETTE)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def list_path(voc_root: str | Path, name: str) -> Path:
    """Where the list called ``name`` lies: ``ImageSets/Segmentation/<name>.txt``."""
    return Path(voc_root) / "ImageSets" / "Segmentation" / f"{name}.txt"


def read_list(root: str | Path, name: str) -> list[str]:
    """Read the image ids of one list, in file order; blank lines are skipped.

    Args:
        root: the VOC2012 folder.
        name: the list: 'train', 'val' or 'train_aug'.

    Raises:
        FileNotFoundError: there is no such list.
        UserError: the list holds no id, or is no text.
    """
    path = list_path(root, name)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.txt"))) or "none"
        raise FileNotFoundError(
            f"no image list {path} (lists there: {known}); name one of those, or make it with "
            f"'{tool('prepare_data')} voc2012'"
        )
    return _read_ids(path)


def count_ids(path: Path) -> int:
    """The number of image ids in a list."""
    return len(read_names(path))


def _read_ids(path: Path) -> list[str]:
    ids = read_names(path)
    if not ids:
        raise UserError(f"the image list {path} is empty; write one image id a line into it")
    return ids


def verify_voc2012(root: str | Path, lists: Iterable[str] = tuple(COUNTS)) -> dict[str, int]:
    """Check that the official lists are complete, image by image and mask by mask.

    Args:
        root: the VOC2012 folder.
        lists: which of 'train', 'val' and 'train_aug' to look at.

    Returns:
        For each list, how many of its ids have both an image and a mask.

    Raises:
        FileNotFoundError: a list is missing.
        UserError: a count is not the official one; the message names each that differs.
    """
    root = Path(root)
    images = _stems(root / "JPEGImages", ".jpg")
    counts, wrong = {}, []
    for name in lists:
        masks = _stems(root / MASK_DIRS[name], ".png")
        ids = set(read_list(root, name))
        counts[name] = len(ids & images & masks)
        if counts[name] != COUNTS[name] or len(ids) != COUNTS[name]:
            wrong.append(
                f"{name} has {counts[name]:,} of {COUNTS[name]:,} "
                f"(ids {len(ids):,}, images {len(ids & images):,}, masks {len(ids & masks):,})"
            )
    if wrong:
        raise UserError(
            f"VOC 2012 in {root} is not complete: {'; '.join(wrong)}; "
            "delete what differs, or unpack the archives there again, and run again"
        )
    return counts


def _stems(folder: Path, suffix: str) -> set[str]:
    # One listing of the folder: asking for each of 10,582 files is slow on network disks.
    if not folder.is_dir():
        return set()
    return {name[: -len(suffix)] for name in os.listdir(folder) if name.endswith(suffix)}


def find_sbd(sbd_root: str | Path) -> Path | None:
    """The folder of SBD that holds ``cls``, ``train.txt`` and ``val.txt``, or None.

    Archives unpack to ``benchmark_RELEASE/dataset``; torchvision moves its content up to ``sbd_root``.
    """
    root = Path(sbd_root)
    for folder in (root, root / "dataset", root / "benchmark_RELEASE" / "dataset"):
        if (folder / "cls").is_dir() and (folder / "train.txt").is_file() and (folder / "val.txt").is_file():
            return folder
    return None


def merge_sbd(sbd_root: str | Path, voc_root: str | Path) -> int:
    """Make the train_aug list and its masks out of VOC 2012 and SBD.

    The ids are those of SBD's two lists and VOC's train list, less VOC's val list. Where VOC has a mask of
    its own it is copied, because it is drawn finer; the others are read from SBD's ``cls/*.mat``. Masks that
    are already there are kept, and the list is written last, so that a stopped merge goes on where it stood.

    Args:
        sbd_root: the SBD folder, unpacked (see `find_sbd`).
        voc_root: the VOC2012 folder, written to.

    Returns:
        The number of ids in train_aug: 10,582 on the complete data.

    Raises:
        FileNotFoundError: SBD, a VOC list or one image's mask is missing.
        UserError: a .mat file is damaged.
    """
    voc_root, dataset = Path(voc_root), find_sbd(sbd_root)
    if dataset is None:
        raise FileNotFoundError(
            f"no SBD in {sbd_root} (cls/, train.txt and val.txt were looked for); unpack benchmark.tgz there"
        )
    sbd = {image_id for name in ("train", "val") for image_id in _read_ids(dataset / f"{name}.txt")}
    ids = sorted((sbd | set(read_list(voc_root, "train"))) - set(read_list(voc_root, "val")))
    target = voc_root / MASK_DIRS["train_aug"]
    target.mkdir(exist_ok=True)
    with progress_bar() as bar:
        for image_id in bar.track(ids, description="merging SBD"):
            path = target / f"{image_id}.png"
            if not _is_whole_png(path):
                write_atomic(path, _merged_mask(image_id, voc_root, dataset))
    write_atomic(list_path(voc_root, "train_aug"), "".join(f"{image_id}\n" for image_id in ids))
    return len(ids)


def _merged_mask(image_id: str, voc_root: Path, dataset: Path) -> bytes:
    own = voc_root / MASK_DIRS["train"] / f"{image_id}.png"
    if own.is_file():
        return own.read_bytes()
    mat = dataset / "cls" / f"{image_id}.mat"
    if not mat.is_file():
        raise FileNotFoundError(f"image {image_id} has no mask: neither {own} nor {mat}; unpack both archives again")
    try:
        require_whole_mat(mat)
        labels = loadmat(mat, variable_names=["GTcls"])["GTcls"][0, 0]["Segmentation"]
        return encode_mask(np.ascontiguousarray(labels, dtype=np.uint8))
    except Exception as error:  # a damaged .mat surfaces as any of half a dozen exception types
        raise UserError(f"{mat} is damaged ({first_line(str(error))}); unpack benchmark.tgz again") from None


def _is_whole_png(path: Path) -> bool:
    # Our own writes are atomic; this catches files that somebody else copied half.
    return path.is_file() and path.read_bytes().endswith(b"IEND\xaeB`\x82")


def download_voc2012(root: str | Path) -> None:
    """Download and unpack what is missing of VOC 2012 (2 GB) and SBD (1.4 GB); torchvision fetches.

    Archives that already lie in place are checked and unpacked without a network.

    Args:
        root: the data folder; VOC goes to ``root/VOCdevkit/VOC2012``, SBD to ``root/sbd/benchmark_RELEASE``.

    Raises:
        ConnectionError: a download failed; the message lists the steps to do by hand.
        UserError: VOC is there without its archive, and not complete.
    """
    from torchvision.datasets import SBDataset, VOCSegmentation
    from torchvision.datasets.utils import download_and_extract_archive

    root = Path(root)
    voc_root = root / "VOCdevkit" / "VOC2012"
    try:
        if not _has(voc_root, ("train", "val")):
            if list_path(voc_root, "train").is_file() and not (root / VOC_ARCHIVE).is_file():
                # Somebody unpacked it here by hand, not all of it: say what lacks, rather than fetch 2 GB.
                verify_voc2012(voc_root, ("train", "val"))
            VOCSegmentation(root, year="2012", download=True)
        if find_sbd(root / "sbd") is None:
            # SBDataset(download=True) would move the folders about, and fails when it is run a second time.
            download_and_extract_archive(
                SBDataset.url, str(root / "sbd"), filename=SBDataset.filename, md5=SBDataset.md5
            )
    except (URLError, HTTPException, ConnectionError, TimeoutError, RuntimeError) as error:
        raise ConnectionError(
            f"the download failed ({error}); fetch by hand what is missing:\n"
            f"  1. {VOC_ARCHIVE}, from http://host.robots.ox.ac.uk/pascal/VOC/voc2012/ : put it into {root}, "
            f"or unpack it to {voc_root}\n"
            f"  2. {SBDataset.filename} (for the train_aug list), from {SBDataset.url} : put it into "
            f"{root / 'sbd'}, or unpack it to {root / 'sbd' / 'benchmark_RELEASE'}\n"
            f"  3. run again: {tool('prepare_data')} voc2012 --root {root}"
        ) from None


def _has(voc_root: Path, lists: Iterable[str]) -> bool:
    try:
        verify_voc2012(voc_root, lists)
    except (ValueError, FileNotFoundError):
        return False
    return True


def prepare_voc2012(root: str | Path) -> str:
    """Bring VOC 2012 under ``root`` into the layout the configs read, doing only what is still missing.

    Without SBD and without a network the train and val lists are still usable, and the table says so.

    Args:
        root: the data folder, which holds (or gets) ``VOCdevkit/VOC2012`` and ``sbd``.

    Returns:
        A table: list, images, masks, expected.

    Raises:
        ConnectionError: VOC is not there and cannot be downloaded; the message lists the steps by hand.
        UserError: an official count differs after all; the message names it.
    """
    root = Path(root)
    voc_root = root / "VOCdevkit" / "VOC2012"
    note = ""
    if not _has(voc_root, COUNTS):
        try:
            download_voc2012(root)
            merge_sbd(root / "sbd", voc_root)
        except ConnectionError as error:
            if not _has(voc_root, ("train", "val")):
                raise
            note = f"\ntrain and val are ready, train_aug is not: {error}"
    counts = verify_voc2012(voc_root, ("train", "val") if note else COUNTS)
    rows = [f"{'list':<10}{'images':>8}{'masks':>8}{'expected':>10}"]
    for name, expected in COUNTS.items():
        count = counts.get(name, 0)
        rows.append(f"{name:<10}{count:>8,}{count:>8,}{expected:>10,}")
    return "\n".join(rows) + note
