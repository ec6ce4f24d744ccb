"""The HTTP service: the Open Inference Protocol v2, uploads of image files, metrics, and a page to try it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from imaging_ft import __version__
from imaging_ft.adapters import oip, page
from imaging_ft.adapters.answers import answer_errors, refuse
from imaging_ft.adapters.auth import Keys
from imaging_ft.adapters.body import deadline_of, read_body
from imaging_ft.adapters.document import INFERRED, METRICS, TENSORS, describe, refusals
from imaging_ft.adapters.gate import Gate
from imaging_ft.adapters.predict_route import Shortcut, add_predict
from imaging_ft.adapters.service import LOAD_OFF, Service
from imaging_ft.inference.batching import Answer
from imaging_ft.inference.models import Served
from imaging_ft.types import Json

_LARGE = 1 << 16
"""Bytes of a request, or values of an answer, from which on another thread works on it: others aren't kept waiting."""


def create_app(service: Service, *, keys: Keys | None = None, allow_load: bool = False) -> Gate:
    """Return the ASGI application of a service."""
    app = FastAPI(title="imaging_ft", version=__version__, docs_url=None, redoc_url=None)
    _health(app, service)
    _protocol(app, service)
    _repository(app, service, allow_load=allow_load)
    add_predict(app, service)
    _page(app)
    answer_errors(app, service)
    describe(app, keys=bool(keys))
    return Gate(Shortcut(app, service), service, keys or Keys())


def _health(app: FastAPI, service: Service) -> None:
    @app.get("/v2/health/live", summary="Whether the process is alive.")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready", summary="Whether it takes requests.", responses=refusals(503))
    async def ready() -> Response:
        if service.ending:
            return refuse(503, "the service is stopping", {"retry-after": "1"})
        return JSONResponse({"ready": True})

    @app.get("/metrics", summary="Counters, as Prometheus reads them.", responses=METRICS | refusals(401))
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _protocol(app: FastAPI, service: Service) -> None:
    refused = refusals(400, 401, 404, 429, 503)

    @app.get("/v2", summary="The server.", responses=refusals(401, 429, 503))
    async def server() -> Json:
        return {"name": "imaging_ft", "version": __version__, "extensions": ["binary_tensor_data", "model_repository"]}

    async def metadata(name: str, version: str | None = None) -> Json:
        return oip.metadata(service.versioned(name, version))

    async def ready(name: str, version: str | None = None) -> Json:
        service.versioned(name, version)
        return {"name": name, "ready": True}

    async def infer(request: Request, name: str, version: str | None = None) -> Response:
        served = service.versioned(name, version)
        body = await read_body(request, service.limits)
        length = request.headers.get(oip.HEADER_LENGTH)

        def read() -> tuple[Json, list[oip.Tensor], list[Json]]:
            values, binary = oip.parse(body, length)
            images = oip.images_of(values, binary, oip.input_of(served.runner), service.limits.images)
            return values, images, oip.wanted_outputs(values, served.runner.outputs)

        values, images, outputs = await service.in_pool(read) if len(body) > _LARGE else read()
        asked = request.scope["state"]["request_id"]
        served, answers = await service.infer(name, images, request_id=asked, deadline=deadline_of(request))
        return await _inferred(service, values, served, answers, outputs)

    wrong = INFERRED | refused | refusals(403, 408, 413, 415, 504)
    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        app.get(path, summary="A model's input and outputs.", responses=refused)(metadata)
        app.get(f"{path}/ready", summary="Whether a model answers.", responses=refused)(ready)
        app.post(f"{path}/infer", summary="Run tensors.", responses=wrong, openapi_extra=TENSORS)(infer)


async def _inferred(
    service: Service, values: Json, served: Served, answers: Sequence[Answer], outputs: Sequence[Json]
) -> Response:
    size = len(answers) * sum(answers[0].outputs[output["name"]].size for output in outputs)

    def written() -> tuple[bytes, int | None]:
        return oip.response(values, served, answers, outputs)

    content, length = await service.in_pool(written) if size > _LARGE else written()
    if length is None:
        return Response(content, media_type="application/json")
    return Response(content, media_type="application/octet-stream", headers={oip.HEADER_LENGTH: str(length)})


def _repository(app: FastAPI, service: Service, *, allow_load: bool) -> None:
    refused = refusals(400, 401, 403, 404, 429, 503)

    @app.post("/v2/repository/index", summary="The models that were loaded.", responses=refusals(401, 403, 429, 503))
    async def index() -> list[Json]:
        return service.index()

    @app.post("/v2/repository/models/{name}/load", summary="Load a model's file anew.", responses=refused)
    async def load(name: str) -> Response:
        if not allow_load:
            return refuse(403, LOAD_OFF)
        await asyncio.to_thread(service.load, name)
        return JSONResponse({})

    @app.post("/v2/repository/models/{name}/unload", summary="Take a model away.", responses=refused)
    async def unload(name: str) -> Response:
        if not allow_load:
            return refuse(403, LOAD_OFF)
        service.models.unload(name)
        return JSONResponse({})


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
