"""ImageNet's official archives into the folders that the configs read; torchvision parses them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from torchvision.datasets.imagenet import (
    ARCHIVE_META,
    META_FILE,
    parse_devkit_archive,
    parse_train_archive,
    parse_val_archive,
)

from ean_core.errors import UserError

SOURCE = "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php"
CLASSES, IMAGES = 1000, {"train": 1_281_167, "val": 50_000}


def prepare_imagenet(root: str | Path) -> str:
    """Unpack the archives in ``root`` into ``root/train/CLASS`` and ``root/val/CLASS``, unless that is done.

    There is no download without an account at image-net.org, so the three files of the 2012 challenge must lie in
    ``root``. Their MD5 sums are checked. A part is unpacked beside its place and renamed: it is whole or absent.

    Returns:
        A line that says where it lies and whether it is complete.

    Raises:
        FileNotFoundError: Archives are missing; the message names them.
        UserError: An archive is damaged, or the disk is too small.
    """
    root = Path(root)
    todo = [part for part in IMAGES if not (root / part).is_dir()]
    need = [*todo, *(["devkit"] if "val" in todo and not (root / META_FILE).is_file() else [])]
    names = {part: ARCHIVE_META[part][0] for part in need}
    missing = [name for name in names.values() if not (root / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"'{root}' lacks {', '.join(missing)}: fetch {'it' if len(missing) == 1 else 'them'} from {SOURCE} (a free "
            "account is needed) and put the files there unopened"
        )
    for part in todo:
        size, free = (root / names[part]).stat().st_size, shutil.disk_usage(root).free
        if free < size:
            raise UserError(f"'{root}' has {free / 1e9:.0f} GB free, and {names[part]} unpacks to {size / 1e9:.0f} GB")
    if "devkit" in need:
        _parse(parse_devkit_archive, root, names["devkit"])
    for part, parse in (("train", parse_train_archive), ("val", parse_val_archive)):
        if part in todo:
            beside = root / f".{part}.part"
            shutil.rmtree(beside, ignore_errors=True)  # of a run that was killed
            _parse(parse, root, names[part], folder=beside.name)
            os.rename(beside, root / part)
    return f"imagenet: {root}, {_describe(root)}"


def _parse(parse: Callable[..., None], root: Path, name: str, **options: str) -> None:
    try:
        parse(root, **options)
    except Exception as error:  # archives fail in tarfile's, gzip's, scipy's and torchvision's ways
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(
            f"'{root / name}' is damaged, incomplete, or another file of that name ({type(error).__name__}): fetch it "
            f"again from {SOURCE}"
        ) from error


def _describe(root: Path) -> str:
    """What the folders hold, and what they lack."""
    found, complete = [], True
    for part, expected in IMAGES.items():
        folders = [path for path in (root / part).iterdir() if path.is_dir()]
        images = sum(1 for folder in folders for _ in folder.iterdir())
        complete &= (len(folders), images) == (CLASSES, expected)
        found.append(f"{images:,} {part} images of {len(folders):,} classes")
    text = " and ".join(found)
    whole = f"{IMAGES['train']:,} and {IMAGES['val']:,} of {CLASSES:,}"
    return f"{text}: complete" if complete else f"{text} (the whole set has {whole})"
