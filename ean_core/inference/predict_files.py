"""Predictions of files: images, folders, patterns and videos in; pictures and a table out."""

from __future__ import annotations

import csv
import glob
import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from rich.progress import Progress

from ean_core.errors import UserError
from ean_core.files import replacing
from ean_core.inference import images, video
from ean_core.inference.drawing import save_png
from ean_core.inference.images import Picture, read_image
from ean_core.inference.predictor import Predictor
from ean_core.stopping import steps
from ean_core.terminal import progress_bar

WriteRow = Callable[[dict[str, Any]], None]
TABLE = "predictions.csv"


def predict_files(
    model: Predictor,
    sources: Sequence[str],
    out: str | os.PathLike[str],
    batch: int = 1,
    save: Collection[str] = (),
) -> list[str]:
    """Write a picture of every image, an annotated copy of every video, and ``predictions.csv``.

    A picture is called like its image, with the ending ``.png`` (after the image's own, where two images differ in
    nothing else); images of a folder keep their places in its subfolders. The table has a line per image; a video has
    a line a frame. At most ``batch`` images or frames are held at once.

    Args:
        model: What predicts.
        sources: Images, folders (with their subfolders), patterns such as ``"shots/*.jpg"``, videos.
        out: The folder to write into.
        batch: Images that go through the network together.
        save: Further forms of the results of images (:meth:`~ean_core.application.Application.saving`).

    Returns:
        What could not be read, one sentence each; all the rest has been written.

    Raises:
        FileNotFoundError: A source does not exist, or there is no image in it.
        UserError: A file of ``out`` would replace one of the sources.
    """
    out = Path(out)
    jobs = find_sources(sources, out)
    failed: list[str] = []
    with (
        model.task.saving(save, out) if save else nullcontext() as keep,
        _table(out / TABLE) as write,
        progress_bar(transient=True) as bar,
        steps() as done,
    ):
        task = bar.add_task("predicting", total=len(jobs), visible=len(jobs) > 1)
        pictures = [job for job in jobs if not is_video(job[0])]
        for start in range(0, len(pictures), batch):
            for path, target, result in _predict_images(model, pictures[start : start + batch], write, failed):
                if keep is not None:
                    keep(path, target.relative_to(out), result)
            bar.advance(task, len(pictures[start : start + batch]))
            done()
        for path, target in jobs:
            if is_video(path):
                try:
                    _predict_video(model, path, target, write, batch, bar, done)
                except ValueError as error:
                    failed.append(str(error))
                bar.advance(task)
    return failed


def find_sources(sources: Sequence[str], out: Path) -> list[tuple[Path, Path]]:
    """The images and videos that the sources name, in order, each once, with the file that each is drawn into.

    Where ``out`` lies inside a folder that is searched, its files are left aside: an earlier call wrote them.

    Raises:
        FileNotFoundError: A source does not exist, or there is no image in it.
        UserError: A picture would replace a source.
    """
    found: dict[Path, Path] = {}  # file -> where it lies relative to its source
    for source in sources:
        path = Path(source)
        if path.is_file():
            found.setdefault(path, Path(path.name))
        elif path.is_dir():
            if path.resolve() == out.resolve():
                raise UserError(f"'{source}' is both an input and --out: choose another --out")
            inside = _search(path.rglob("*"), path, out)
            if not inside:
                raise FileNotFoundError(f"folder '{source}' holds no images or videos")
            found.update((p, p.relative_to(path)) for p in inside if p not in found)
        else:
            root = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
            inside = _search((Path(name) for name in glob.iglob(source, recursive=True)), root, out)
            if not inside:
                what = "no image or video matches" if glob.has_magic(source) else "there is no image, folder or video"
                raise FileNotFoundError(f"{what} '{source}'")
            found.update((p, Path(p.name)) for p in inside if p not in found)
    return _targets(found, out)


def is_video(path: Path) -> bool:
    """Whether a file's ending is a video's."""
    return path.suffix.lower() in video.SUFFIXES


def _targets(found: dict[Path, Path], out: Path) -> list[tuple[Path, Path]]:
    taken: dict[Path, Path] = {}  # target -> source
    sources = {path.resolve() for path in found}
    for path, place in found.items():
        ending = ".mp4" if is_video(path) else ".png"
        target = out / place.with_suffix(ending)
        number = 1
        while target in taken:
            number += 1
            name = f"{place.name}{ending}" if number == 2 else f"{place.name}-{number - 1}{ending}"
            target = out / place.with_name(name)
        if target.resolve() in sources:
            raise UserError(
                f"the picture of '{path}' would replace '{target}', which is an input: choose another --out"
            )
        taken[target] = path
    return [(path, target) for target, path in taken.items()]


def _search(paths: Iterable[Path], root: Path, out: Path) -> list[Path]:
    """The images and videos among ``paths``, sorted, without those in ``out`` where that lies inside ``root``."""
    inner, outer = out.resolve(), root.resolve()
    nested = inner != outer and inner.is_relative_to(outer)

    def wanted(path: Path) -> bool:
        known = not path.name.startswith(".") and (path.suffix.lower() in images.SUFFIXES or is_video(path))
        return known and path.is_file() and not (nested and path.resolve().is_relative_to(inner))

    return sorted(path for path in paths if wanted(path))


def _predict_images(
    model: Predictor, jobs: Iterable[tuple[Path, Path]], write: WriteRow, failed: list[str]
) -> Iterator[tuple[Path, Path, Any]]:
    read: list[tuple[Path, Path, Picture]] = []
    for path, target in jobs:
        try:
            read.append((path, target, read_image(path)))
        except (ValueError, OSError) as error:
            failed.append(str(error))
    results = model.predict([image for *_, image in read], [str(path) for path, *_ in read]) if read else []
    for (path, target, image), result in zip(read, results, strict=True):
        save_png(model.task.draw(image, result), target)
        write({"image": str(path), **model.task.row(result)})
        yield path, target, result


def _predict_video(
    model: Predictor, path: Path, target: Path, write: WriteRow, batch: int, bar: Progress, done: Callable[[], None]
) -> None:
    reader = video.VideoReader(path)
    task = bar.add_task(path.name, total=reader.frames or None)
    count = 0
    with video.writing(target, reader.rate) as draw:
        for frames in _batches(reader, batch):
            for frame, result in zip(frames, model.predict(frames), strict=True):
                draw(model.task.draw(frame, result))
                place = {"image": str(path), "frame": count, "seconds": round(count / reader.rate, 3)}
                write(place | model.task.row(result))
                count += 1
            bar.update(task, completed=count)
            done()


def _batches(frames: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    rest = iter(frames)
    while batch := list(itertools.islice(rest, size)):
        yield batch


@contextmanager
def _table(path: Path) -> Iterator[WriteRow]:
    """A CSV file that appears when it is whole, if it has a row; ``frame`` and ``seconds`` are empty for images."""
    with replacing(path) as part, ExitStack() as opened:
        writer: csv.DictWriter[str] | None = None

        def write(row: dict[str, Any]) -> None:
            nonlocal writer
            if writer is None:
                file = opened.enter_context(part.open("w", newline="", encoding="utf-8"))
                columns = [key for key in row if key not in ("image", "frame", "seconds")]
                writer = csv.DictWriter(file, ["image", "frame", "seconds", *columns])
                writer.writeheader()
            writer.writerow(row)

        yield write
