"""Errors as answers of HTTP: a status, a line of JSON, and nothing more."""

from typing import cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from imaging_ft.adapters.body import BodyError
from imaging_ft.adapters.service import Service
from imaging_ft.errors import (
    ExpiredError,
    ImageError,
    ImagingFtError,
    QueueFullError,
    ServiceError,
    UnknownModelError,
)

BROKEN = "something went wrong here; the log has it under this request's id"
_LONGEST = 500
_KNOWN = {404: "no such address; GET /openapi.json lists them", 405: "this address takes another method"}


def refuse(code: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """Return an error as an answer; a message that quotes what was sent is cut."""
    line = " ".join(message.split())
    return JSONResponse({"error": line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"}, code, headers=headers)


def status_of(error: ImagingFtError) -> tuple[int, dict[str, str]]:
    """Return the HTTP status of a failure, and its headers."""
    match error:
        case QueueFullError():
            return 429, {"retry-after": str(max(1, round(error.retry_after)))}
        case ExpiredError():
            return 504, {}
        case ServiceError():
            return 503, {"retry-after": "1"}
        case UnknownModelError():
            return 404, {}
        case ImageError():
            return 422, {}
        case _:
            return 400, {}


def told(error: Exception, service: Service) -> str:
    """Return what a client is told of a failure: models by their names, not by where their files lie."""
    text = str(error)
    for name, path in service.paths.items():
        text = text.replace(str(path), name)
    return text


def answer_to(error: ImagingFtError | BodyError, service: Service) -> Response:
    """Return a failure that was foreseen as an answer."""
    if isinstance(error, BodyError):
        # What comes late is cut off. What is too large is read to its end, or its sender would never see the answer.
        return refuse(error.code, str(error), {"connection": "close"} if error.code == 408 else {})
    code, headers = status_of(error)
    return refuse(code, told(error, service), headers)


def answer_errors(app: FastAPI, service: Service) -> None:
    """Let an application answer every failure so."""

    async def foreseen(_: Request, error: Exception) -> Response:
        return answer_to(cast("ImagingFtError | BodyError", error), service)

    app.add_exception_handler(ImagingFtError, foreseen)
    app.add_exception_handler(BodyError, foreseen)

    @app.exception_handler(HTTPException)
    async def routing(_: Request, error: HTTPException) -> Response:
        return refuse(error.status_code, _KNOWN.get(error.status_code, str(error.detail)), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def query(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return refuse(400, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, __: Exception) -> Response:
        return refuse(500, BROKEN)  # and it is raised again, for the log
