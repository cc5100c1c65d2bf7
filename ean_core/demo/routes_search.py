"""The addresses of the tabs "Schemes" and "Searches"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query
from starlette.responses import Response

from ean_core.demo.limits import RefusedError
from ean_core.demo.page import Page
from ean_core.demo.routes import CACHED
from ean_core.demo.said import said
from ean_core.demo.schemes import Lab
from ean_core.errors import UserError
from ean_core.plug import find_pluggable
from ean_core.scheme import ConnectionScheme

FAILURES = (RefusedError, UserError, OSError)
Network = Annotated[str, Form()]
Blocks = Annotated[list[int], Form(default_factory=list, max_length=400)]
"""Those that are connected, counted from 0 over all stages."""
Chosen = Annotated[list[str], Query(default_factory=list, max_length=20)]


def search_routes(page: Page) -> APIRouter:
    """The two tabs."""
    router, run, searches = APIRouter(), page.queue.run, page.searches

    @router.get("/schemes")
    async def _schemes(network: str = "", scheme: Annotated[str, Query(pattern="^[01-]{0,400}$")] = "") -> Response:
        names = list(await run(page.offered))
        if not names:
            return page.show("schemes.html", tab="/schemes", names=[])
        name = network if network in names else names[0]
        shown: dict[str, Any] = {"tab": "/schemes", "names": names, "name": name}
        try:
            own = await run(page.lab, name)
        except FAILURES as error:  # the others can still be chosen
            status, message = said(error)
            return page.show("schemes.html", status, **shown, failed=True, message=message)
        return page.show("schemes.html", **shown, scheme=_start(page, name, own, scheme))

    @router.post("/schemes/costs")
    async def _costs(network: Network, block: Blocks) -> Response:
        own = await run(page.lab, network)
        scheme = _connected(block, own)
        rows = [(label, await run(own.paper, one)) for label, one in _compared(scheme).items()]
        return page.show("costs.html", rows=rows, scheme=scheme, name=network, lab=own, block=block)

    @router.post("/schemes/times")
    async def _times(network: Network, block: Blocks) -> Response:
        own = await run(page.lab, network)
        several = _compared(_connected(block, own))
        times, rounds = await run(own.times, list(several.values()))
        return page.show("times.html", rows=list(zip(several, times, strict=True)), rounds=rounds, side=own.side)

    @router.post("/schemes/scores")
    async def _scores(network: Network, block: Blocks) -> Response:
        own = await run(page.lab, network)
        several = _compared(_connected(block, own))
        scores = await run(own.scores, list(several.values()))
        return page.show("scores.html", rows=list(zip(several, scores, strict=True)))

    @router.get("/searches")
    async def _searches(name: str = "") -> Response:
        names = list(searches.find())
        current = name if name in names else next(iter(names), "")
        shown: dict[str, Any] = {"tab": "/searches", "names": names, "name": current}
        try:
            return page.show(
                "searches.html", **shown, summary=await run(searches.summary, current) if current else None
            )
        except FAILURES as error:  # the others can still be chosen
            status, message = said(error)
            return page.show("searches.html", status, **shown, failed=True, message=message)

    @router.get("/searches/live")
    async def _live(name: str, version: str = "", drawn: str = "") -> Response:
        try:
            if (searches.version(name), searches.drawn(name)) == (version, drawn):
                return Response(status_code=204)
            return page.show("search.html", summary=await run(searches.summary, name))
        except FAILURES as error:  # a new search moves the files of an earlier one: look again
            status, message = said(error)
            return page.show("search_failed.html", status, name=name, message=message)

    @router.get("/searches/picture/{kind}")
    async def _picture(kind: str, name: str) -> Response:
        return _png(await run(searches.picture, name, kind))

    @router.get("/searches/comparison")
    async def _comparison(name: Chosen) -> Response:
        if len(name) < 2:
            raise UserError("Choose two searches or more.")
        await run(searches.comparison, name)  # what is wrong with them becomes a sentence, not a broken picture
        return page.show("comparison.html", names=name)

    @router.get("/searches/comparison.png")
    async def _compared_picture(name: Chosen) -> Response:
        return _png(await run(searches.comparison, name))

    return router


def _start(page: Page, name: str, own: Lab, text: str) -> ConnectionScheme:
    """The scheme that the address names if it fits, else the one of the checkpoint; of a search everything."""
    bits = text.replace("-", "")
    if bits and len(bits) == sum(own.blocks):
        return ConnectionScheme.parse(bits, own.blocks)
    trained = find_pluggable(page.networks[name].model).scheme if name in page.networks else None
    return trained or ConnectionScheme.full(own.blocks)


def _connected(block: Sequence[int], own: Lab) -> ConnectionScheme:
    on = set(block)
    return ConnectionScheme.parse("".join("01"[i in on] for i in range(sum(own.blocks))), own.blocks)


def _compared(scheme: ConnectionScheme) -> dict[str, ConnectionScheme]:
    """A scheme between the two ends, ``none`` first."""
    none, full = ConnectionScheme.none(scheme.blocks), ConnectionScheme.full(scheme.blocks)
    return {"none": none, "this scheme": scheme, "full": full}


def _png(data: bytes) -> Response:
    return Response(data, media_type="image/png", headers=CACHED)
