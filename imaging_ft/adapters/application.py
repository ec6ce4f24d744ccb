"""The HTTP service: the Open Inference Protocol v2, uploads of image files, metrics, and a page to try it."""

import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import ASGIApp

from imaging_ft import __version__
from imaging_ft.adapters import oip, page
from imaging_ft.adapters.auth import Keys
from imaging_ft.adapters.body import BodyError, read_body
from imaging_ft.adapters.gate import Gate
from imaging_ft.adapters.service import Predicted, Service
from imaging_ft.errors import (
    DrainingError,
    ExpiredError,
    ImageError,
    ImagingFtError,
    QueueFullError,
    ServiceError,
    UnknownModelError,
)
from imaging_ft.inference.models import Served
from imaging_ft.types import Json

_UPLOADS = ("image/", "application/dicom", "application/octet-stream")
_TIMEOUT = "x-timeout-seconds"
_LOAD = "loading and unloading is off; start the service with --allow-load"
_ERROR: dict[int | str, dict[str, Any]] = {
    code: {"description": why, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    for code, why in {
        400: "The request is wrong.",
        401: "No API key, or an unknown one.",
        403: "Not allowed here.",
        404: "No model of that name.",
        408: "The body came too slowly.",
        413: "The body is too large.",
        415: "The body is of a kind that is not read.",
        422: "The image can't be read, or can't be run.",
        429: "Too much at once; Retry-After says when to try again.",
        503: "The service is stopping.",
        504: "No answer before the deadline.",
    }.items()
}
_SCHEMA: Json = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}


def create_app(service: Service, *, keys: Keys | None = None, allow_load: bool = False) -> ASGIApp:
    """Return the ASGI application of a service."""
    app = FastAPI(title="imaging_ft", version=__version__, docs_url=None, redoc_url=None)
    _health(app, service)
    _protocol(app, service)
    _repository(app, service, allow_load=allow_load)
    _predict(app, service)
    _page(app)
    _errors(app)
    _describe(app)
    return Gate(app, service, keys or Keys())


def _health(app: FastAPI, service: Service) -> None:
    @app.get("/v2/health/live", summary="Whether the process is alive.")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready", summary="Whether it takes requests.", responses={503: _ERROR[503]})
    async def ready() -> Response:
        if service.models.draining:
            return _error(503, "the service is stopping", {"retry-after": "1"})
        return JSONResponse({"ready": True})

    @app.get("/metrics", summary="Counters, as Prometheus reads them.", responses=_only(401, 429, 503))
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _protocol(app: FastAPI, service: Service) -> None:
    refused = _only(400, 401, 404, 429, 503)

    @app.get("/v2", summary="The server.", responses=_only(401, 429, 503))
    async def server() -> Json:
        return {"name": "imaging_ft", "version": __version__, "extensions": ["binary_tensor_data", "model_repository"]}

    async def metadata(name: str, version: str | None = None) -> Json:
        return oip.metadata(versioned(service, name, version))

    async def ready(name: str, version: str | None = None) -> Json:
        versioned(service, name, version)
        return {"name": name, "ready": True}

    async def infer(request: Request, name: str, version: str | None = None) -> Response:
        served = versioned(service, name, version)
        body = await read_body(request, service.limits)
        values, binary = oip.parse(body, request.headers.get(oip.HEADER_LENGTH))
        images = oip.images_of(values, binary, oip.input_of(served.runner), service.limits.images)
        outputs = oip.wanted_outputs(values, served.runner.outputs)
        served, answers = await service.infer(name, images, request_id=_id(request), deadline=_deadline(request))
        content, length = oip.response(values, served, answers, outputs)
        if length is None:
            return Response(content, media_type="application/json")
        return Response(
            content, media_type="application/octet-stream", headers={"inference-header-content-length": str(length)}
        )

    body: Json = {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["inputs"],
                        "properties": {
                            "id": {"type": "string"},
                            "inputs": {"type": "array"},
                            "outputs": {"type": "array"},
                        },
                    }
                },
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            },
        }
    }
    wrong = refused | _only(408, 413, 415, 422, 504)
    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        app.get(path, summary="A model's input and outputs.", responses=refused)(metadata)
        app.get(f"{path}/ready", summary="Whether a model answers.", responses=refused)(ready)
        app.post(f"{path}/infer", summary="Run tensors.", responses=wrong, openapi_extra=body)(infer)


def _repository(app: FastAPI, service: Service, *, allow_load: bool) -> None:
    refused = _only(400, 401, 403, 404, 429, 503)

    @app.post("/v2/repository/index", summary="The models that were loaded.", responses=_only(401, 429, 503))
    async def index() -> list[Json]:
        return repository_index(service)

    @app.post("/v2/repository/models/{name}/load", summary="Load a model's file anew.", responses=refused)
    async def load(name: str) -> Response:
        if not allow_load:
            return _error(403, _LOAD)
        await service.in_pool(lambda: service.load(name))
        return JSONResponse({})

    @app.post("/v2/repository/models/{name}/unload", summary="Take a model away.", responses=refused)
    async def unload(name: str) -> Response:
        if not allow_load:
            return _error(403, _LOAD)
        service.models.unload(name)
        return JSONResponse({})


def repository_index(service: Service) -> list[Json]:
    """Return each model that was loaded, with its version and whether it answers."""
    there = service.models.names()
    found: list[Json] = []
    for name in service.paths:
        if name in there:
            version = str(service.models.get(name).version)
            found.append({"name": name, "version": version, "state": "READY", "reason": ""})
        else:
            found.append({"name": name, "version": "", "state": "UNAVAILABLE", "reason": "unloaded"})
    return found


def _predict(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", summary="The models' cards.", responses=_only(401, 429, 503))
    async def models() -> list[Json]:
        return [service.card(name) for name in service.models.names()]

    upload: Json = {"type": "string", "format": "binary"}
    extra: Json = {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {"type": "object", "required": ["image"], "properties": {"image": upload}}
                },
                **{kind: {"schema": upload} for kind in ("image/jpeg", "image/png", "image/tiff", "application/dicom")},
            },
        }
    }

    @app.post(
        "/v1/predict",
        summary="Predict an image file: JPEG, PNG, TIFF, BMP, WebP or DICOM.",
        responses=_only(400, 401, 404, 408, 413, 415, 422, 429, 503, 504),
        openapi_extra=extra,
    )
    async def predict(
        request: Request,
        model: Annotated[str | None, Query(description="A model's name; the first, where it is left out.")] = None,
        heatmap: Annotated[bool, Query(description="Also give a heat map, as a PNG.")] = False,  # noqa: FBT002
    ) -> Response:
        name = model if model is not None else next(iter(service.models.names()), "")
        service.models.get(name)
        data = await _uploads(request, service)
        deadline, asked = _deadline(request), _id(request)
        found = [
            await service.predict_file(name, one, request_id=asked, heatmap=heatmap, deadline=deadline) for one in data
        ]
        return JSONResponse(_predicted(found, asked))


def _predicted(found: list[Predicted], request_id: str) -> Json:
    served = found[0].served
    return {
        "model": served.name,
        "model_version": str(served.version),
        "model_sha256": served.runner.sha256,
        "request_id": request_id,
        "predictions": [one.as_json() for one in found],
        "seconds": {
            "queue": max(one.answer.queued for one in found),
            "compute": max(one.answer.computed for one in found),
        },
    }


async def _uploads(request: Request, service: Service) -> list[bytes]:
    """Return the image files in a request: its body, or the files of a form; raises BodyError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await read_body(request, service.limits)
    if kind == "multipart/form-data":
        return await _files(request, body, service.limits.images)
    if kind and not kind.startswith(_UPLOADS):
        raise BodyError(415, f"content-type {kind!r} is not read; send an image file, or a form with one")
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


def _page(app: FastAPI) -> None:
    for path, (content, kind) in page.files().items():

        async def file(content: bytes = content, kind: str = kind) -> Response:
            return Response(content, media_type=kind, headers=page.HEADERS)

        app.get(path, include_in_schema=False)(_without_arguments(file))


def _without_arguments(function: Callable[[], Awaitable[Response]]) -> Callable[[], Awaitable[Response]]:
    """Return a function whose defaults aren't taken for a query's parameters."""

    async def call() -> Response:
        return await function()

    return call


def versioned(service: Service, name: str, version: str | None) -> Served:
    """Return a model in a version, where one is named; raises UnknownModelError."""
    served = service.models.get(name)
    if version is not None and version != str(served.version):
        raise UnknownModelError(f"{name!r} is served in version {served.version} alone, not {version!r}")
    return served


def _id(request: Request) -> str:
    return request.scope["state"]["request_id"]


def _deadline(request: Request) -> float | None:
    """Return the deadline that a client asks for, by `X-Timeout-Seconds`."""
    asked = request.headers.get(_TIMEOUT)
    if asked is None:
        return None
    try:
        seconds = float(asked)
    except ValueError as error:
        raise BodyError(400, f"{_TIMEOUT}: {asked[:40]!r} is no number of seconds") from error
    if not 0 < seconds < 1e9:
        raise BodyError(400, f"{_TIMEOUT}: {asked[:40]!r} is no number of seconds above 0")
    return time.monotonic() + seconds


def _errors(app: FastAPI) -> None:
    @app.exception_handler(ImagingFtError)
    async def ours(_: Request, error: ImagingFtError) -> Response:
        code, headers = status_of(error)
        return _error(code, str(error), headers)

    @app.exception_handler(BodyError)
    async def body(_: Request, error: BodyError) -> Response:
        return _error(error.code, str(error), {"connection": "close"} if error.code in {408, 413} else {})

    @app.exception_handler(HTTPException)
    async def routing(_: Request, error: HTTPException) -> Response:
        known = {404: "no such address; GET /openapi.json lists them", 405: "this address takes another method"}
        return _error(error.status_code, known.get(error.status_code, str(error.detail)), dict(error.headers or {}))

    from fastapi.exceptions import RequestValidationError

    @app.exception_handler(RequestValidationError)
    async def query(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return _error(400, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")


def status_of(error: ImagingFtError) -> tuple[int, dict[str, str]]:
    """Return the HTTP status of a failure, and its headers."""
    match error:
        case QueueFullError():
            return 429, {"retry-after": str(max(1, round(error.retry_after)))}
        case ExpiredError():
            return 504, {}
        case DrainingError() | ServiceError():
            return 503, {"retry-after": "1"}
        case UnknownModelError():
            return 404, {}
        case ImageError():
            return 422, {}
        case _:
            return 400, {}


def _error(code: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": " ".join(message.split())}, code, headers=headers)


def _only(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: _ERROR[code] for code in codes}


def _describe(app: FastAPI) -> None:
    """Let the OpenAPI document say what an error looks like, rather than FastAPI's own 422."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        document.setdefault("components", {}).setdefault("schemas", {})["Error"] = _SCHEMA
        for operations in document["paths"].values():
            for operation in operations.values():
                found = operation["responses"].get("422")
                if found and "HTTPValidationError" in json.dumps(found):
                    del operation["responses"]["422"]
                    operation["responses"].setdefault("400", _ERROR[400])
        return document

    app.openapi = openapi
