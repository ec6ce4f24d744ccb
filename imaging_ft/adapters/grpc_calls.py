"""Every gRPC call: its key, room for it, its message, its answer or status, and a line in the log."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast
from uuid import uuid4

import grpc
from grpc import aio

from imaging_ft.adapters.auth import Keys, key_of
from imaging_ft.adapters.gate import LOG, SANE
from imaging_ft.adapters.grpc_messages import HEALTH, PROTOCOL, messages
from imaging_ft.adapters.grpc_methods import Call, Methods, RefusedError, status_of
from imaging_ft.adapters.logs import Fields
from imaging_ft.adapters.service import Service
from imaging_ft.errors import ImagingFtError, InputError

T = TypeVar("T")

STREAM = f"/{PROTOCOL}/ModelStreamInfer"
CHECK, WATCH = f"/{HEALTH}/Check", f"/{HEALTH}/Watch"
PROBES = (f"/{PROTOCOL}/ServerLive", f"/{PROTOCOL}/ServerReady", CHECK, WATCH)
"""They need no key, and aren't counted among requests."""

_EOF: Any = cast(Any, aio).EOF
_STOPPING = "the service is stopping; ask another one"
_Context = Any  # aio.ServicerContext; only the stubs make it generic
_Answer = Callable[[bytes, Call], Awaitable[bytes]]


class Calls(grpc.GenericRpcHandler):
    """The handler of a server's calls.

    A call is looked at before its message is read: methods of one message are served as if they took a stream.
    """

    def __init__(self, service: Service, keys: Keys, *, allow_load: bool) -> None:
        self.stopping = asyncio.Event()
        """Once set, streams end; what is being answered still is."""
        self.under_way = 0
        """Calls that haven't ended, probes and refused ones among them."""
        self._service = service
        self._keys = keys
        self._methods = Methods(service, allow_load=allow_load)
        self._made = messages()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return what answers a method; None for UNIMPLEMENTED."""
        path = handler_call_details.method
        if path == STREAM:
            return grpc.stream_stream_rpc_method_handler(self._stream)
        if path == WATCH:
            return grpc.stream_stream_rpc_method_handler(self._watch)
        if path == CHECK:
            return self._single(path, self._check)
        name = path.removeprefix(f"/{PROTOCOL}/")
        if name not in self._methods.by_name:
            return None
        return self._single(path, lambda data, call: self._methods.answer(name, data, call))

    def _single(self, path: str, answer: _Answer) -> Any:
        async def handle(_: object, context: _Context) -> bytes:
            async def work(call: Call) -> bytes:
                with self._room(counted=path not in PROBES):
                    return await answer(await self._read(context), call)

            return await self._gated(path, context, work)

        return grpc.stream_unary_rpc_method_handler(handle)

    async def _stream(self, _: object, context: _Context) -> None:
        """Answer requests on one call in their order; what is wrong with one is said in its answer."""

        async def work(call: Call) -> None:
            while (data := await self._next(context)) is not None:
                await context.write(await self._in_stream(data, call))

        await self._gated(STREAM, context, work)

    async def _in_stream(self, data: bytes, call: Call) -> bytes:
        response = self._made["ModelStreamInferResponse"]()
        code = grpc.StatusCode.OK
        try:
            with self._room(counted=True):  # not as long as the call, which a camera may keep open all day
                request = await self._methods.parsed("ModelInferRequest", data)
                response.infer_response.id = request.id
                response.infer_response.CopyFrom(await self._methods.infer(request, call))
                response.infer_response.parameters["triton_final_response"].bool_param = True
        except (ImagingFtError, RefusedError) as error:
            code = error.code if isinstance(error, RefusedError) else status_of(error)[0]
            response.error_message = _line(error)
        self._service.metrics.requests.labels("grpc", code.name).inc()
        return response.SerializeToString()

    async def _next(self, context: _Context) -> bytes | None:
        """Return the next message of a stream, or None at its end; raises RefusedError where the service stops."""
        reading = asyncio.create_task(context.read())
        stopping = asyncio.create_task(self.stopping.wait())
        await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not reading.done():
            reading.cancel()
            raise RefusedError(grpc.StatusCode.UNAVAILABLE, _STOPPING)
        data = reading.result()
        return None if data is _EOF else data

    async def _check(self, data: bytes, _: Call) -> bytes:
        return self._health(data)

    async def _watch(self, _: object, context: _Context) -> None:
        async def work(_: Call) -> None:
            data = await self._read(context)
            await context.write(self._health(data))
            await self.stopping.wait()
            await context.write(self._health(data))

        await self._gated(WATCH, context, work)

    def _health(self, data: bytes) -> bytes:
        name = self._methods.message("HealthCheckRequest", data).service
        if name not in {"", PROTOCOL, HEALTH, *self._service.models.names()}:
            raise RefusedError(grpc.StatusCode.NOT_FOUND, f"no service or model is named {name!r}")
        stopping = self.stopping.is_set() or self._service.ending
        return self._made["HealthCheckResponse"](status="NOT_SERVING" if stopping else "SERVING").SerializeToString()

    async def _read(self, context: _Context) -> bytes:
        seconds = self._service.limits.body_seconds
        try:
            async with asyncio.timeout(seconds):
                data = await context.read()
        except TimeoutError as error:
            late = f"the message didn't arrive within {seconds:g} s; send it again"
            raise RefusedError(grpc.StatusCode.DEADLINE_EXCEEDED, late) from error
        if data is _EOF:
            raise InputError("the call ended before its message was whole; send one")
        return data

    @contextmanager
    def _room(self, *, counted: bool) -> Iterator[None]:
        """Count what is being answered; raises RefusedError where that is too much."""
        most = self._service.limits.requests
        if counted and self._service.inside >= most:
            raise RefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"{most} requests are being answered already; try again"
            )
        self._service.inside += counted
        try:
            yield
        finally:
            self._service.inside -= counted

    async def _gated(self, path: str, context: _Context, work: Callable[[Call], Awaitable[T]]) -> T:
        """Refuse a call, or return what `work` gives for it; a failure ends the call with a status that says why."""
        started = time.perf_counter()
        metadata = {str(key): value for key, value in context.invocation_metadata() or ()}
        given = str(metadata.get("x-request-id", ""))
        request_id = given if SANE.fullmatch(given) else uuid4().hex
        trailing: tuple[tuple[str, str], ...] = (("x-request-id", request_id),)
        context.set_trailing_metadata(trailing)
        left = context.time_remaining()
        code, why = grpc.StatusCode.OK, ""
        self._service.metrics.in_flight.inc()
        self.under_way += 1
        try:
            if path not in PROBES:
                self._refuse(metadata)
            return await work(Call(request_id, None if left is None else time.monotonic() + left))
        except ImagingFtError as error:
            (code, more), why = status_of(error), _line(error)
            trailing += more
        except RefusedError as error:
            code, why = error.code, _line(error)
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told no more than this
            code, why = grpc.StatusCode.INTERNAL, "something went wrong here; the log has it under this request's id"
            LOG.error(Fields({"request": request_id, "error": type(error).__name__}), exc_info=error)
        finally:
            self.under_way -= 1
            self._service.metrics.in_flight.dec()
            if path != STREAM:  # which counts its messages
                self._service.metrics.requests.labels("grpc", code.name).inc()
            if path not in PROBES:
                line = {"request": request_id, "method": "gRPC", "path": path, "code": code.name}
                LOG.info(Fields({**line, "seconds": round(time.perf_counter() - started, 6)}))
        await context.abort(code, why, trailing)  # which raises
        raise AssertionError(why)

    def _refuse(self, metadata: dict[str, Any]) -> None:
        """Raise RefusedError where a call has no key that is known, or the service stops."""
        authorization, api_key = metadata.get("authorization"), metadata.get("x-api-key")
        if not self._keys.accept(key_of(authorization, api_key)):
            raise RefusedError(
                grpc.StatusCode.UNAUTHENTICATED,
                "no API key, or an unknown one; send authorization: Bearer KEY, or x-api-key: KEY, in the metadata",
            )
        if self.stopping.is_set() or self._service.ending:
            raise RefusedError(grpc.StatusCode.UNAVAILABLE, _STOPPING)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
