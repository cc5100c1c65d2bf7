"""The page as an ASGI application, and what is said where something fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import torch
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from ean_core.demo.guard import Guard
from ean_core.demo.limits import Limits, RefusedError
from ean_core.demo.page import Page
from ean_core.demo.routes import image_routes
from ean_core.demo.routes_search import search_routes
from ean_core.demo.said import said
from ean_core.errors import UserError
from ean_core.inference import Predictor


def build_app(
    networks: Mapping[str, Predictor],
    work_dirs: Sequence[Path],
    *,
    limits: Limits | None = None,
    device: torch.device | None = None,
    password: str | None = None,
    hosts: tuple[str, ...] | None = None,
) -> FastAPI:
    """The page as an ASGI application.

    Args:
        networks: Loaded checkpoints, by the name that the page shows.
        work_dirs: Folders with searches.
        limits: ``Limits()`` by default.
        device: Where schemes are timed; the CPU by default.
        password: See :class:`~ean_core.demo.guard.Guard`.
        hosts: See there.
    """
    page = Page(networks, work_dirs, limits or Limits(), device or torch.device("cpu"))

    @asynccontextmanager
    async def alive(_: FastAPI) -> AsyncIterator[None]:
        yield
        page.queue.close()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=alive)
    app.add_middleware(Guard, queue=page.queue, password=password, hosts=hosts)
    app.include_router(image_routes(page))
    app.include_router(search_routes(page))
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")

    async def sentence(request: Request, error: Exception) -> Response:
        status, message = said(error)
        opened = "text/html" in request.headers.get("accept", "")  # htmx puts it into a page that is there
        return page.show("failed.html" if opened else "error.html", status, message=message)

    for kind in (RefusedError, UserError, OSError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, sentence)
    return app
