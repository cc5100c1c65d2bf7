"""A fast look at crowd images and annotations before training starts.

Images are not decoded: the header gives the size, the end marker tells a whole file from a truncated one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from crowd_counting.annotations import POINT_SUFFIXES, Sample, keep_inside, read_points
from crowd_counting.dataset import find_split
from crowd_counting.layouts import LAYOUTS
from crowd_counting.shanghaitech import annotation_folder, find_part
from ean_core.data_check import find_problems, report_problems, unreadable
from ean_core.inference.images import is_whole


def check_crowd(root: str | Path, part: str | None = None, splits: Iterable[str] = ("train", "val")) -> None:
    """Check every image and annotation of the given splits; return silently when all is well.

    It finds: an image without annotation, an annotation without image, an unreadable or truncated image, an annotation
    of another structure or with numbers that are not finite, and images all of whose points lie outside (another
    image's annotation, or relative coordinates). Single points outside are no error (``out_of_frame``), no people are
    none either.

    Args:
        root: The data folder.
        part: ``"A"`` or ``"B"`` of ShanghaiTech, or a name of :data:`crowd_counting.layouts.LAYOUTS`; None: one's own
            data.
        splits: Of ``"train"``, ``"val"`` and ``"test"``.

    Raises:
        FileNotFoundError: There is no such data.
        UserError: Problems were found. The first line says how many, where, and what to do; the first ten follow, one
            a line.
    """
    splits = tuple(splits)
    samples = list(dict.fromkeys(sample for split in splits for sample in find_split(root, part, split)))
    problems = find_problems(samples, _problems) + _orphans(Path(root), part, splits)
    report_problems(problems, f"with the {len(samples):,} images of {root}", "correct or remove these files")


def _problems(sample: Sample) -> Iterator[str]:
    """Yield what is wrong with one image and its annotation, one sentence each."""
    size = points = None
    try:
        with sample.image.open("rb") as file, Image.open(file) as header:
            size = header.size
            if not is_whole(file, header):
                yield f"image '{sample.image}' is truncated, its end is missing"
    except Exception as error:  # Pillow raises many types for damaged files; each is a finding, none a crash
        yield f"image '{sample.image}' is not readable ({unreadable(error)})"
    try:
        points = read_points(sample.annotation)
    except FileNotFoundError:
        yield f"image '{sample.image}' has no annotation '{sample.annotation}'"
    except ValueError as error:
        yield str(error)
    if size is not None and points is not None and len(points) and keep_inside(points, *size)[1] == len(points):
        yield f"annotation '{sample.annotation}': all {len(points)} points lie outside its {size[0]}x{size[1]} image"


def _orphans(root: Path, part: str | None, splits: Sequence[str]) -> list[str]:
    """Annotations whose image is missing."""
    if part in LAYOUTS:
        return []  # their annotations lie where their images say
    if part is not None:
        folder = find_part(root, part) or root
        sources = dict.fromkeys("test_data" if split == "test" else "train_data" for split in splits)
        pairs = [
            (path, folder / source / "images" / f"{path.stem.removeprefix('GT_')}.jpg")
            for source in sources
            for path in sorted(annotation_folder(folder / source).glob("GT_IMG_*.mat"))
        ]
        lost = [path for path, image in pairs if not image.is_file()]
    else:
        lost = []
        for folder in (root, *(root / split for split in splits)):
            images = {path.stem for path in (folder / "images").glob("*.*") if path.suffix not in POINT_SUFFIXES}
            found = sorted((folder / "annotations").glob("*.*"))
            lost += [path for path in found if path.suffix in POINT_SUFFIXES and path.stem not in images]
    return [f"annotation '{path}' has no image" for path in lost]
