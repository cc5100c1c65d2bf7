"""The addresses of the tabs "Predict" and "Look inside", and of the results that they keep."""

from __future__ import annotations

import mimetypes
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, UploadFile
from starlette.responses import Response

from ean_core.demo import inside, predict
from ean_core.demo.limits import RefusedError
from ean_core.demo.page import Page
from ean_core.demo.uploads import is_video
from ean_core.errors import UserError

Names = Annotated[list[str], Form(default_factory=list)]
Number = Annotated[float, Query(allow_inf_nan=False)]
CACHED = {"cache-control": "private, max-age=600"}


def image_routes(page: Page) -> APIRouter:
    """The two tabs and the kept results."""
    router = APIRouter()

    @router.get("/")
    async def _predict() -> Response:
        return page.show("predict.html", tab="/", networks=list(page.networks))

    @router.post("/predict")
    async def _predicted(file: UploadFile, network: Names) -> Response:
        some, stream = page.chosen(network), _sent(file)
        function = predict.predict_video if is_video(stream) else predict.predict_image
        return page.show("cards.html", cards=await page.queue.run(function, some, stream, page.limits, page.kept))

    @router.get("/kept/{word}/count")
    async def _count(word: str, left: Number, top: Number, right: Number, bottom: Number) -> Response:
        grid = page.kept.get(word).grid
        if grid is None:
            raise UserError("This result has nothing to count.")
        return page.show("count.html", count=grid.inside(left, top, right, bottom), unit=grid.unit)

    @router.get("/kept/{word}/{name}")
    async def _file(word: str, name: str, download: bool = False) -> Response:
        files = page.kept.get(word).files
        if name not in files:
            raise RefusedError(404, "There is no such file.")
        headers = CACHED | ({"content-disposition": f'attachment; filename="{name}"'} if download else {})
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(files[name], media_type=kind, headers=headers)

    @router.get("/inside")
    async def _inside() -> Response:
        networks = page.networks
        stages, targets = inside.stages(networks), inside.targets(networks)
        return page.show("inside.html", tab="/inside", networks=list(networks), stages=stages, targets=targets)

    @router.post("/inside")
    async def _looked(
        file: UploadFile,
        network: Names,
        target: Annotated[str, Form(max_length=100)] = "",
        stage: Annotated[str, Form(pattern="^[0-9]{0,2}$")] = "",
    ) -> Response:
        some, stream = page.chosen(network), _sent(file)
        asked: dict[str, Any] = {"target": target.strip() or None, "stage": int(stage) if stage else None}
        look = partial(inside.look_inside, **asked, limits=page.limits, kept=page.kept)
        return page.show("seen.html", seen=await page.queue.run(look, some, stream))

    return router


def _sent(file: UploadFile) -> Any:
    if not file.size:
        raise UserError("Choose a file first.")
    return file.file
