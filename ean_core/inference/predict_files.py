"""Predictions of files: images, folders, patterns and videos in; pictures and a table out."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ean_core import images
from ean_core.errors import UserError
from ean_core.files import append_line, csv_line, write_csv
from ean_core.images import Picture, read_image
from ean_core.inference import video
from ean_core.inference.drawing import picture_name, save_png
from ean_core.inference.over_time import write_over_time
from ean_core.inference.predictor import Predictor
from ean_core.stopping import steps
from ean_core.terminal import ProgressLines, hearing_parts, progress_bar

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

    A picture has its image's whole name with ``.png`` behind it, a video's copy ``.mp4``; images of a folder keep their
    places in its subfolders. Of two images of one name in two sources the second has a number. The table has a line per
    image, which names the picture; a video has a line a frame. A line is in the file when its image is done. At most
    ``batch`` images or frames are held at once. Output that is no terminal gets a line of progress every few seconds.
    Where the task has columns to follow over time, ``NAME-over-time.csv`` and ``.png`` beside a video's copy have those
    of its frames.

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
        UserError: A file of ``out`` would replace one of the sources, or the task has no such form.
    """
    out = Path(out)
    if save:
        model.task.require_forms(save)
    jobs = find_sources(sources, out)
    failed: list[str] = []
    write = _Table(out)
    forms = model.task.saving(save, out) if save else nullcontext()
    with forms as keep, _Progress(len(jobs)) as progress, steps() as done:
        pictures = [job for job in jobs if not is_video(job[0])]
        for start in range(0, len(pictures), batch):
            some = pictures[start : start + batch]
            progress.begin(some[0][0].name)
            for path, target, result in _predict_images(model, some, write, failed):
                if keep is not None:
                    keep(path, target.relative_to(out), result)
            progress.end(len(some))
            done()
        for path, target in jobs:
            if is_video(path):
                progress.begin(path.name)
                try:
                    _predict_video(model, path, target, write, batch, progress, done)
                except ValueError as error:
                    failed.append(str(error))
                progress.end(1)
    return failed


class _Progress:
    """A bar on a terminal, lines elsewhere, which say of a large image or a video how far it is."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._name = total, 0, ""
        self._bar, self._lines = progress_bar(transient=True), ProgressLines("predicted", total=total)
        self._hearing = hearing_parts(self.part)

    def __enter__(self) -> _Progress:
        self._bar.start()
        self._task = self._bar.add_task("predicting", total=self._total)
        self._hearing.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._hearing.__exit__(None, None, None)
        self._bar.stop()

    def begin(self, name: str) -> None:
        self._name = name
        self._bar.update(self._task, description=f"predicting {name}")
        self._lines.update(note=name)

    def part(self, text: str) -> None:
        self._bar.update(self._task, description=f"predicting {self._name}, {text}")
        self._lines.update(note=f"{self._name}, {text}")

    def end(self, count: int) -> None:
        self._done += count
        self._bar.update(self._task, completed=self._done)
        self._lines.update(self._done)


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
        target, number = out / place.with_name(picture_name(place, ending)), 1
        while target in taken:
            number += 1
            target = out / place.with_name(picture_name(place, f"-{number}{ending}"))
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
        write({"image": str(path), "picture": target, **model.task.row(result)})
        yield path, target, result


def _predict_video(
    model: Predictor,
    path: Path,
    target: Path,
    write: WriteRow,
    batch: int,
    progress: _Progress,
    done: Callable[[], None],
) -> None:
    reader = video.VideoReader(path)
    count = 0
    rows: list[dict[str, Any]] = []
    with video.writing(target, reader.rate) as draw:
        for frames in _batches(reader, batch):
            for frame, result in zip(frames, model.predict(frames), strict=True):
                draw(model.task.draw(frame, result))
                place = {
                    "image": str(path),
                    "picture": target,
                    "frame": count,
                    "seconds": round(count / reader.rate, 3),
                }
                rows.append(place | model.task.row(result))
                write(dict(rows[-1]))
                count += 1
            progress.part(f"frame {count}{f' of {reader.frames}' if reader.frames else ''}")
            done()
    write_over_time(rows, model.task.over_time, target)


def _batches(frames: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    rest = iter(frames)
    while batch := list(itertools.islice(rest, size)):
        yield batch


class _Table:
    """A CSV file, of which each line is whole and on the disk's way when it has been written.

    The first row takes the place of an earlier table. ``picture`` is the file under ``out``, ``frame`` and ``seconds``
    are empty for images.
    """

    def __init__(self, out: Path) -> None:
        self._out, self._columns = out, []  # type: tuple[Path, list[str]]

    def __call__(self, row: dict[str, Any]) -> None:
        row["picture"] = row["picture"].relative_to(self._out).as_posix()
        if not self._columns:
            self._columns = ["image", "picture", "frame", "seconds"]
            self._columns += [key for key in row if key not in self._columns]
            write_csv(self._out / TABLE, self._columns, [row])
        else:
            append_line(self._out / TABLE, csv_line(self._columns, row), sync=False)
