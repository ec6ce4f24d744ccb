"""`/v1/predict`: image files in, what is seen in them out; and the models' cards."""

import asyncio
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from imaging_ft.adapters.answers import answer_to, told
from imaging_ft.adapters.body import BodyError, deadline_of, read_body
from imaging_ft.adapters.document import PREDICTED, UPLOAD, refusals
from imaging_ft.adapters.form import files_of
from imaging_ft.adapters.service import Predicted, Service
from imaging_ft.errors import ImagingFtError, InputError, UnknownModelError
from imaging_ft.types import Json

PREDICT = "/v1/predict"
_UPLOADS = ("image/", "application/dicom", "application/octet-stream")
_FORM = "multipart/form-data"


def add_predict(app: FastAPI, service: Service) -> None:
    """Let an application answer image files."""

    @app.get("/v1/models", summary="The models' cards.", responses=refusals(401, 429, 503))
    async def models() -> list[Json]:
        return [service.card(name) for name in service.models.names()]

    @app.post(
        PREDICT,
        summary="Predict an image file: JPEG, PNG, TIFF, BMP, WebP or DICOM.",
        responses=PREDICTED | refusals(400, 401, 403, 404, 408, 413, 415, 422, 429, 503, 504),
        openapi_extra=UPLOAD,
    )
    async def predict(
        request: Request,
        model: Annotated[str | None, Query(description="A model's name; the first, where it is left out.")] = None,
        heatmap: Annotated[bool, Query(description="Also give a heat map, as a PNG.")] = False,  # noqa: FBT002
    ) -> Response:
        return await _predict(request, service, model=model, heatmap=heatmap)


class Shortcut:
    """An ASGI application around that one: an upload without a query, which is nearly all that comes, goes past it.

    What FastAPI does for a request, its query's validation most of all, would be a tenth of what a small image costs.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an upload, or hand the request on."""
        if scope["type"] != "http" or (scope["method"], scope["path"], scope["query_string"]) != ("POST", PREDICT, b""):
            await self._app(scope, receive, send)
            return
        try:
            response = await _predict(Request(scope, receive), self._service)
        except (ImagingFtError, BodyError) as error:
            response = answer_to(error, self._service)
        await response(scope, receive, send)


async def _predict(request: Request, service: Service, *, model: str | None = None, heatmap: bool = False) -> Response:
    name = model if model is not None else next(iter(service.models.names()), "")
    served = service.models.get(name)
    data = await _uploads(request, service)
    deadline, asked = deadline_of(request), request.scope["state"]["request_id"]

    async def predicted(one: bytes) -> Predicted:
        return await service.predict_file(name, one, request_id=asked, heatmap=heatmap, deadline=deadline)

    async def predicted_beside(one: bytes) -> Predicted | str:
        try:
            return await predicted(one)
        except UnknownModelError:
            raise
        except InputError as error:
            return " ".join(told(error, service).split())  # it fails none of those beside it

    found: list[Predicted | str]
    if len(data) == 1:
        found = [await predicted(data[0])]
    else:
        tasks = [asyncio.create_task(predicted_beside(one)) for one in data]
        try:
            found = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
    good = [one for one in found if isinstance(one, Predicted)]
    served = good[0].served if good else served
    thresholds = served.runner.bundle.thresholds
    return JSONResponse(
        {
            "model": served.name,
            "model_version": str(served.version),
            "model_sha256": served.runner.sha256,
            "request_id": asked,
            "predictions": [_failed(one, thresholds) if isinstance(one, str) else one.as_json() for one in found],
            "seconds": {
                "queue": max((one.answer.queued for one in good), default=0.0),
                "compute": max((one.answer.computed for one in good), default=0.0),
            },
        }
    )


def _failed(reason: str, thresholds: object) -> Json:
    return {
        "status": "error",
        "label": None,
        "labels": [],
        "probability": None,
        "probabilities": {},
        "thresholds": thresholds,
        "reason": reason,
    }


async def _uploads(request: Request, service: Service) -> list[bytes]:
    """Return the image files in a request: its body, or the files of a form; raises BodyError."""
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    if kind and kind != _FORM and not kind.startswith(_UPLOADS):
        raise BodyError(415, f"content-type {kind!r} is not read; send an image file, or a form with one")
    body = await read_body(request, service.limits)
    if kind == _FORM:
        return files_of(body, content_type, most=service.limits.images)
    if not body:
        raise BodyError(400, "the body is empty; send an image file")
    return [body]
