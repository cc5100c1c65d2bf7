"""The tab "Predict": an image or a video under one or several networks."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from PIL import Image

from ean_core.application import View
from ean_core.demo.kept import Grid, Kept, Result
from ean_core.demo.limits import Limits
from ean_core.demo.uploads import opened_video, read_picture, reduce
from ean_core.errors import UserError
from ean_core.files import csv_text
from ean_core.images import Picture
from ean_core.inference import Predictor
from ean_core.inference.drawing import to_png
from ean_core.inference.video import writing

QUALITY = 90  # of the image's JPEG on the page


@dataclass(frozen=True)
class Card:
    """A network's answer on the page.

    Attributes:
        name: The network's.
        answer: In a few words.
        seconds: That the network took, with its preprocessing, for the image or for a frame.
        word: Of what is kept of it.
        size: Width and height of the picture in pixels.
        view: What is shown; ``None`` for a video.
        picture: The file that is shown: the image, or the task's own picture where nothing else says what it shows; of
            a video the first frame.
        downloads: Names of the files that are offered.
        note: What else there is to know.
        grid: Whether the sum in a rectangle can be asked for.
    """

    name: str
    _: KW_ONLY
    answer: str
    seconds: float
    word: str
    size: tuple[int, int]
    view: View | None
    picture: str
    downloads: Sequence[str]
    note: str = ""

    @property
    def grid(self) -> bool:
        """Whether the sum in a rectangle can be asked for."""
        return self.view is not None and self.view.cells is not None


def predict_image(networks: dict[str, Predictor], file: BinaryIO, limits: Limits, kept: Kept) -> list[Card]:
    """The answers of some networks to one image, in their order.

    Raises:
        UserError, RefusedError: The image cannot be read or is too large, or a network's output is not finite.
    """
    picture, note = read_picture(file, limits)
    return [_card(name, predictor, picture, note, kept) for name, predictor in networks.items()]


def _card(name: str, predictor: Predictor, picture: Picture, note: str, kept: Kept) -> Card:
    start = time.perf_counter()
    (result,) = predictor.predict([picture])
    seconds = time.perf_counter() - start
    view = predictor.task.view(picture, result)
    drawn, table = to_png(predictor.task.draw(picture, result)), _table([predictor.task.row(result)])
    files = {"picture.png": drawn, "result.csv": table, **view.files}
    downloads = list(files)
    if view.legend or view.layer is not None:
        files["image.jpg"] = _jpeg(picture)
    if view.layer is not None:
        files["layer.png"] = to_png(Image.fromarray(view.layer))
    size = (picture.shape[0], picture.shape[1])
    grid = None if view.cells is None else Grid(view.cells, cell=view.cell, unit=view.unit, size=size)
    return Card(
        name,
        answer=view.answer,
        seconds=seconds,
        word=kept.put(Result(files, grid)),
        size=(size[1], size[0]),
        view=view,
        picture="image.jpg" if "image.jpg" in files else "picture.png",
        downloads=downloads,
        note=note,
    )


def predict_video(networks: dict[str, Predictor], file: BinaryIO, limits: Limits, kept: Kept) -> list[Card]:
    """The annotated video of one network, a table with a line a frame, and its first frame to begin with.

    The frames are the first ones, as many as the limits and the time allow.

    Raises:
        UserError, RefusedError: The video cannot be read or is too large, or several networks were chosen.
    """
    if len(networks) != 1:
        raise UserError("A video goes through one network: choose one.")
    ((name, predictor),) = networks.items()
    until = time.monotonic() + 0.8 * limits.compute_seconds
    rows: list[dict[str, Any]] = []
    shown, spent, whole = Image.new("RGB", (1, 1)), 0.0, True
    with opened_video(file, limits) as reader, TemporaryDirectory(prefix="ean-demo-") as folder:
        path = Path(folder, "video.mp4")
        with writing(path, reader.rate, "vp09") as write:
            for number, frame in enumerate(reader):
                if number >= limits.frames or time.monotonic() > until:
                    whole = False
                    break
                frame, _ = reduce(frame, limits)
                start = time.perf_counter()
                (result,) = predictor.predict([frame])
                spent += time.perf_counter() - start
                picture = predictor.task.draw(frame, result)
                shown = shown if rows else picture
                write(picture)
                rows.append({"seconds": round(number / reader.rate, 3)} | predictor.task.row(result))
        files = {"video.mp4": path.read_bytes(), "result.csv": _table(rows), "first.png": to_png(shown)}
    known = f" of {reader.frames}" if reader.frames > len(rows) else ""  # the file says it, some do not or wrongly
    return [
        Card(
            name,
            answer=f"{len(rows)} frames" if whole else f"the first {len(rows)}{known} frames",
            seconds=spent / len(rows),
            word=kept.put(Result(files)),
            size=shown.size,
            view=None,
            picture="first.png",
            downloads=["video.mp4", "result.csv"],
        )
    ]


def _table(rows: Sequence[dict[str, Any]]) -> bytes:
    return csv_text(list(rows[0]), rows).encode()


def _jpeg(picture: Picture) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "jpeg", quality=QUALITY)
    return data.getvalue()
