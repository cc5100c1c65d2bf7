"""How much the page takes from whoever reaches it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""The names of this machine for itself: nobody else reaches what listens there."""


@dataclass(frozen=True)
class Limits:
    """All of them in one place; ``docs/demo.md`` lists them.

    Attributes:
        upload_bytes: Of one request.
        upload_seconds: Until a request has arrived whole.
        pixels: Of an image, by its header, before anything is decoded: about 10 bytes of memory each.
        side: A longer image is reduced to this before it goes into a network.
        frames: Of a video; what comes after them is left out.
        compute_seconds: For one request, from when its turn has come.
        waiting: Requests at once, under way or in the queue.
        connections: Open at once.
        kept_bytes: Of results that can still be looked at and downloaded; the oldest make room.
        kept_seconds: Until a result is forgotten.
    """

    _: KW_ONLY
    upload_bytes: int = 32 << 20
    upload_seconds: float = 60.0
    pixels: int = 25_000_000
    side: int = 1600
    frames: int = 300
    compute_seconds: float = 120.0
    waiting: int = 64
    connections: int = 256
    kept_bytes: int = 128 << 20
    kept_seconds: float = 1800.0


class RefusedError(Exception):
    """A request that is not answered; the message is a sentence for the page.

    Args:
        status: HTTP's number for it.
        message: What is wrong, and what to do.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
