"""What the page takes from whoever reaches it: each limit exceeded, and the page goes on."""

import asyncio
import base64
import socket
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ean_core.demo.kept import Grid, Kept, Result
from ean_core.demo.limits import Limits, RefusedError
from ean_core.demo.queue import Queue
from ean_core.inference import Predictor
from ean_testing.web import LIMITS, Web, encoded, form, picture, serving

IMAGE = encoded(picture())


def sentence(web: Web, status: int, text: str, file: bytes | None, **options: str) -> None:
    """That a file is answered with a sentence, and the next one as always."""
    answer = web.send("/predict", file, network=["cls"], **options)
    assert answer.status == status
    assert text in answer.text
    assert answer.data.count(b'role="alert"') == 1
    assert web.send("/predict", IMAGE, network=["cls"]).status == 200


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that says it has so many pixels."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(bytes(1000))) + part(b"IEND", b"")


@pytest.mark.parametrize(
    ("status", "text", "file"),
    [
        (413, "The image has 3000 x 2000 pixels, more than 0.4 million", bomb(3000, 2000)),
        (413, "The image has far too many pixels", bomb(30000, 30000)),
        (400, "the image cannot be read: it is truncated", encoded(picture(200, 200), "jpeg")[:-600]),
        (400, "the image cannot be read", IMAGE[:-30] + bytes(30)),
        (400, "This is no image", b"no image at all"),
        (400, "This is no image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        (400, "This is no image", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        (400, "This is no image", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"),
        (400, "the video cannot be read", bytes(4) + b"ftypisom" + bytes(400)),
        (400, "Choose a file first", b""),
        (422, "Choose a file first", None),
    ],
    ids=["large", "bomb", "cut", "damaged", "text", "eps", "svg", "playlist", "no video", "empty", "none"],
)
def test_a_file_that_cannot_be_used(web: Web, status: int, text: str, file: bytes | None) -> None:
    sentence(web, status, text, file)


def test_names_are_never_paths(web: Web, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(IMAGE)
    sentence(web, 400, "This is no image", b"nothing", name=str(tmp_path / "secret.png"))
    for path in ("/kept/..%2f..%2fetc/passwd", "/static/..%2fapp.py", "/searches/live?name=../../etc", "/kept/a/b.png"):
        answer = web.get(path)
        assert 400 <= answer.status < 500
        assert b"root:" not in answer.data
        assert b"import" not in answer.data
    assert web.get("/schemes?scheme=/etc/passwd").status == 422


def test_too_many_bytes(web: Web) -> None:
    most = LIMITS.upload_bytes
    body, kind = form(bytes(most), network=["cls"])
    assert len(body) > most

    answer = web.ask("POST", "/predict", body[:1000], {"content-type": kind, "content-length": str(len(body))})
    assert (answer.status, "larger than 1 MiB" in answer.text) == (413, True)
    try:
        chunks = (body[start : start + 65536] for start in range(0, len(body), 65536))
        answer = web.ask("POST", "/predict", chunks, {"content-type": kind})
        assert answer.status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # it was answered before everything was sent
    assert web.send("/predict", IMAGE, network=["cls"]).status == 200


def part_of_a_form(web: Web, size: int = 300) -> socket.socket:
    """A connection over which the beginning of a form was sent."""
    body, kind = form(IMAGE, network=["cls"])
    head = f"POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", web.port), timeout=30)
    connection.sendall(head.encode() + body[:size])
    return connection


def test_an_upload_that_waits_ends_in_time(web: Web) -> None:
    with part_of_a_form(web) as connection:
        answer = connection.recv(4096).decode()
    assert answer.startswith("HTTP/1.1 408")
    assert web.send("/predict", IMAGE, network=["cls"]).status == 200


def test_an_upload_that_stops_half_way(web: Web) -> None:
    for _ in range(5):
        part_of_a_form(web).close()
    assert web.send("/predict", IMAGE, network=["cls"]).status == 200


def test_fifty_at_once_are_all_answered(web: Web) -> None:
    images = [encoded(picture(seed=seed)) for seed in range(50)]
    alone = [web.send("/predict", image, network=["cls"]).text for image in images[:3]]
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda image: web.send("/predict", image, network=["cls"]), images))
    assert [answer.status for answer in answers] == [200] * 50

    def said(text: str) -> str:
        return text.split(" ms")[0].rsplit(" ", 1)[0]  # the class and its probability

    assert [said(answer.text) for answer in answers[:3]] == [said(text) for text in alone]
    assert len({word for answer in answers for word in answer.words}) == 50


def test_the_queue_has_an_end(predictors: dict[str, Predictor]) -> None:
    with serving(predictors, [], limits=Limits(waiting=2, upload_seconds=20)) as web:
        held = [part_of_a_form(web) for _ in range(2)]
        until = time.monotonic() + 10
        while (answer := web.get("/")).status != 503 and time.monotonic() < until:
            time.sleep(0.02)
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert "2 requests are waiting already" in answer.data.decode()
        assert web.get("/static/page.css").status == 200
        for connection in held:
            connection.close()
        while (answer := web.get("/")).status == 503 and time.monotonic() < until:
            time.sleep(0.02)
        assert answer.status == 200


def test_what_takes_too_long_is_said(predictors: dict[str, Predictor]) -> None:
    async def main() -> None:
        queue = Queue(Limits(compute_seconds=0.05))
        release = threading.Event()
        slow, next_one = queue.run(release.wait, 20), queue.run(int, "7")
        with pytest.raises(RefusedError, match=r"more than 0\.05 s"):
            await slow
        release.set()
        assert await next_one == 7
        queue.close()

    asyncio.run(main())


def test_other_names_and_other_pages(web: Web) -> None:
    assert web.get("/", host="evil.example").status == 421
    assert web.get("/", host=f"localhost:{web.port}").status == 200
    body, kind = form(IMAGE, network=["cls"])
    own = {"content-type": kind, "origin": f"http://127.0.0.1:{web.port}"}
    assert web.ask("POST", "/predict", body, own).status == 200
    assert web.ask("POST", "/predict", body, own | {"origin": "http://evil.example"}).status == 403
    assert web.ask("POST", "/predict", body, own | {"origin": "http://["}).status == 403
    assert web.get("/", host="[").status == 421
    policy = web.get("/").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe-eval" not in policy


def test_what_was_not_understood_is_named(web: Web) -> None:
    """Nobody is told to choose a file where none is asked for."""
    word = web.send("/predict", IMAGE, network=["crowd"]).words[0]
    for query, said in (
        ("left=&top=0&right=9&bottom=9", "left: "),
        ("left=0&top=0&right=nan&bottom=9", "right: "),
        ("left=0&top=0&right=9&bottom=inf", "bottom: "),
    ):
        answer = web.get(f"/kept/{word}/count?{query}")
        assert answer.status == 422
        assert said in answer.text
        assert "file" not in answer.text
    costs = web.ask(
        "POST", "/schemes/costs", "network=cls&block=a", {"content-type": "application/x-www-form-urlencoded"}
    )
    assert "understood: block: " in costs.text
    answer = web.send("/inside", b"\x1a\x45\xdf\xa3" + bytes(99), network=["cls"])
    assert (answer.status, "videos go to the tab Predict" in answer.text) == (400, True)
    assert "at most 20" in web.get("/searches/comparison?" + "&".join(["name=first"] * 21)).text


def test_what_fails_is_said_on_a_whole_page(web: Web) -> None:
    """With the tabs, where somebody opened an address; htmx puts a sentence into the page that is there."""
    answer = web.get("/nothing", accept="text/html,application/xml;q=0.9,*/*;q=0.8")
    assert answer.status == 404
    assert b'<a href="/searches"' in answer.data
    assert answer.data.count(b'role="alert"') == 1
    assert b"<html" not in web.get("/nothing", accept="*/*").data


def test_a_password(predictors: dict[str, Predictor]) -> None:
    with serving({}, [], password="pässword", hosts=None) as web:
        for path in ("/", "/static/page.css", "/kept/a/b"):
            answer = web.get(path)
            assert answer.status == 401
            assert answer.headers["www-authenticate"].startswith("Basic")
        for text, status in (("any:pässword", 200), (":pässword", 200), ("any:password", 401), ("pässword", 401)):
            word = base64.b64encode(text.encode()).decode()
            assert web.get("/", authorization=f"Basic {word}", host="elsewhere.example").status == status
        assert web.get("/", authorization="Basic ???").status == 401
        assert web.get("/", authorization="Bearer pässword".encode().decode("latin-1")).status == 401


def test_results_make_room_and_are_forgotten() -> None:
    kept = Kept(Limits(kept_bytes=25, kept_seconds=60))
    words = [kept.put(Result({"a": bytes(10)})) for _ in range(4)]
    assert len(set(words)) == 4
    for word in words[:2]:
        with pytest.raises(RefusedError, match="no longer kept"):
            kept.get(word)
    assert kept.get(words[2]).size == 10
    assert kept.get(kept.put(Result({"a": bytes(100)}))).size == 100  # the newest stays, whatever its size
    old = Kept(Limits(kept_seconds=0.0))
    with pytest.raises(RefusedError):
        old.get(old.put(Result({"a": b"1"}, when=time.monotonic() - 1)))


def test_the_sum_in_a_rectangle() -> None:
    """Against a plain loop: each pixel has its cell's quantity, divided by the pixels that the cell has."""
    rng = np.random.default_rng(0)
    cells, size, cell = rng.random((3, 4)), (21, 30), 8  # the last row of cells has 5 pixels, the last column 6
    pixels = np.zeros(size)
    for y in range(size[0]):
        for x in range(size[1]):
            height, width = min(8, size[0] - y // 8 * 8), min(8, size[1] - x // 8 * 8)
            pixels[y, x] = cells[y // 8, x // 8] / (height * width)
    grid = Grid(cells, cell=cell, unit="people", size=size)
    for left, top, right, bottom in ((0, 0, 30, 21), (3, 5, 17, 20), (8, 8, 9, 9), (5, 5, 5, 9), (-9, -9, 99, 99)):
        expected = pixels[max(top, 0) : bottom, max(left, 0) : right].sum()
        assert grid.inside(left, top, right, bottom) == pytest.approx(expected)
        assert grid.inside(right, bottom, left, top) == pytest.approx(expected)
    assert grid.inside(0, 0, 30, 21) == pytest.approx(cells.sum())
    assert grid.inside(0.5, 0, 1, 1) == pytest.approx(pixels[0, 0] / 2)
