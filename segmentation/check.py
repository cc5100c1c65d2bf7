"""A fast look at a data set in the VOC layout before training starts.

One broken file among ten thousand otherwise stops a training in its second hour, or trains on wrong labels in
silence. Images are not decoded: the header gives the size, the end marker tells a whole file from a truncated
one, and a PNG's check sums tell whether it is as it was written (Pillow decodes it all the same, OpenCV does not).
Labels are counted by Pillow's histogram, which runs in C.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ean_core.data_check import find_problems, report_problems, turned_note, unreadable
from ean_core.errors import UserError
from ean_core.images import Header, header_of, is_whole
from segmentation.voc import IGNORE, read_list

SINGLE_CHANNEL = ("P", "L", "1", "I")  # and the 16-bit modes, "I;16" and so on


def detect_suffix(root: str | Path, ids: Sequence[str], img_dir: str = "JPEGImages") -> str:
    """Which of '.jpg', '.jpeg' and '.png' the image of the first id ends in.

    Raises:
        UserError: ``ids`` is empty.
        FileNotFoundError: the first id has no image with any of these endings.
    """
    if not ids:
        raise UserError("no image ids to detect the file ending from; pass at least one")
    for suffix in (".jpg", ".jpeg", ".png"):
        if (Path(root) / img_dir / f"{ids[0]}{suffix}").is_file():
            return suffix
    raise FileNotFoundError(
        f"image {ids[0]} is not in {Path(root) / img_dir} as .jpg, .jpeg or .png; "
        "put the image there, or take its id out of the list"
    )


def check_voc(
    root: str | Path,
    lists: Mapping[str, str],
    num_classes: int,
    img_dir: str = "JPEGImages",
    img_suffix: str = ".jpg",
    orientation: str = "upright",
) -> list[str]:
    """Check every image and mask of the given lists.

    It finds: a missing, unreadable or truncated image or mask; a floating-point image; a mask that is not
    single-channel; a mask whose size is not its image's; a label that is neither below ``num_classes`` nor 255
    (ignore).

    Args:
        root: the VOC2012 folder.
        lists: mask folder by list name, such as ``{'train': 'SegmentationClass'}``.
        num_classes: labels 0 to ``num_classes - 1`` are valid.
        img_dir: the folder of the images, under ``root``.
        img_suffix: their file ending (see `detect_suffix`).
        orientation: the view in which the masks were drawn, ``"upright"`` or ``"stored"``, where an image's EXIF tag
            turns it.

    Returns:
        What is worth knowing of data that can be used: images that an EXIF tag turns, and how their masks are
        understood.

    Raises:
        FileNotFoundError: a list is missing.
        UserError: problems were found. The first line says how many, where, and what to do; the first ten
            follow, one a line.
    """
    root = Path(root)
    # dict, not set: problems come in the order of the lists, and a pair in two lists is looked at once.
    pairs = dict.fromkeys(
        (f"{img_dir}/{image_id}{img_suffix}", f"{mask_dir}/{image_id}.png")
        for name, mask_dir in lists.items()
        for image_id in read_list(root, name)
    )
    return check_pairs(
        root, pairs, num_classes, "correct them, or take their ids out of ImageSets/Segmentation", orientation
    )


def check_pairs(
    root: Path, pairs: Collection[tuple[str, str]], num_classes: int, advice: str, orientation: str = "upright"
) -> list[str]:
    """Check images and masks, given by their paths below ``root``; see :func:`check_voc`.

    Raises:
        UserError: Problems were found.
    """
    turned: list[str] = []
    report_problems(
        find_problems(pairs, lambda pair: _pair_problems(root, *pair, num_classes, orientation, turned)),
        f"in the {len(pairs):,} images and masks of {root}",
        advice,
    )
    return turned_note(sorted(turned), len(pairs), "masks", orientation)


def _pair_problems(
    root: Path, image: str, mask: str, num_classes: int, orientation: str, turned: list[str]
) -> Iterator[str]:
    """Yield what is wrong with one image and its mask, one sentence each; note an image that is turned."""
    header = None
    try:
        with open(root / image, "rb") as file, Image.open(file) as opened:
            header = header_of(opened)
            if not is_whole(file, opened):
                yield f"{image}: truncated, its end is missing"
            else:
                opened.verify()
        if header.mode == "F":
            yield f"{image}: has floating-point values; save it with 8 or 16 bits"
        if header.orientation != 1:
            turned.append(image)
    except FileNotFoundError:
        yield f"{image}: missing"
    except Exception as error:  # Pillow raises many types for damaged files; each is a finding, none a crash
        yield f"{image}: not readable as an image ({unreadable(error)})"
    try:
        with open(root / mask, "rb") as file:
            Image.open(file).verify()  # after which nothing else can be done with what was opened
            labels = Image.open(file)
            yield from (f"{mask}: {problem}" for problem in _mask_problems(labels, header, num_classes, orientation))
    except FileNotFoundError:
        yield f"{mask}: missing"
    except Exception as error:
        yield f"{mask}: not readable as an image ({unreadable(error)})"


def _mask_problems(labels: Image.Image, header: Header | None, num_classes: int, orientation: str) -> Iterator[str]:
    """Yield what is wrong with one opened mask; ``header`` is its image's, if known."""
    if labels.mode not in SINGLE_CHANNEL and not labels.mode.startswith("I;16"):
        yield f"has {len(labels.getbands())} channels (mode {labels.mode}); save label indices, one channel"
        return
    if header is not None:
        sizes = {"upright": header.size, "stored": header.stored}
        size = sizes.pop(orientation)
        if labels.size != size:
            other = [f"; an EXIF tag turns it: set orientation={view}" for view in sizes if labels.size == sizes[view]]
            yield f"is {labels.width}x{labels.height}, but its image is {size[0]}x{size[1]}{''.join(other)}"
    if labels.mode in ("P", "L"):
        present = [label for label, count in enumerate(labels.histogram()) if count]
    else:  # rare: 1-bit and 16 or 32-bit masks, of which a histogram would merge labels
        present = [int(label) for label in np.unique(np.asarray(labels))]
    wrong = [label for label in present if not 0 <= label < num_classes and label != IGNORE]
    if wrong:
        shown = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
        yield f"label {shown} is neither below num_classes={num_classes} nor {IGNORE} (ignore)"
