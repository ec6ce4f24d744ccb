"""What every request passes before anything is read of it: a name for the logs, the key, and room for one more."""

import asyncio
import json
import logging
import re
import time
from typing import Any
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imaging_ft.adapters.answers import BROKEN
from imaging_ft.adapters.auth import Keys, key_of
from imaging_ft.adapters.logs import Fields
from imaging_ft.adapters.service import Service

LOG = logging.getLogger("imaging_ft.serve")
"""One JSON object a line: what was asked, how it ended, how long it took. No image, file name or patient's tag."""
OPEN = ("/v2/health/live", "/v2/health/ready", "/", "/assets/")
"""Paths that need no key: probes, and the page, which holds nothing of anyone."""

METRICS = "/metrics"
SANE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
"""A request's name that a client chose."""


class Gate:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp, service: Service, keys: Keys) -> None:
        self._app = app
        self._service = service
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get(b"x-request-id", "")
        request_id = given if SANE.fullmatch(given) else uuid4().hex
        scope["state"] = {**scope.get("state", {}), "request_id": request_id}
        started = time.perf_counter()
        code = 0
        begun = False

        async def told(message: Message) -> None:
            nonlocal code, begun
            if message["type"] == "http.response.start":
                begun = True
                code = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", request_id.encode())]}
            await send(message)

        probe = _is_open(scope["path"])
        refused = None if probe else self._refusal(scope, headers)
        accepted = not probe and refused is None
        self._service.metrics.in_flight.inc()
        self._service.inside += accepted
        try:
            if refused is not None:
                await _refuse(told, *refused)
            else:
                await self._app(scope, receive, told)
        except asyncio.CancelledError:
            if begun or not self._service.stopping:
                raise
            await _refuse(
                told, 503, "the service ended before this was answered; ask another one", {"retry-after": "1"}
            )
        except Exception as error:
            LOG.error(Fields({"request": request_id, "error": type(error).__name__}), exc_info=error)
            if not begun:
                await _refuse(told, 500, BROKEN, {})
        finally:
            self._service.inside -= accepted
            self._service.metrics.in_flight.dec()
            self._service.metrics.requests.labels("http", str(code)).inc()
            if not probe:
                seconds = round(time.perf_counter() - started, 6)
                line = {"request": request_id, "method": scope["method"], "path": scope["path"][:200], "code": code}
                LOG.info(Fields({**line, "seconds": seconds}))

    def _refusal(self, scope: Scope, headers: dict[bytes, str]) -> tuple[int, str, dict[str, str]] | None:
        if not self._keys.accept(key_of(headers.get(b"authorization"), headers.get(b"x-api-key"))):
            remedy = "send Authorization: Bearer KEY, or X-API-Key: KEY"
            return 401, f"no API key, or an unknown one; {remedy}", {"www-authenticate": "Bearer"}
        if scope["method"] == "POST" and headers.get(b"sec-fetch-site") == "cross-site":
            return 403, "a page of another site asked this of its visitor's browser; only the service's own may", {}
        if scope["path"] == METRICS:
            return None  # who watches wants to know why others are refused
        if self._service.ending:
            return 503, "the service is stopping; ask another one", {"retry-after": "1"}
        if self._service.inside >= self._service.limits.requests:
            return (
                429,
                f"{self._service.limits.requests} requests are being answered already; try again",
                {"retry-after": "1"},
            )
        return None


def _is_open(path: str) -> bool:
    return any(path == one or (len(one) > 1 and one.endswith("/") and path.startswith(one)) for one in OPEN)


async def _refuse(send: Any, code: int, message: str, headers: dict[str, str]) -> None:
    body = json.dumps({"error": message}).encode()
    raw = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    raw += [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": code, "headers": raw})
    await send({"type": "http.response.body", "body": body})
