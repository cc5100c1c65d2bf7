"""One worker computes for all visitors, one request after the other, and the number of those that wait is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from ean_core.demo.limits import Limits, RefusedError

T = TypeVar("T")


class Queue:
    """A worker and a bounded number of places.

    A thread cannot be stopped: what exceeds its time is computed to its end, and the others wait, but whoever asked for
    it is told. So what takes long looks at the time itself (videos), or is bounded by the size of its input.

    Args:
        limits: The page's.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits, self.places = limits, 0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="demo")

    @contextmanager
    def place(self) -> Iterator[None]:
        """Have one of the places.

        Raises:
            RefusedError: All are taken.
        """
        if self.places >= self.limits.waiting:
            raise RefusedError(503, f"{self.places} requests are waiting already: try again in a moment.")
        self.places += 1
        try:
            yield
        finally:
            self.places -= 1

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """What the function returns, when its turn has come.

        Raises:
            RefusedError: It took too long.
        """
        loop = asyncio.get_running_loop()
        begun = asyncio.Event()

        def work() -> T:
            loop.call_soon_threadsafe(begun.set)
            return function(*args)

        future = asyncio.wrap_future(self._worker.submit(work))
        await begun.wait()
        seconds = self.limits.compute_seconds
        try:
            return await asyncio.wait_for(asyncio.shield(future), seconds)
        except asyncio.TimeoutError as error:
            if future.done():
                raise
            raise RefusedError(
                503, f"That took more than {seconds:g} s: try a smaller image, or fewer networks at once."
            ) from error

    def close(self) -> None:
        """End the worker behind what it is computing; what waits is dropped."""
        self._worker.shutdown(wait=False, cancel_futures=True)
