"""What every request passes: who may ask, how much may be sent and how slowly, how many may wait."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ean_core.demo.limits import RefusedError
from ean_core.demo.queue import Queue

FREE = ("/static/", "/kept/")  # nothing is computed for these
HEADERS = {
    b"content-security-policy": b"default-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
    b"style-src 'self'; style-src-attr 'unsafe-inline'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}


class Guard:
    """An ASGI middleware.

    Args:
        app: What answers.
        queue: Has the places and the limits.
        password: Which the browser asks for, with any name; ``None``: none.
        hosts: The names under which the page may be asked for; ``None``: any. A web page of somebody else that lets a
            name of its own point to this machine is thus not answered.
    """

    def __init__(self, app: ASGIApp, *, queue: Queue, password: str | None, hosts: tuple[str, ...] | None) -> None:
        self.app, self.queue, self.password, self.hosts = app, queue, password, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS.items()]
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, with_headers)
        elif scope["path"].startswith(FREE):
            await self.app(scope, receive, with_headers)
        else:
            try:
                with self.queue.place():
                    await self.app(scope, self._bounded(headers, receive), with_headers)
            except RefusedError as error:
                busy = PlainTextResponse(str(error), error.status, {"retry-after": "5", "connection": "close"})
                await busy(scope, receive, with_headers)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> Response | None:
        try:
            host = urlsplit(f"//{headers.get('host', '')}").hostname
        except ValueError:  # half of an IPv6 address
            host = ""
        if self.hosts is not None and host not in self.hosts:
            return PlainTextResponse("This page is not offered under that name.", 421)
        if self.password is not None and not _knows(headers.get("authorization", ""), self.password):
            return PlainTextResponse(
                "This page has a password.", 401, {"www-authenticate": 'Basic realm="EAN", charset="UTF-8"'}
            )
        origin = headers.get("origin")
        if scope["method"] not in ("GET", "HEAD") and origin is not None and _host(origin) != headers.get("host"):
            return PlainTextResponse("Another web page sent this: use the page itself.", 403)
        return None

    def _bounded(self, headers: dict[str, str], receive: Receive) -> Receive:
        """``receive``, until too much has come, or it took too long; both become an answer of the application."""
        limits, got = self.queue.limits, 0
        until = asyncio.get_running_loop().time() + limits.upload_seconds
        whole = False
        mega = limits.upload_bytes / 2**20
        too_large = HTTPException(413, f"The file is larger than {mega:g} MiB: send a smaller one.")
        length = headers.get("content-length", "0")

        async def bounded() -> Message:
            nonlocal got, whole
            if whole:  # what follows is the end of the connection, which nothing is computed for
                return await receive()
            if not length.isdigit() or int(length) > limits.upload_bytes:
                raise too_large
            try:
                message = await asyncio.wait_for(receive(), max(0.0, until - asyncio.get_running_loop().time()))
            except asyncio.TimeoutError as error:
                seconds = limits.upload_seconds
                raise HTTPException(408, f"The file did not arrive within {seconds:g} s: send it again.") from error
            got += len(message.get("body", b""))
            if got > limits.upload_bytes:
                raise too_large
            whole = message["type"] == "http.disconnect" or not message.get("more_body", False)
            return message

        return bounded


def _knows(authorization: str, password: str) -> bool:
    kind, _, text = authorization.partition(" ")
    try:
        _, _, given = base64.b64decode(text, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return False
    return kind.lower() == "basic" and hmac.compare_digest(given, password.encode())


def _host(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # half of an IPv6 address
        return ""
