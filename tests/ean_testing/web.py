"""The page of tools/demo.py as a running server, and requests to it as a browser sends them."""

import http.client
import io
import re
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ean_core.demo.limits import LOOPBACK, Limits
from ean_core.inference import Predictor, load
from ean_core.inference.video import writing
from ean_core.search.loop import search
from ean_core.strategies.base import build_strategy
from ean_testing import checkpoints
from ean_testing.synthetic import BLOCKS, evaluate

CLASSES = ("cat", "dog", "fox", "owl", "ape", "bee", "ant")
LIMITS = Limits(upload_bytes=1 << 20, upload_seconds=0.8, pixels=400_000, side=160, frames=4)
"""Small ones: what exceeds them is quick to send."""


class Answer(NamedTuple):
    """An answer: its status, its headers in small letters, its content."""

    status: int
    headers: dict[str, str]
    data: bytes

    @property
    def text(self) -> str:
        """The content as text, without tags, in one line."""
        return " ".join(re.sub(r"<[^>]*>", " ", self.data.decode()).split())

    @property
    def words(self) -> list[str]:
        """The words of the results that a page shows, each once."""
        return list(dict.fromkeys(re.findall(r"/kept/([\w-]+)/", self.data.decode())))


class Web(NamedTuple):
    """A running page."""

    port: int
    app: Any

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request; an iterable as its body is sent in chunks."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        """A page or a file."""
        return self.ask("GET", path, headers=headers)

    def send(self, path: str, file: bytes | None, name: str = "a.png", **fields: Sequence[str]) -> Answer:
        """A form with a file."""
        body, kind = form(file, name, **fields)
        return self.ask("POST", path, body, {"content-type": kind})


def form(file: bytes | None, name: str = "a.png", **fields: Sequence[str]) -> tuple[bytes, str]:
    """The body of a form with a file and fields, and its content type."""
    border = secrets.token_hex(8)
    parts = [f'name="{key}"\r\n\r\n{value}'.encode() for key, values in fields.items() for value in values]
    if file is not None:
        parts.append(f'name="file"; filename="{name}"\r\ncontent-type: image/png\r\n\r\n'.encode() + file)
    start = f"--{border}\r\ncontent-disposition: form-data; ".encode()
    body = b"".join(start + part + b"\r\n" for part in parts) + f"--{border}--\r\n".encode()
    return body, f"multipart/form-data; boundary={border}"


def networks(folder: Path) -> dict[str, Predictor]:
    """A small random network of each task."""
    classes = [f"class {k}" for k in range(21)]
    checkpoints.save(folder / "cls.pth", checkpoints.classification_config(), CLASSES)
    checkpoints.save(folder / "seg.pth", checkpoints.segmentation_config(), classes)
    checkpoints.save(folder / "crowd.pth", checkpoints.crowd_config(), [])
    return {name: load(checkpoint=folder / f"{name}.pth") for name in ("cls", "seg", "crowd")}


def searched(work_dir: Path, steps: int = 6, strategy: str = "random") -> Path:
    """A work directory of a search whose scores are computed by a formula."""
    search(build_strategy(strategy, BLOCKS, seed=3), evaluate, steps, 3, work_dir, draw=False, show=False)
    return work_dir


@contextmanager
def serving(networks: Mapping[str, Predictor], work_dirs: Sequence[Path], **options: Any) -> Iterator[Web]:
    """The page at a free port of this machine, until the block ends."""
    import uvicorn

    from ean_core.demo.app import build_app
    from ean_core.demo.server import listening

    app = build_app(networks, work_dirs, **{"limits": LIMITS, "hosts": LOOPBACK, **options})
    config = uvicorn.Config(app, log_config=None, log_level="critical", access_log=False, timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    with listening("127.0.0.1", 0) as bound:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield Web(bound.getsockname()[1], app)
        server.should_exit = True
        thread.join(10)


def picture(height: int = 40, width: int = 60, seed: int = 0) -> np.ndarray:
    """A smooth random image, RGB."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def encoded(image: np.ndarray, kind: str = "png") -> bytes:
    """An image as a file."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, kind)
    return data.getvalue()


def film(path: Path, frames: int, size: tuple[int, int] = (48, 32)) -> bytes:
    """A video as a file, 10 frames a second."""
    with writing(path, 10.0) as write:
        for seed in range(frames):
            write(Image.fromarray(picture(size[1], size[0], seed)))
    return path.read_bytes()
