"""`/v1/predict`: image files in, what is seen in them out; and the models' cards."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response
from starlette.formparsers import MultiPartException, MultiPartParser

from imaging_ft.adapters.answers import told
from imaging_ft.adapters.body import BodyError, deadline_of, read_body
from imaging_ft.adapters.document import PREDICTED, UPLOAD, refusals
from imaging_ft.adapters.service import Predicted, Service
from imaging_ft.errors import InputError, UnknownModelError
from imaging_ft.types import Json

_UPLOADS = ("image/", "application/dicom", "application/octet-stream")


def add_predict(app: FastAPI, service: Service) -> None:
    """Let an application answer image files."""

    @app.get("/v1/models", summary="The models' cards.", responses=refusals(401, 429, 503))
    async def models() -> list[Json]:
        return [service.card(name) for name in service.models.names()]

    @app.post(
        "/v1/predict",
        summary="Predict an image file: JPEG, PNG, TIFF, BMP, WebP or DICOM.",
        responses=PREDICTED | refusals(400, 401, 403, 404, 408, 413, 415, 422, 429, 503, 504),
        openapi_extra=UPLOAD,
    )
    async def predict(
        request: Request,
        model: Annotated[str | None, Query(description="A model's name; the first, where it is left out.")] = None,
        heatmap: Annotated[bool, Query(description="Also give a heat map, as a PNG.")] = False,  # noqa: FBT002
    ) -> Response:
        name = model if model is not None else next(iter(service.models.names()), "")
        served = service.models.get(name)
        data = await _uploads(request, service)
        deadline, asked = deadline_of(request), request.scope["state"]["request_id"]
        alone = len(data) == 1

        async def predicted(one: bytes) -> Predicted | str:
            try:
                return await service.predict_file(name, one, request_id=asked, heatmap=heatmap, deadline=deadline)
            except UnknownModelError:
                raise
            except InputError as error:
                if alone:
                    raise
                return " ".join(told(error, service).split())  # it fails none of those beside it

        tasks = [asyncio.create_task(predicted(one)) for one in data]
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
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and kind != "multipart/form-data" and not kind.startswith(_UPLOADS):
        raise BodyError(415, f"content-type {kind!r} is not read; send an image file, or a form with one")
    body = await read_body(request, service.limits)
    if kind == "multipart/form-data":
        return await _files(request, body, service.limits.images)
    if not body:
        raise BodyError(400, "the body is empty; send an image file")
    return [body]


async def _files(request: Request, body: bytes, most: int) -> list[bytes]:
    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await MultiPartParser(request.headers, once(), max_files=most, max_fields=16).parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise BodyError(400, f"the form can't be read: {getattr(error, 'message', error)}") from error
    files = [value for _, value in form.multi_items() if not isinstance(value, str)]
    try:
        found = [await file.read() for file in files]
    finally:
        await form.close()
    if not found:
        raise BodyError(400, "the form holds no file; send the image's as 'image'")
    return found
